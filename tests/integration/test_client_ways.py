"""Sessions of both clients against a server, over connections that are cut at any byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsyn_client import (
    AsyncSession,
    AsyncStreamingClient,
    InputError,
    Reply,
    ServiceProblem,
    StreamingClient,
    array_chunks,
)
from tests.support.artifacts.fake_graph import CHANNELS, TAIL
from tests.support.clients.http_calls import applied
from tests.support.data.signals import sound, spikes
from tests.support.servers.relay import relayed
from tests.support.servers.socket_server import each_store, keeps, serving_fakes

RATE_HZ = 8000
CHUNKS = np.split(sound(4000), [300, 1100, 1101, 2000, 2600, 3900])
SESSION_BYTES = 13_000  # of a whole session, about


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_fakes(tmp_path_factory.mktemp("models"), keeps(request)) as url:
        yield url


Way = Callable[[str], list[Reply]]


def blocking(url: str) -> list[Reply]:
    with StreamingClient(url, sleep=lambda _: None) as client, client.session() as session:
        replies = [session.send(chunk, RATE_HZ) for chunk in CHUNKS]
        replies.append(session.end())
    assert session.seq == len(CHUNKS) + 1
    return replies


def with_asyncio(url: str) -> list[Reply]:
    async def no_pause(_: float) -> None:
        await asyncio.sleep(0)

    async def stream() -> list[Reply]:
        async with (
            AsyncStreamingClient(url, sleep=no_pause) as client,
            client.session() as session,
        ):
            replies = [await session.send(chunk, RATE_HZ) for chunk in CHUNKS]
            replies.append(await session.end())
        assert session.seq == len(CHUNKS) + 1
        return replies

    return asyncio.run(stream())


each_way = pytest.mark.parametrize("way", [blocking, with_asyncio], ids=["blocking", "asyncio"])


def contents(replies: list[Reply]) -> list[dict[str, Any]]:
    """Replies without the session's id."""
    return [{**reply, "session": ""} for reply in replies]


@pytest.fixture(scope="module")
def expected(url: str) -> list[dict[str, Any]]:
    return contents(blocking(url))


@each_way
def test_every_way_has_the_same_replies(url: str, expected: list[dict[str, Any]], way: Way) -> None:
    assert contents(way(url)) == expected


@each_store
@each_way
@pytest.mark.parametrize("examples", [5, pytest.param(40, marks=pytest.mark.long)])
def test_connections_that_are_cut_lose_nothing_and_repeat_nothing(
    url: str, expected: list[dict[str, Any]], way: Way, examples: int
) -> None:
    @settings(max_examples=examples)
    @given(cuts=st.lists(st.integers(1, SESSION_BYTES), min_size=1, max_size=3))
    def stream(cuts: list[int]) -> None:
        before = applied(url)
        with relayed(urlsplit(url).port or 0, cuts) as relay:
            replies = way(f"http://127.0.0.1:{relay.port}")
        assert contents(replies) == expected
        assert applied(url) - before == len(expected)

    stream()


