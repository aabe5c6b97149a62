"""Plain chunks of many sessions at once: the sessions are those that the usual way leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetsyn_client.columns import pack_chunks, unpack_chunks
from service.batching import rows as batching
from service.models.catalog import ModelCatalog
from service.registry.local import LocalSessions
from service.registry.rows import AppliedRows, Rows, RowSessions
from service.session.protocol import Known
from service.session.session import Session
from service.wire.chunk import AudioChunk, spike_chunk
from service.wire.columns import DecodedFrame, EventFrame, decoder_of
from service.wire.schema import Envelope
from tests.support.artifact import reject, write_artifact
from tests.support.gate import Gate
from tests.support.in_process import DirectServer
from tests.support.infer_request import infer_request
from tests.support.made_session import assert_same
from tests.support.many import events_content
from tests.support.signals import sound, spikes

NAMED = Envelope(model="digits", version="1")
STEPS = 10


def frame_of(kind: str, seeds: list[int]) -> DecodedFrame:
    """A chunk of each seed."""
    handles = list(range(len(seeds)))
    if kind == "audio":
        parts = [sound(900 + 100 * seed, seed).astype("<i2") for seed in seeds]
        content, lengths = b"".join(part.tobytes() for part in parts), [len(part) for part in parts]
        return decoder_of("pcm_s16le", 8_000, 0).decode(unpack_chunks(pack_chunks(handles, 0, lengths, content), 2))
    trains = [spikes(STEPS, seed) for seed in seeds]
    content = events_content(np.concatenate([t for t, _ in trains]), np.concatenate([u for _, u in trains]))
    lengths = [len(times) for times, _ in trains]
    return EventFrame(unpack_chunks(pack_chunks(handles, 0, lengths, content, STEPS), 4))


def chunk_of(kind: str, seed: int) -> Any:
    if kind == "audio":
        return AudioChunk(sound(900 + 100 * seed, seed).astype(np.float32) / np.float32(32_768), 8_000)
    return spike_chunk(STEPS, *spikes(STEPS, seed))


def row_sessions(server: DirectServer) -> RowSessions:
    sessions = server.registry.sessions
    assert isinstance(sessions, LocalSessions)
    return RowSessions(sessions, server.parts.batcher.rows, server.counters, 500)


async def begin(server: DirectServer, kind: str, names: str) -> None:
    """Each session has one chunk, and the server knows what such chunks cost."""
    for name in names:
        for seq in (0, 1):
            request = infer_request(name, seq, chunk=chunk_of(kind, 0), model="digits", version="1")
            with server.admission.permit("") as permit:
                await server.registry.infer(request, permit)


async def apply(server: DirectServer, kind: str, names: str, seq: int, seeds: list[int]) -> AppliedRows | None:
    """A chunk of each session, as plain ones."""
    rows = Rows(list(names), [seq] * len(names), list(range(len(names))), frame_of(kind, seeds))
    return await row_sessions(server).apply(NAMED, rows)


async def kept(server: DirectServer, name: str) -> Session:
    sessions = server.registry.sessions
    with sessions.visit(name) as entry:
        return await sessions.existing(entry)


@pytest.fixture(scope="module", params=[(), ("one", "three")], ids=["plain", "rejecting"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    if request.param:
        reject(write_artifact(folder, rule="last"), *request.param)
    else:
        write_artifact(folder)
    return folder


def direct(folder: Path, **options: Any) -> DirectServer:
    gate = Gate()
    return DirectServer(ModelCatalog(folder, load=gate.load), gate, inline_s=1.0, **options)


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["spikes", "audio"]),
    rounds=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_sessions_are_those_of_the_usual_way(folder: Path, kind: str, rounds: list[list[int]]) -> None:
    async def compare() -> None:
        catalog = ModelCatalog(folder, load=Gate().load)
        server, other = (DirectServer(catalog, Gate(), inline_s=1.0) for _ in range(2))
        for one in (server, other):
            await begin(one, kind, "abc")
        for seq, seeds in enumerate(rounds, 2):
            applied = await apply(server, kind, "abc", seq, seeds)
            assert applied is not None
            assert applied.numbers == [0, 1, 2]
            for row, (name, seed) in enumerate(zip("abc", seeds, strict=True)):
                reply = await other.send(name, seq, chunk=chunk_of(kind, seed))
                assert reply.probabilities == applied.probabilities[row].tolist()
                assert (reply.steps, reply.total_steps) == (applied.steps[row], applied.total_steps[row])
                assert reply.label == (None if applied.label[row] < 0 else applied.labels[applied.label[row]])
        for name in "abc":  # the replies are written only now
            first, second = [await kept(each, name) for each in (server, other)]
            assert_same(first, second)
            assert [type(part) for part in first] == [type(part) for part in second]
        assert server.counters == other.counters
        for each in (server, other):
            await each.close()

    asyncio.run(compare())


@pytest.mark.parametrize("kind", ["spikes", "audio"])
async def test_a_retry_gets_the_reply_that_was_not_written(folder: Path, kind: str) -> None:
    server = direct(folder)
    await begin(server, kind, "ab")
    applied = await apply(server, kind, "xab", 2, [0, 1, 2])
    assert applied is not None
    assert applied.numbers == [1, 2]  # x has not begun
    reply = await server.send("b", 2, chunk=chunk_of(kind, 2))
    assert reply.probabilities == applied.probabilities[1].tolist()
    assert reply.total_steps == applied.total_steps[1]
    assert server.counters.chunks_replayed == 1
    assert (await server.registry.describe("a"))["expected_seq"] == 3
    assert (await server.send("a", 3, chunk=chunk_of(kind, 0))).seq == 3
    await server.close()


async def test_what_is_not_plain_is_left_to_the_usual_way(folder: Path) -> None:
    server = direct(folder, session_idle_s=60)
    await begin(server, "spikes", "abcde")
    await server.send("c", 2, end=True, empty=True)
    entry = server.registry.sessions.enter("d")  # a request uses it
    applied = await apply(server, "spikes", "abcdx", 2, [0] * 5)
    assert applied is not None
    assert applied.numbers == [0, 1]
    row = server.registry.sessions.unused("a")
    assert row is not None
    assert row.session is not None
    assert row.session.known == Known(*row.session.known)
    server.registry.sessions.leave(entry)
    assert await apply(server, "spikes", "ab", 2, [0, 0]) is None  # applied before
    assert await apply(server, "spikes", "ab", 4, [0, 0]) is None  # a gap
    rows = Rows(["e"], [2], [0], frame_of("spikes", [0]))
    assert await row_sessions(server).apply(NAMED.model_copy(update={"version": "2"}), rows) is None
    assert (
        await row_sessions(server).apply(NAMED, Rows(["e"], [2], [0], frame_of("audio", [0]))) is None
    )  # of another kind
    server.gate.failure = RuntimeError("broken")
    assert await row_sessions(server).apply(NAMED, rows) is None
    server.gate.failure = None
    assert (await kept(server, "e")).known.progress.expected_seq == 2
    server.clock.now_s += 61
    assert await apply(server, "spikes", "ab", 3, [0, 0]) is None  # expired
    assert server.counters.chunks_applied == 10 + 1 + 2
    await server.close()


async def entered(server: DirectServer, call: Coroutine[Any, Any, AppliedRows | None]) -> asyncio.Task[Any]:
    """The call, once it waits at the gate."""
    while server.gate.entered.acquire(blocking=False):
        pass
    task = asyncio.create_task(call)
    await asyncio.to_thread(server.gate.entered.acquire)
    return task


@pytest.mark.parametrize("kind", ["spikes", "audio"])
async def test_a_long_batch_runs_on_a_thread_while_its_sessions_are_locked(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, other = direct(folder), direct(folder)
    for each in (server, other):
        await begin(each, kind, "ab")
    expected = await apply(other, kind, "ab", 2, [1, 2])
    monkeypatch.setattr(batching, "THREAD_S", 0.0)
    server.gate.opened.clear()
    running = await entered(server, apply(server, kind, "ab", 2, [1, 2]))
    assert await apply(server, kind, "ab", 2, [1, 2]) is None  # they are in use
    request = infer_request("a", 3, chunk=chunk_of(kind, 3), model="digits", version="1")
    with server.admission.permit("") as permit:
        later = asyncio.create_task(server.registry.infer(request, permit))
        server.gate.opened.set()
        applied = await running
        assert (await later).reply["seq"] == 3
    assert applied is not None
    assert expected is not None
    np.testing.assert_array_equal(applied.probabilities, expected.probabilities)
    for each in (server, other):
        await each.close()


async def test_a_batch_whose_caller_has_gone_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = direct(folder)
    await begin(server, "spikes", "ab")
    monkeypatch.setattr(batching, "THREAD_S", 0.0)
    server.gate.opened.clear()
    running = await entered(server, apply(server, "spikes", "ab", 2, [1, 2]))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    server.gate.opened.set()
    assert (await kept(server, "a")).known.progress.expected_seq == 2
    applied = await apply(server, "spikes", "ab", 2, [1, 2])
    assert applied is not None
    assert applied.numbers == [0, 1]
    await server.close()


async def test_a_unit_that_the_model_lacks_is_left_to_the_usual_way(folder: Path) -> None:
    server = direct(folder)
    await begin(server, "spikes", "a")
    wrong = EventFrame(unpack_chunks(pack_chunks([0], 0, [1], events_content([0], [60_000]), STEPS), 4))
    assert await row_sessions(server).apply(NAMED, Rows(["a"], [2], [0], wrong)) is None
    await server.close()


async def test_sessions_that_idle_make_no_room_for_those_of_their_batch(folder: Path) -> None:
    server = direct(folder, session_idle_s=60, max_sessions=3)
    await begin(server, "spikes", "ab")
    sessions = server.registry.sessions
    assert isinstance(sessions, LocalSessions)
    sessions._room.all.max_bytes = sessions.bytes  # no room for the first longer reply
    applied = await apply(server, "spikes", "ab", 2, [0, 0])
    assert applied is None or applied.numbers == []
    assert sessions.open == 2
    await server.close()


async def test_a_row_without_room_leaves_the_others_their_results(folder: Path) -> None:
    server, other = direct(folder), direct(folder)
    for each in (server, other):
        await begin(each, "spikes", "abc")
        await apply(each, "spikes", "ac", 2, [0, 0])  # from now on these two take no more memory
    expected = await apply(other, "spikes", "ac", 3, [1, 3])
    sessions = server.registry.sessions
    assert isinstance(sessions, LocalSessions)
    sessions._room.all.max_bytes = sessions.bytes
    rows = Rows(["a", "b", "c"], [3, 2, 3], [0, 1, 2], frame_of("spikes", [1, 2, 3]))
    applied = await row_sessions(server).apply(NAMED, rows)
    assert applied is not None
    assert expected is not None
    assert applied.numbers == [0, 2]
    np.testing.assert_array_equal(applied.probabilities, expected.probabilities)
    np.testing.assert_array_equal(applied.label, expected.label)
    assert (applied.steps, applied.total_steps) == (expected.steps, expected.total_steps)
    assert (await kept(server, "b")).known.progress.expected_seq == 2
    for each in (server, other):
        await each.close()
