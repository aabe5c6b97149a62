"""Live sound through a server that is killed and started again: no chunk is lost, none counts twice, and every reply is
that of a server that was left alone."""

from __future__ import annotations

import asyncio
import threading
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hetsyn_client import AsyncLiveStream, AsyncStreamingClient, Chunk, LiveStream, Reply, StreamingClient, array_chunks
from hetsyn_client.protocol.reconnecting import Frame
from tests.support.paths import RECORDINGS
from tests.support.servers.server_process import RestartableServer

pytestmark = pytest.mark.process

RATE_HZ, CHUNK_S = 8000, 0.1
Replied = Callable[[Reply], None]
Recorded = Iterator[tuple[float, Chunk]]


def words(sound_s: int) -> np.ndarray:
    """Words with pauses, int16."""
    sound = []
    for path in sorted(RECORDINGS.glob("*.wav")):
        with wave.open(str(path)) as file:
            assert file.getframerate() == RATE_HZ
            sound += [np.frombuffer(file.readframes(file.getnframes()), "<i2"), np.zeros(RATE_HZ * 2 // 3, np.int16)]
    return np.resize(np.concatenate(sound), RATE_HZ * sound_s)


def recorded(sound: np.ndarray, speed: float) -> Recorded:
    """Yield chunks with the seconds until each is recorded. The end of a microphone is no part of a chunk."""
    began_s = time.monotonic()
    for chunk in array_chunks(sound, RATE_HZ, CHUNK_S):
        yield max(0.0, began_s + chunk.until_s / speed - time.monotonic()), chunk._replace(is_last=False)


def blocking(url: str, sound: Recorded, replied: Replied) -> None:
    def microphone() -> Iterator[Chunk]:
        for wait_s, chunk in sound:
            time.sleep(wait_s)
            yield chunk

    with StreamingClient(url) as client, client.session(endpointing=True) as session:
        for reply in session.stream(microphone()):
            replied(reply)


def with_asyncio(url: str, sound: Recorded, replied: Replied) -> None:
    async def microphone() -> AsyncIterator[Chunk]:
        for wait_s, chunk in sound:
            await asyncio.sleep(wait_s)
            yield chunk

    async def stream() -> None:
        async with AsyncStreamingClient(url) as client, client.session(endpointing=True) as session:
            async for reply in session.stream(microphone()):
                replied(reply)

    asyncio.run(stream())


WAYS: dict[str, Callable[[str, Recorded, Replied], None]] = {"blocking": blocking, "asyncio": with_asyncio}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestartableServer]:
    started = RestartableServer("--store", f"file://{tmp_path}/sessions.db", "--log-level", "warning")
    try:
        started.ready()
        yield started
    finally:
        started.kill()


@pytest.mark.parametrize(
    ("sound_s", "kills", "speed"),
    [(20, 1, 15.0), pytest.param(60, 2, 1.0, marks=pytest.mark.long)],
    ids=["fast", "a minute in real time"],
)
def test_sound_through_a_server_that_is_killed(
    server: RestartableServer, sound_s: int, kills: int, speed: float
) -> None:
    chunks = round(sound_s / CHUNK_S)
    killed_at = [chunks * kill // (kills + 1) for kill in range(1, kills + 1)]
    sound = words(sound_s)
    with StreamingClient(server.url) as client:
        undisturbed = list(client.session(endpointing=True).stream(array_chunks(sound, RATE_HZ, CHUNK_S)))
    assert len(undisturbed) == chunks  # the last one ends the session; a microphone's end is a chunk of its own
    replies: dict[str, list[Reply]] = {name: [] for name in WAYS}
    due = [threading.Event() for _ in killed_at]

    def run(name: str) -> None:
        def replied(reply: Reply) -> None:
            replies[name].append(reply)
            for event, at in zip(due, killed_at, strict=True):
                if all(len(got) >= at for got in replies.values()):
                    event.set()

        try:
            WAYS[name](server.url, recorded(sound, speed), replied)
        finally:
            for event in due:
                event.set()

    with ThreadPoolExecutor(len(WAYS)) as threads:
        running = {name: threads.submit(run, name) for name in WAYS}
        for event in due:
            assert event.wait(timeout=120), {name: len(got) for name, got in replies.items()}
            server.kill()  # whatever is under way
            for future in running.values():
                assert not future.done(), future.result()
            server.restart()
        for future in running.values():
            future.result()
    *before_the_end, last = undisturbed
    for name, got in replies.items():
        assert [reply["seq"] for reply in got] == list(range(chunks + 1)), name
        for reply, expected in zip(got, before_the_end, strict=False):
            assert reply | {"session": ""} == expected | {"session": ""}, name
        final = got[-1]
        assert (final["end"], final["total_steps"], final["label"]) == (True, last["total_steps"], last["label"]), name
        heard = [event for reply in got for event in reply["events"]]
        assert heard == [event for reply in undisturbed for event in reply["events"]], name
        assert len([event for event in heard if event["type"] == "UtteranceEnd"]) > sound_s // 3, name


def live(server: RestartableServer, pieces: list[np.ndarray]) -> tuple[list[Frame], Frame]:
    frames: list[Frame] = []
    with LiveStream(server.url, sample_rate_hz=RATE_HZ, endpointing=False) as stream:
        for number, piece in enumerate(pieces):
            if number == len(pieces) // 2:
                server.kill()
                server.restart()
            frames += stream.send(piece)
        return frames + stream.wait(), stream.end()


def live_with_asyncio(server: RestartableServer, pieces: list[np.ndarray]) -> tuple[list[Frame], Frame]:
    async def run() -> tuple[list[Frame], Frame]:
        frames: list[Frame] = []
        async with AsyncLiveStream(server.url, sample_rate_hz=RATE_HZ, endpointing=False) as stream:
            for number, piece in enumerate(pieces):
                if number == len(pieces) // 2:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.restart)
                frames += await stream.send(piece)
            return frames + await stream.wait(), await stream.end()

    return asyncio.run(run())


@pytest.mark.parametrize("way", [live, live_with_asyncio])
def test_a_stream_through_a_server_that_is_killed(
    server: RestartableServer, way: Callable[[RestartableServer, list[np.ndarray]], tuple[list[Frame], Frame]]
) -> None:
    pieces = np.array_split(words(5), 50)
    with StreamingClient(server.url) as client, client.session() as session:
        expected = [session.send(piece, RATE_HZ) for piece in pieces]
        end = session.end()
    frames, final = way(server, pieces)
    results = {frame["seq"]: frame for frame in frames}
    assert len(pieces) - 1 in results
    for seq, result in results.items():  # those on their way when it was killed may be missing
        assert result["probabilities"] == expected[seq]["probabilities"]
        assert result["total_steps"] == expected[seq]["total_steps"]
    assert (final["label"], final["probabilities"]) == (end["label"], end["probabilities"])
