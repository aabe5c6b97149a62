"""Spikes and times of chunks over ``/infer`` and ``/stream``: for those that ask, and no byte for those that do not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hetsyn_client import LiveStream, StreamingClient
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, HIDDEN, TAIL
from tests.support.artifacts.gate import Gate
from tests.support.clients.json_input import audio, events
from tests.support.clients.live import EVENTS, NOTHING, opened, said
from tests.support.data.signals import sound, spikes, words
from tests.support.servers.socket_server import each_store, keeps, listening, serving_models

RATE_HZ = 16_000
SOUND = sound(9_000)
PARTS = np.array_split(SOUND, 9)
Seen = set[tuple[str, int, int]]


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_artifact(folder, change={"endpointing": {"threshold": 10.0, "silence_s": 0.15, "preroll_s": 0.1}})
    write_artifact(folder, "sensor", takes="rows")
    write_artifact(folder, "leaky", takes="values")
    with serving_models(folder, keeps(request), max_chunk_steps=400_000) as url:
        yield url


def posted(url: str, status: int = 200, **fields: Any) -> Any:
    response = httpx.post(f"{url}/infer", json=fields)
    assert response.status_code == status, response.text
    return response.json()


def seen_in(replies: Iterable[Mapping[str, Any]]) -> Seen:
    """Layer, step of the session and unit of each spike. No reply has a spike of another one."""
    seen: Seen = set()
    for reply in replies:
        shown = reply["spikes"]
        assert shown["first_step"] + shown["steps"] == reply.get("total_steps", shown["first_step"] + shown["steps"])
        for layer in shown["layers"]:
            for t, unit in zip(layer["times"], layer["units"], strict=True):
                spike = (layer["name"], shown["first_step"] + t, unit)
                assert spike not in seen
                assert 0 <= t < shown["steps"]
                assert 0 <= unit < layer["size"]
                seen.add(spike)
    return seen


def whole(url: str, **fields: Any) -> Any:
    return posted(url, input=audio(SOUND, RATE_HZ), end=True, spikes=True, **fields)


def test_infer_shows_the_input_and_the_hidden_spikes(url: str) -> None:
    reply = posted(url, input=events(10), model="digits", end=True, spikes=True)
    shown = reply["spikes"]
    assert (shown["first_step"], shown["steps"]) == (0, 10 + TAIL)
    assert [(layer["name"], layer["size"]) for layer in shown["layers"]] == [("input", CHANNELS), ("hidden1", HIDDEN)]
    times, units = spikes(10)
    assert (shown["layers"][0]["times"], shown["layers"][0]["units"]) == (times.tolist(), units.tolist())
    assert shown["layers"][1]["times"]


def test_the_spikes_are_the_same_on_all_ways(url: str) -> None:
    expected = seen_in([whole(url)])
    assert {name for name, _, _ in expected} == {"input", "hidden1"}
    replies = [posted(url, session="w", seq=n, input=audio(part, RATE_HZ), spikes=True) for n, part in enumerate(PARTS)]
    assert seen_in([*replies, posted(url, session="w", end=True, spikes=True)]) == expected
    with StreamingClient(url) as client:
        token, carried = None, []
        for part in PARTS:
            carried.append(client.infer_chunk(part, RATE_HZ, carry=True, token=token, spikes=True))
            token = carried[-1]["token"]
        carried.append(client.infer_chunk(SOUND[:0], RATE_HZ, token=token, end=True, spikes=True))
    assert seen_in(carried) == expected
    with LiveStream(url, sample_rate_hz=RATE_HZ, endpointing=False, spikes=True) as stream:
        frames = [frame for part in PARTS for frame in stream.send(part)] + stream.wait()
        end = stream.end()
    assert seen_in([*frames, end]) == expected
    assert (end["spikes"]["first_step"], end["spikes"]["steps"] > TAIL) == (frames[-1]["total_steps"], True)


def test_only_spikes_and_times_are_more_than_without(url: str) -> None:
    plain = [httpx.post(f"{url}/infer", json={"session": "p", "seq": n, "input": events(9, n)}) for n in range(4)]
    asking = [posted(url, session="q", seq=n, input=events(9, n), spikes=n % 2 == 0, timing=n > 1) for n in range(4)]
    for n, (answer, reply) in enumerate(zip(plain, asking, strict=True)):
        more = ["spikes"] * (n % 2 == 0) + ["timing"] * (n > 1)
        assert list(reply) == [*answer.json(), *more]
        assert reply | answer.json() == answer.json() | {name: reply[name] for name in more} | {"session": "p"}
    off = httpx.post(
        f"{url}/infer", json={"session": "r", "seq": 0, "input": events(9, 0), "spikes": False, "timing": None}
    )
    assert off.content == plain[0].content.replace(b'"p"', b'"r"')


@each_store
def test_a_repeated_chunk_gets_the_kept_reply_and_no_spikes(url: str) -> None:
    fields: dict[str, Any] = {"session": "again", "seq": 0, "input": events(9)}
    first = posted(url, **fields, spikes=True, timing=True)
    again = posted(url, **fields, spikes=True, timing=True)
    assert (again["spikes"], again["timing"]) == (None, None)
    assert first | {"spikes": None, "timing": None} == again
    assert "spikes" not in posted(url, **fields)
    state = httpx.get(f"{url}/sessions/again/state").content
    assert b'"spikes"' not in state
    assert b'"timing"' not in state


def test_a_repeated_token_gets_no_spikes(url: str) -> None:
    first = posted(url, carry=True, seq=0, input=events(9), spikes=True)
    assert first["spikes"]["steps"] == 9
    again = posted(url, token=first["token"], seq=0, input=events(9), spikes=True, timing=True)
    assert (again["spikes"], again["timing"]) == (None, None)


@pytest.mark.parametrize("kind", ["infer", "stream"])
def test_the_parts_of_the_time_are_within_the_time_that_passed(url: str, kind: str) -> None:
    begun_s = time.perf_counter()
    if kind == "infer":
        timing = posted(url, input=events(200), end=True, timing=True)["timing"]
    else:
        with LiveStream(url, model="digits", timing=True, endpointing=False) as stream:
            times, units = spikes(200)
            stream.send_events(200, times, units)
            (frame,) = stream.wait()
            timing = frame["timing"]
            assert "spikes" not in frame
            stream.end()
    passed_ms = 1000 * (time.perf_counter() - begun_s)
    assert list(timing) == ["queue_ms", "engine_ms", "store_ms"]
    assert all(part >= 0 for part in timing.values())
    assert 0 < timing["engine_ms"] < sum(timing.values()) < passed_ms


def test_utterances_show_what_the_network_heard(url: str) -> None:
    samples = (1.9 * words(3, 8000)).astype(np.int16)  # each loud enough for the encoder to spike
    with LiveStream(url, sample_rate_hz=8000, endpointing=True, spikes=True) as stream:
        frames = [frame for part in np.array_split(samples, 31) for frame in stream.send(part)] + stream.wait()
        end = stream.end()
    results = [frame for frame in frames if frame["type"] == "Result"]
    ends = [frame for frame in [*frames, end] if frame["type"] == "UtteranceEnd"]
    assert all("spikes" not in frame for frame in ends[:-1])
    seen = seen_in([*results, end])
    spoken = [frame for frame in ends if frame["label"] is not None]
    assert len(spoken) == 3
    within = {step for _, step, _ in seen}
    assert all(any(frame["start"] <= step / 100 < frame["end"] for frame in spoken) for step in within)
    assert all(any(frame["start"] <= step / 100 < frame["end"] for step in within) for frame in spoken)
    starts = [result for result in results if result["spikes"]["first_step"] < round(100 * result["start"])]
    assert len(starts) == 3  # an utterance begins before the chunk in which it is noticed
    reply = posted(url, input=audio(samples, 8000), end=True, endpointing="on", spikes=True)
    assert seen_in([reply]) == seen


def test_values_are_no_spikes_and_those_of_an_encoder_are(url: str) -> None:
    rows = [[0.5, -1.0, 2.0], [0.25, 1.0, 2.0]]
    shown = posted(url, model="sensor", input={"kind": "values", "values": rows}, end=True, spikes=True)["spikes"]
    assert [layer["name"] for layer in shown["layers"]] == ["input", "hidden1"]
    assert shown["layers"][0]["times"]
    rows = [[0.5] * CHANNELS]
    shown = posted(url, model="leaky", input={"kind": "values", "values": rows}, end=True, spikes=True)["spikes"]
    assert [layer["name"] for layer in shown["layers"]] == ["hidden1"]


def test_a_chunk_that_is_too_long_for_spikes_is_refused_and_may_be_sent_without(url: str) -> None:
    most = 2**17 // (CHANNELS + HIDDEN)
    chunk = {"kind": "events", "steps": most + 1, "times": [], "units": []}
    problem = posted(url, 413, session="long", seq=0, input=chunk, spikes=True, model="digits")
    assert problem["type"].endswith(":too-large")
    assert f"at most {most} of model 'digits' are taken with spikes=true: cut it into several" in problem["detail"]
    assert httpx.get(f"{url}/sessions/long").status_code == 404


async def test_one_stream_asks_and_others_do_not(models: Path, gate: Gate) -> None:
    """They go different ways, and get the same answers."""
    async with listening(models, gate, inline_s=3600.0) as server:
        queries = [f"{EVENTS}&session=s{n}" + "&spikes=true&timing=true" * (n == 1) for n in range(4)]
        sockets = [(await opened(server, query))[0] for query in queries]
        got: list[list[dict[str, Any]]] = [[] for _ in sockets]
        for _ in range(5):
            await asyncio.gather(*(socket.send(NOTHING) for socket in sockets))
            for socket, frames in zip(sockets, got, strict=True):
                frames.append(await socket.frame())
        for socket, frames in zip(sockets, got, strict=True):
            await socket.send(said("CloseStream"))
            frames += await socket.frames(2)
            assert await socket.closed() == 1000
    for n, frames in enumerate(got):
        more = [{name: frame.pop(name) for name in ("spikes", "timing") if name in frame} for frame in frames]
        assert [set(members) for members in more] == [{"spikes", "timing"} if n == 1 else set()] * 6 + [set()]
        assert frames == got[0]
