"""``hetsyn_client.LiveStreams`` against a server, over connections that are cut at any byte."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsyn_client import InputError, LiveStreams, ServiceProblem, ServiceUnreachable, StreamingClient
from hetsyn_client.columns import APPLIED, MOST_ROWS, Results
from service.app import create_app
from service.models.catalog import ModelCatalog
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, LABELS, load_fake
from tests.support.clients.http_calls import applied
from tests.support.data.signals import sound, spikes
from tests.support.product import make_settings
from tests.support.servers.relay import relayed
from tests.support.servers.socket_server import each_store, keeps, serving, serving_fakes

SESSIONS, CHUNKS = 3, 4
INPUTS = [np.split(sound(2400, seed), [300 + 100 * seed, 1101, 2000]) for seed in range(SESSIONS)]
# of the handshake, its answer, frames and results: all takes about so many
BYTES = 17_000


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder, "trace", rule="trace")
    with serving_fakes(folder, keeps(request)) as url:
        yield url


@pytest.fixture(scope="module")
def expected(url: str) -> list[list[list[float] | None]]:
    """The probabilities that ``/infer`` gives for each chunk of each session, and for its end."""
    answers = []
    for chunks in INPUTS:
        with StreamingClient(url) as client, client.session() as session:
            replies = [*(session.send(chunk, 8000) for chunk in chunks), session.end()]
        answers.append([np.array(reply["probabilities"], np.float32).tolist() for reply in replies])
    return answers


def streamed(streams: LiveStreams) -> dict[tuple[int, int], list[float]]:
    """Send all chunks, and return the probabilities that came, by session and number."""
    handles = streams.open([f"s-{secrets.token_hex(8)}-{index}" for index in range(SESSIONS)])
    results: list[Results] = []
    for number in range(CHUNKS):
        results += streams.send(handles, [chunks[number] for chunks in INPUTS])
    results += streams.end(handles) + streams.wait()
    rows: dict[tuple[int, int], list[float]] = {}
    for one in results:
        assert one.status.tolist() == [APPLIED] * len(one.status), one.more
        for row, (handle, seq) in enumerate(zip(one.handle.tolist(), one.seq.tolist(), strict=True)):
            assert (handles.index(handle), seq) not in rows
            rows[handles.index(handle), seq] = one.probabilities[row].tolist()
    return rows


def test_results_are_those_of_infer(url: str, expected: list[list[list[float]]]) -> None:
    with LiveStreams(url, sample_rate_hz=8000) as streams:
        rows = streamed(streams)
        assert streams.begin["labels"] == list(LABELS)
    assert rows == {(index, seq): row for index, answers in enumerate(expected) for seq, row in enumerate(answers)}


@each_store
@pytest.mark.parametrize("examples", [10, pytest.param(50, marks=pytest.mark.long)])
def test_connections_that_are_cut_lose_nothing_and_repeat_nothing(
    url: str, expected: list[list[list[float]]], examples: int
) -> None:
    @settings(max_examples=examples)
    @given(cuts=st.lists(st.integers(1, BYTES), min_size=1, max_size=4))
    def cut(cuts: list[int]) -> None:
        before = applied(url)
        with relayed(urlsplit(url).port or 0, cuts) as relay:
            streams = LiveStreams(f"http://127.0.0.1:{relay.port}", sample_rate_hz=8000, sleep=lambda _: None)
            with streams:
                rows = streamed(streams)
        # a result may be lost, no chunk is
        assert all(row == expected[index][seq] for (index, seq), row in rows.items())
        assert {(index, CHUNKS) for index in range(SESSIONS)} <= set(rows)
        assert applied(url) - before == SESSIONS * (CHUNKS + 1)

    cut()


def test_events_values_and_a_trace(url: str) -> None:
    with LiveStreams(url) as streams:
        handles = streams.open(["e1", "e2"])
        times, units = zip(*(spikes(30, seed) for seed in (1, 2)), strict=True)
        got = streams.send_events(handles, [30, 30], times, units) + streams.wait()
        assert [one.total_steps.tolist() for one in got] == [[30, 30]]
        streams.leave(handles)
        (again,) = streams.open(["e1"])
        got = streams.send_events([again], [3], [[]], [[]]) + streams.wait()
        assert [one.total_steps.tolist() for one in got] == [[33]]
    with LiveStreams(url, model="sensor", channels=CHANNELS) as streams:
        handles = streams.open(["v1"])
        got = streams.send_values(handles, [np.zeros((5, CHANNELS))]) + streams.wait()
        assert got[0].total_steps.tolist() == [5]
    with LiveStreams(url, model="trace") as streams:
        handles = streams.open(["t1"])
        got = streams.send_events(handles, [4], [[]], [[]]) + streams.wait()
        assert got[0].label.tolist() == [-1]
        assert len(got[0].more[0]["readout"]) == 4


def test_more_sessions_than_a_frame_has_are_left(url: str) -> None:
    with LiveStreams(url) as streams:
        handles = streams.open([f"many-{index}" for index in range(MOST_ROWS + 1)])
        streams.leave(handles)
        streams.open([f"many-{index}" for index in range(MOST_ROWS + 1)])


def test_what_is_wrong_gets_a_sentence(url: str) -> None:
    with LiveStreams(url, sample_rate_hz=8000) as streams:
        (handle,) = streams.open(["w1"])
        floats: Any = np.zeros(4)
        wrong: list[tuple[Any, str]] = [
            (lambda: streams.send([handle], [floats]), "floats"),
            (lambda: streams.send([handle, handle], [sound(10), sound(10)]), "one chunk of each session"),
            (lambda: streams.send([99], [sound(10)]), "handle 99 is not open"),
            (lambda: streams.send_values([handle], [[[1.0]]]), "these streams are of pcm_s16le"),
        ]
        for call, sentence in wrong:
            with pytest.raises(InputError, match=sentence):
                call()
        with pytest.raises(InputError, match="give a list of ids"):
            streams.open("good")
        with pytest.raises(ServiceProblem, match="is no id"):
            streams.open(["no id"])
        assert streams.open([]) == []
        with pytest.raises(ServiceProblem, match="is no id"):
            streams.open(["good", "no good"])
        assert len(streams.open(["good"])) == 1
    with LiveStreams(url, model="sensor", channels=CHANNELS) as streams:
        (handle,) = streams.open(["w2"])
        rows: Any
        for rows, sentence in (
            (np.zeros((CHANNELS, CHANNELS + 1)), "7 values, but the stream has channels=6"),
            ([[None] * CHANNELS], "type object: send numbers"),
        ):
            with pytest.raises(InputError, match=sentence):
                streams.send_values([handle], [rows])
    with pytest.raises(InputError, match="not both"):
        LiveStreams(url, sample_rate_hz=8000, channels=2)
    with pytest.raises(ServiceProblem, match="no model"), LiveStreams(url, model="none"):
        pass
    with pytest.raises(ServiceUnreachable), LiveStreams("http://127.0.0.1:9", repeats=1, sleep=lambda _: None):
        pass


def _send_and_wait(streams: LiveStreams, handles: list[int], chunks: int) -> None:
    for _ in range(chunks):
        streams.send(handles, [sound(800, 1)])
    streams.wait()


@pytest.mark.parametrize("chunks", [1, 3])  # those behind a refused chunk are refused as out of order
def test_a_server_that_never_has_room_is_given_up(tmp_path: Path, chunks: int) -> None:
    write_artifact(tmp_path)
    slept: list[float] = []
    app = create_app(make_settings(tmp_path, max_sessions=1, client_share=1.0), ModelCatalog(tmp_path, load_fake))
    with serving(app) as url, StreamingClient(url) as client, client.session() as first:
        for _ in range(2):  # a session of two chunks makes room for nobody
            first.send(sound(800, 1), 8000)
        with LiveStreams(url, sample_rate_hz=8000, repeats=3, patience_s=0.0, sleep=slept.append) as streams:
            handles = streams.open(["s"])
            with pytest.raises(ServiceProblem) as caught:
                _send_and_wait(streams, handles, chunks)
    assert (caught.value.status, len(slept)) == (503, 3)
