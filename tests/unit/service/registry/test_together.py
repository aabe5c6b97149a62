"""Chunks that come together: decided on, computed, kept and answered together, as if each had come alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import Overloaded
from service.models.catalog import ModelCatalog
from service.session.session import PlainReply, Session
from service.wire.chunk import spike_chunk
from tests.support.artifacts.artifact import reject, write_artifact
from tests.support.artifacts.gate import Gate
from tests.support.clients.replies import Reply
from tests.support.data.signals import audio_chunk, sound, spikes
from tests.support.servers.in_process import DirectServer
from tests.support.stores.made_session import assert_same

STEPS = 10


def chunk_of(kind: str, seed: int) -> Any:
    if kind == "audio":
        return audio_chunk(sound(900 + 100 * seed, seed))
    return spike_chunk(STEPS, *spikes(STEPS, seed))


async def begin(server: DirectServer, kind: str, names: str) -> None:
    """Each session has two chunks, and the server knows what such chunks cost."""
    for name in names:
        for seq in (0, 1):
            await server.send(name, seq, chunk=chunk_of(kind, 0), model="digits", version="1")


async def together(server: DirectServer, kind: str, names: str, seq: int, seeds: Sequence[int]) -> list[Any]:
    """The reply to a chunk of each session, or its error; all come at once."""
    sent = (server.send(name, seq, chunk=chunk_of(kind, seed)) for name, seed in zip(names, seeds, strict=True))
    return await asyncio.gather(*sent, return_exceptions=True)


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
    kinds=st.lists(st.sampled_from(["spikes", "audio"]), min_size=3, max_size=3),
    rounds=st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=4),
)
def test_sessions_are_those_of_chunks_that_came_alone(folder: Path, kinds: list[str], rounds: list[list[int]]) -> None:
    async def compare() -> None:
        catalog = ModelCatalog(folder, load=Gate().load)
        server, other = (DirectServer(catalog, Gate(), inline_s=1.0) for _ in range(2))
        for seq, seeds in enumerate([[0, 1, 2], *rounds]):
            rows = list(zip("abc", kinds, seeds, strict=True))
            replies = await asyncio.gather(
                *(server.send(name, seq, chunk=chunk_of(kind, seed)) for name, kind, seed in rows)
            )
            for reply, (name, kind, seed) in zip(replies, rows, strict=True):
                assert reply == await other.send(name, seq, chunk=chunk_of(kind, seed))
        for name in "abc":
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
    applied: list[Reply] = await together(server, kind, "ab", 2, [1, 2])
    entry = server.registry.sessions.find("b")
    assert entry.session is not None
    assert entry.session.known.progress.last is not None
    assert isinstance(entry.session.known.progress.last.reply, PlainReply)
    server.registry.sessions.leave(entry)
    assert await server.send("b", 2, chunk=chunk_of(kind, 2)) == applied[1]
    assert server.counters.chunks_replayed == 1
    assert (await server.registry.describe("a"))["expected_seq"] == 3
    assert (await server.send("a", 3, chunk=chunk_of(kind, 0))).seq == 3
    await server.close()


async def test_a_chunk_that_is_refused_leaves_the_others_their_results(folder: Path) -> None:
    server, other = direct(folder), direct(folder)
    for each in (server, other):
        await begin(each, "spikes", "ac")
        await each.send("b", 0, chunk=chunk_of("spikes", 0))
    expected = await together(other, "spikes", "ac", 2, [1, 3])
    sessions = server.registry.sessions
    sessions.quota.all.max_bytes = sessions.bytes  # no room for the first longer reply
    sent = (
        server.send("a", 2, chunk=chunk_of("spikes", 1)),
        server.send("new", 0, chunk=chunk_of("spikes", 2)),
        server.send("b", 7, chunk=chunk_of("spikes", 2)),
        server.send("c", 2, chunk=chunk_of("spikes", 3)),
    )
    first, full, gap, last = await asyncio.gather(*sent, return_exceptions=True)
    assert [first, last] == expected
    assert isinstance(full, Overloaded)
    assert "send seq 1 next" in str(gap)
    for each in (server, other):
        await each.close()


async def test_many_retries_of_one_chunk_are_answered_in_order(folder: Path) -> None:
    """However many wait for their turn, each gets its own."""
    server = direct(folder)
    server.gate.opened.clear()
    first = asyncio.create_task(server.send("a", 0, chunk=chunk_of("spikes", 0)))
    await server.entered()
    retries = [asyncio.create_task(server.send("a", 0, chunk=chunk_of("spikes", 0))) for _ in range(900)]
    await asyncio.sleep(0)
    for leaving in retries[::3]:
        leaving.cancel()
    server.gate.opened.set()
    reply = await first
    results = await asyncio.gather(*retries, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::3])
    assert all(result == reply for index, result in enumerate(results) if index % 3)
    assert server.counters.chunks_applied == 1
    await server.close()
