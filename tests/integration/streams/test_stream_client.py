"""``LiveStream`` and ``AsyncLiveStream`` against a server, over connections that are cut at any byte."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from hetsyn_client import (
    AsyncLiveStream,
    InputError,
    LiveStream,
    LiveStreams,
    Reply,
    ServiceProblem,
    ServiceUnreachable,
    SessionLost,
    StreamingClient,
)
from hetsyn_client.protocol.reconnecting import Frame
from tests.support.artifacts.fake_graph import CHANNELS
from tests.support.clients.http_calls import applied
from tests.support.data.signals import sound, spikes
from tests.support.servers.relay import relayed
from tests.support.servers.socket_server import each_store, keeps, serving_fakes

CHUNKS = np.split(sound(4000), [300, 1100, 1101, 2000, 2600, 3900])
# of the handshake, its answer, chunks and results: a whole session takes about so many
SESSION_BYTES = 13_000


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_fakes(tmp_path_factory.mktemp("models"), keeps(request)) as url:
        yield url


@pytest.fixture(scope="module")
def expected(url: str) -> list[Reply]:
    """The replies of ``/infer`` to the chunks, and to the end."""
    with StreamingClient(url) as client, client.session() as session:
        return [*(session.send(chunk, 8000) for chunk in CHUNKS), session.end()]


def blocking(url: str) -> tuple[list[Frame], Frame]:
    with LiveStream(url, sample_rate_hz=8000, sleep=lambda _: None) as stream:
        results = [result for chunk in CHUNKS for result in stream.send(chunk)] + stream.wait()
        return results, stream.end()


def with_asyncio(url: str) -> tuple[list[Frame], Frame]:
    async def no_pause(_: float) -> None:
        await asyncio.sleep(0)

    async def run() -> tuple[list[Frame], Frame]:
        async with AsyncLiveStream(url, sample_rate_hz=8000, sleep=no_pause) as stream:
            results = [result for chunk in CHUNKS for result in await stream.send(chunk)] + await stream.wait()
            return results, await stream.end()

    return asyncio.run(run())


Way = Callable[[str], tuple[list[Frame], Frame]]
each_way = pytest.mark.parametrize("way", [blocking, with_asyncio], ids=["blocking", "asyncio"])


@each_way
def test_results_are_those_of_infer(url: str, expected: list[Reply], way: Way) -> None:
    results, final = way(url)
    assert [result["probabilities"] for result in results] == [reply["probabilities"] for reply in expected[:-1]]
    assert final["probabilities"] == expected[-1]["probabilities"]
    assert final["end"] == pytest.approx(expected[-1]["total_steps"] / 100)


@each_way
@each_store
@pytest.mark.parametrize("examples", [10, pytest.param(60, marks=pytest.mark.long)])
def test_connections_that_are_cut_lose_nothing_and_repeat_nothing(
    url: str, expected: list[Reply], way: Way, examples: int
) -> None:
    @settings(max_examples=examples)
    @given(cuts=st.lists(st.integers(1, SESSION_BYTES), min_size=1, max_size=4))
    def cut(cuts: list[int]) -> None:
        before = applied(url)
        with relayed(urlsplit(url).port or 0, cuts) as relay:
            results, final = way(f"http://127.0.0.1:{relay.port}")
        seqs = [result["seq"] for result in results]
        assert sorted(set(seqs)) == seqs  # results may be lost with a connection, no chunk is
        replies = {reply["seq"]: reply for reply in expected}
        assert all(result["probabilities"] == replies[result["seq"]]["probabilities"] for result in results)
        assert final["probabilities"] == expected[-1]["probabilities"]
        assert applied(url) - before == len(expected)

    cut()


def test_calls_of_several_tasks_take_turns(url: str, expected: list[Reply]) -> None:
    async def run() -> Frame:
        async with AsyncLiveStream(url, sample_rate_hz=8000) as stream:
            listening = asyncio.ensure_future(stream.receive(0.01))
            await asyncio.gather(*(stream.send(chunk) for chunk in CHUNKS), listening)
            return await stream.end()

    assert asyncio.run(run())["probabilities"] == expected[-1]["probabilities"]


def test_a_chunk_that_was_cancelled_is_sent_again_unless_it_is_on_its_way(url: str, expected: list[Reply]) -> None:
    async def run() -> Frame:
        async with AsyncLiveStream(url, sample_rate_hz=8000) as stream:
            for turn, chunk in enumerate(CHUNKS):
                sending = asyncio.ensure_future(stream.send(chunk))
                for _ in range(2 * turn):  # ends it at several points
                    await asyncio.sleep(0)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                if stream.seq == turn:
                    await stream.send(chunk)
            return await stream.end()

    assert asyncio.run(run())["probabilities"] == expected[-1]["probabilities"]


def test_a_session_that_the_server_has_lost_is_a_problem(url: str) -> None:
    with StreamingClient(url) as client, LiveStream(url, sample_rate_hz=8000, sleep=lambda _: None) as stream:
        stream.send(CHUNKS[0])
        stream.wait()
        client.drop(stream.id)
        stream.send(CHUNKS[1])
        with pytest.raises(ServiceProblem, match="404"):
            stream.wait()


def test_a_session_that_was_lost_while_the_connection_was_away(url: str) -> None:
    """The client asks for the session that it knows, and does not begin another under its id."""
    with StreamingClient(url) as client, LiveStream(url, sample_rate_hz=8000, sleep=lambda _: None) as stream:
        stream.send(CHUNKS[0])
        stream.wait()
        stream.close()
        client.drop(stream.id)
        with pytest.raises(SessionLost, match="has expired, was deleted"):
            stream.send(CHUNKS[1])


def test_one_of_many_sessions_that_was_lost_meanwhile(url: str) -> None:
    with StreamingClient(url) as client, LiveStreams(url, sample_rate_hz=8000, sleep=lambda _: None) as streams:
        known, new = streams.open(["lost-meanwhile", "not-begun"])
        streams.send([known], [CHUNKS[0]])
        streams.wait()
        streams.close()
        client.drop("lost-meanwhile")
        with pytest.raises(SessionLost, match="session 'lost-meanwhile'"):
            streams.send([new], [CHUNKS[1]])


@contextmanager
def answering(handler: Callable[[ServerConnection], None], before: Any = None) -> Iterator[str]:
    """The URL of a server of a few lines.

    Args:
        handler: what it does with a connection.
        before: may answer its handshake in another way, as ``process_request`` of websockets.
    """
    with serve(handler, "127.0.0.1", 0, process_request=before) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_is_none_of_ours_is_told() -> None:
    def greet(connection: ServerConnection) -> None:
        connection.send("<html>")

    with (
        answering(greet) as address,
        pytest.raises(ServiceUnreachable, match="not as 'hetsyn serve' does"),
        LiveStream(address),
    ):
        pass


def test_events_and_values(url: str) -> None:
    with LiveStream(url, interim=False) as stream:
        assert stream.send_events(25, *spikes(25)) == []
        assert stream.wait() == []
        assert len(stream.end()["probabilities"]) == 3
        with pytest.raises(InputError, match="this stream is one of events"):
            stream.send(np.zeros(3, np.int16))
    with LiveStream(url, channels=CHANNELS, model="sensor") as stream:
        with pytest.raises(InputError, match="7 values, but the stream has channels=6"):
            stream.send_values(np.zeros((CHANNELS, CHANNELS + 1)))  # as many numbers as seven rows
        stream.send_values(np.zeros((3, CHANNELS)))
        assert stream.end()["label"] is not None


def test_a_session_is_taken_up_again(url: str) -> None:
    with LiveStream(url, sample_rate_hz=8000) as stream:
        stream.send(CHUNKS[0])
        stream.wait()
    with LiveStream(url, sample_rate_hz=8000, session=stream.id) as again:
        assert (again.begin["next_seq"], again.begin["resumed"]) == (1, True)
        again.send(CHUNKS[1])
        again.end()


def test_what_the_server_refuses_is_raised_and_not_repeated(url: str) -> None:
    with pytest.raises(ServiceProblem, match="no model 'none'"), LiveStream(url, model="none"):
        pass
    with LiveStream(url, sample_rate_hz=8000) as stream:
        stream.send(CHUNKS[0])
        stream.wait()
        with LiveStream(url, sample_rate_hz=8000, session=stream.id) as other:
            with pytest.raises(ServiceProblem, match="another connection streams this session"):
                stream.end()
            other.end()
    with LiveStream(url) as stream, pytest.raises(InputError, match="has no chunk yet"):
        stream.end()
    with closing(LiveStream(url)) as stream, pytest.raises(InputError, match="has no chunk yet"):
        stream.end()
    with pytest.raises(InputError, match="not both"):
        LiveStream(url, sample_rate_hz=8000, channels=3)
    with LiveStream(url, sample_rate_hz=8000) as stream, pytest.raises(InputError, match="the samples are floats"):
        stream.send(np.zeros(3))


def test_a_server_that_is_not_there() -> None:
    pauses: list[float] = []
    stream = LiveStream("http://127.0.0.1:9", repeats=2, sleep=pauses.append)
    with pytest.raises(ServiceUnreachable, match="3 times in a row"), stream:
        pass
    assert pauses == [0.1, 0.2]


BEGIN = json.dumps({"type": "Begin", "session": "s", "next_seq": 0, "max_inflight": 4, "step_ms": 4.0})


def send_silence(stream: LiveStream) -> None:
    stream.send_events(5, np.zeros(0, np.int64), np.zeros(0, np.int64))
    stream.wait()


def test_a_stream_that_was_answered_waits_longer_for_its_server() -> None:
    pauses: list[float] = []
    connections: list[ServerConnection] = []

    def answered(connection: ServerConnection) -> None:
        connection.send(BEGIN)
        connection.recv()
        connection.send(json.dumps({"type": "Ack", "seq": 0}))

    def once(connection: ServerConnection, _: Request) -> Response | None:
        connections.append(connection)
        return connection.respond(503, "no primary") if len(connections) > 1 else None

    with (
        answering(answered, once) as address,
        LiveStream(address, repeats=1, patience_s=20, sleep=pauses.append) as stream,
    ):
        send_silence(stream)
        with pytest.raises(ServiceProblem, match="no primary"):
            send_silence(stream)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, *[2] * 9]  # less than 20 s without the last


def test_a_stream_is_opened_again_when_the_server_has_asked_for_it() -> None:
    error = {"type": "Error", "problem": "overloaded", "status": 503, "detail": "full", "retryable": True}
    pauses: list[float] = []

    def overloaded(connection: ServerConnection) -> None:
        connection.send(BEGIN)
        connection.recv()
        connection.send(json.dumps(error | {"retry_after_s": 7.5, "expected_seq": None}))
        connection.close(1013)

    def refused(connection: ServerConnection, _: Request) -> Response | None:
        if len(pauses) != 1:
            return None
        response = connection.respond(503, "full")
        response.headers["Retry-After"] = "9"
        return response

    with answering(overloaded, refused) as address:
        stream = LiveStream(address, repeats=2, sleep=pauses.append)
        stream.send_events(5, np.zeros(0, np.int64), np.zeros(0, np.int64))
        with pytest.raises(ServiceProblem, match="full") as caught, stream:  # what the server said last
            stream.wait()
    assert (caught.value.status, caught.value.problem) == (503, "overloaded")
    assert pauses == [7.5, 9.0]