def within(url: str, use: Callable[[AsyncSession], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with AsyncStreamingClient(url) as client, client.session(**options) as session:
            await use(session)

    asyncio.run(run())


def test_events_and_values(url: str) -> None:
    rows = np.arange(3 * CHANNELS).reshape(3, CHANNELS) / 10
    with StreamingClient(url) as client:
        with client.session() as session:
            session.send_events(25, *spikes(25))
            ended = session.end()
        with client.session(model="sensor") as session:
            session.send_values(rows)
            valued = session.send_values(rows.tolist(), end=True)
    assert (ended["total_steps"], valued["seq"], valued["end"]) == (25 + TAIL, 1, True)

    async def send_events(session: AsyncSession) -> None:
        await session.send_events(25, *spikes(25))
        assert (await session.end())["probabilities"] == ended["probabilities"]

    async def send_values(session: AsyncSession) -> None:
        await session.send_values(rows)
        assert (await session.send_values(rows, end=True))["probabilities"] == valued["probabilities"]

    within(url, send_events)
    within(url, send_values, model="sensor")


def test_floats_of_several_channels_and_a_rate_that_changes(url: str) -> None:
    stereo = np.stack([sound(900), sound(900)], axis=1).astype(np.float32) / 32768
    with StreamingClient(url) as client:
        assert len(list(client.session().stream(array_chunks(stereo, RATE_HZ, 0.05)))) == 3
        with client.session() as session:
            session.send(CHUNKS[0], RATE_HZ)
            with pytest.raises(ServiceProblem, match="rate"):
                session.send(CHUNKS[1], 16_000)
            assert session.seq == 1
            session.send(CHUNKS[1], RATE_HZ)


def test_spikes_and_times_for_those_that_ask(url: str) -> None:
    chunks = list(array_chunks(sound(4000), RATE_HZ))
    with StreamingClient(url) as client:
        plain = list(client.session().stream(chunks))
        asked = list(client.session(spikes=True, timing=True).stream(chunks))
    for reply, told in zip(plain, asked, strict=True):
        assert told.keys() - reply.keys() == {"spikes", "timing"}
        assert told["probabilities"] == reply["probabilities"]
        assert told["spikes"] is not None
        assert told["timing"] is not None
        assert [layer["name"] for layer in told["spikes"]["layers"]] == ["input", "hidden1"]
        assert told["timing"]["engine_ms"] > 0


def test_a_session_goes_on_in_another_program(url: str, expected: list[dict[str, Any]]) -> None:
    name = "resumed"
    with StreamingClient(url) as client:
        with client.session(name) as session:
            assert session.seq is None
            replies = [session.send(chunk, RATE_HZ) for chunk in CHUNKS[:3]]

        async def go_on(session: AsyncSession) -> None:
            replies.extend([await session.send(chunk, RATE_HZ) for chunk in CHUNKS[3:]])
            replies.append(await session.end())

        within(url, go_on, session=name)
    assert contents(replies) == expected


def test_a_session_is_ended_by_another_program(url: str, expected: list[dict[str, Any]]) -> None:
    with StreamingClient(url) as client:
        with client.session("to-end") as session:
            replies = [session.send(chunk, RATE_HZ) for chunk in CHUNKS]
        with client.session("to-end") as session:
            replies.append(session.end())
        with client.session("never-begun") as session, pytest.raises(ServiceProblem, match="the session is empty"):
            session.end()
    assert contents(replies) == expected


def test_a_session_that_is_left_is_gone_from_the_server_unless_it_was_named(url: str) -> None:
    with StreamingClient(url) as client:
        with client.session() as unnamed, client.session("n") as named:
            unnamed.send(CHUNKS[0], RATE_HZ)
            named.send(CHUNKS[0], RATE_HZ)
        assert httpx.get(f"{url}/sessions/{unnamed.id}").status_code == 404
        client.drop(named.id)

    left = []

    async def leave(session: AsyncSession) -> None:
        await session.send(CHUNKS[0], RATE_HZ)
        left.append(session.id)

    within(url, leave)
    assert httpx.get(f"{url}/sessions/{left[0]}").status_code == 404


def test_one_chunk_at_a_time(url: str) -> None:
    async def twice(session: AsyncSession) -> None:
        first = asyncio.ensure_future(session.send(CHUNKS[0], RATE_HZ))
        await asyncio.sleep(0)
        with pytest.raises(InputError, match="a chunk of this session is under way: wait for its reply"):
            await session.send(CHUNKS[1], RATE_HZ)
        assert (await first)["seq"] == 0
        assert (await session.send(CHUNKS[1], RATE_HZ))["seq"] == 1

    within(url, twice)


def test_a_chunk_that_was_cancelled_is_sent_again(url: str, expected: list[dict[str, Any]]) -> None:
    async def cancel(session: AsyncSession) -> None:
        replies = []
        for turn, chunk in enumerate(CHUNKS):
            sending = asyncio.ensure_future(session.send(chunk, RATE_HZ))
            for _ in range(3 * turn):  # ends of the request at several points
                await asyncio.sleep(0)
            if not sending.done():
                sending.cancel()
            try:
                replies.append(await sending)
            except asyncio.CancelledError:
                assert session.seq == turn
                replies.append(await session.send(chunk, RATE_HZ))
        replies.append(await session.end())
        assert contents(replies) == expected

    within(url, cancel)


def test_what_cannot_go_together_is_refused_at_once(url: str) -> None:
    with StreamingClient(url) as client:
        with pytest.raises(InputError, match="a carried session is new: leave out session"):
            client.session("named", carry=True)
        with pytest.raises(TypeError, match="no option 'modle': choose from"):
            client.session(modle="digits")  # type: ignore[call-arg]
        with client.session() as session:
            assert list(session.stream([])) == []


def test_a_client_of_asyncio_has_the_calls_of_the_other(url: str, expected: list[dict[str, Any]]) -> None:
    async def call() -> None:
        async with AsyncStreamingClient(url) as client:
            assert (await client.describe())["name"] == "digits"
            reply = await client.infer_chunk(np.concatenate(CHUNKS), RATE_HZ, end=True)
            assert reply["probabilities"] == expected[-1]["probabilities"]
            await client.infer_events(25, *spikes(25), session="dropped", seq=0)
            await client.drop("dropped")
            with pytest.raises(ServiceProblem, match="404"):
                await client.drop("dropped")
            assert (await client.infer_values([[0.0] * CHANNELS], model="sensor", end=True))["end"]

    asyncio.run(call())
