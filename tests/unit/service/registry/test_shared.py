"""Registries around a store: several of them are replicas, one after the other is a restart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import (
    ArtifactError,
    ConflictingChunk,
    InputError,
    ModelAbsent,
    ModelChanged,
    ModelMismatch,
    NotFound,
    OutOfOrder,
    Overloaded,
    SessionEnded,
    SessionExists,
    SessionGone,
    StateCorrupt,
    StateForeign,
    StateMismatch,
    StoreUnavailable,
)
from service.models.catalog import ModelCatalog
from service.registry.shared import SharedSessions
from service.store.base import Change, StateStore, Stored
from service.store.group_commit import GroupCommit
from service.store.memory import MemoryStore
from service.wire.chunk import AudioChunk
from service.wire.schema import Reply
from tests.support.artifact import write_artifact
from tests.support.failing_store import FailingStore
from tests.support.fake_graph import load_fake
from tests.support.gate import Gate
from tests.support.signals import sound
from tests.unit.service.registry.test_registry import Clock, Server

LIMITS: dict[str, Any] = {
    "session_idle_s": 60,
    "session_age_s": 1000,
    "ended_keep_s": 10,
    "expired_keep_s": 500,
    "max_sessions": 3,
}


class Cluster:
    """Replicas on one store that fails on demand, with one clock; each with models and a gate of its own."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder = folder
        self.limits = LIMITS | limits
        self.clock = Clock(now_s=1_000_000.0)
        self.memory = MemoryStore(self.clock)
        self.store = FailingStore(self.memory)
        self.replicas: list[Server] = []

    def replica(self, **limits: Any) -> Server:
        gate = Gate()
        catalog = ModelCatalog(self.folder, "digits", load=gate.load)
        server = Server(catalog, gate, store=self.store, clock=self.clock, **(self.limits | limits))
        self.replicas.append(server)
        return server

    def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            try:
                async with asyncio.timeout(20):
                    await body()
            finally:
                self.store.opened.set()
                for server in self.replicas:
                    server.gate.opened.set()
                    await server.parts.close()

        asyncio.run(whole())

    async def record(self, session: str) -> Stored | None:
        (stored,) = await self.memory.load([session])
        assert stored is None or isinstance(stored, Stored)
        return stored

    async def overwrite(self, session: str, content: bytes) -> None:
        stored = await self.record(session)
        await self.memory.commit([Change(session, stored.revision if stored else 0, 77, content, 1000)])


@pytest.fixture
def cluster(models: Path) -> Cluster:
    return Cluster(models)


async def undisturbed(cluster: Cluster, chunks: int, *, end: bool = True) -> list[Reply]:
    """What one server without a store answers."""
    alone = Server(ModelCatalog(cluster.folder, "digits", load=load_fake), Gate(), session_idle_s=60)
    replies = [await alone.send("a", n, seed=n, end=end and n == chunks - 1) for n in range(chunks)]
    await alone.parts.close()
    return replies


def shared(server: Server) -> SharedSessions:
    sessions = server.registry.sessions
    assert isinstance(sessions, SharedSessions)
    return sessions


def test_any_replica_serves_any_chunk_and_all_answer_alike(cluster: Cluster) -> None:
    replicas = [cluster.replica() for _ in range(3)]
    rng = random.Random(3)

    async def body() -> None:
        expected = await undisturbed(cluster, 12)
        for n in range(12):
            reply = await rng.choice(replicas).send("a", n, seed=n, end=n == 11)
            assert reply == expected[n]
            assert await rng.choice(replicas).send("a", n, seed=n, end=n == 11) == expected[n]

    cluster.run(body)


def test_sound_moves_between_replicas_in_the_middle_of_a_step(cluster: Cluster) -> None:
    replicas = [cluster.replica() for _ in range(2)]
    pieces = [AudioChunk(sound(777, n).astype(np.float32) / np.float32(32_768), 11_025) for n in range(9)]

    async def body() -> None:
        alone = Server(ModelCatalog(cluster.folder, "digits", load=load_fake), Gate())
        for n, piece in enumerate(pieces):
            end = n == len(pieces) - 1
            expected = await alone.send("a", n, chunk=piece, end=end)
            assert await replicas[n % 2].send("a", n, chunk=piece, end=end) == expected
        await alone.parts.close()

    cluster.run(body)


def test_float16_answers_alike_wherever_a_chunk_goes(models: Path) -> None:
    async def answers(replicas: list[Server]) -> list[Reply]:
        return [await replicas[n % len(replicas)].send("a", n, seed=n) for n in range(6)]

    found = []
    for count in (1, 2):
        cluster = Cluster(models, store_dtype="float16")
        replicas = [cluster.replica() for _ in range(count)]

        async def body(replicas: list[Server] = replicas) -> None:
            found.append(await answers(replicas))

        cluster.run(body)
    assert found[0] == found[1]


def test_a_restart_loses_nothing_that_was_acknowledged(cluster: Cluster) -> None:
    async def body() -> None:
        expected = await undisturbed(cluster, 6)
        for n in range(6):
            server = cluster.replica()
            assert await server.send("a", n, seed=n, end=n == 5) == expected[n]
        late = cluster.replica()
        assert await late.send("a", 5, seed=5, end=True) == expected[5]
        await late.refused(SessionEnded, "has ended", "a", 6)
        assert (await late.registry.describe("a"))["ended"]

    cluster.run(body)


def test_two_replicas_never_both_apply_a_chunk(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()

    async def body() -> None:
        expected = await undisturbed(cluster, 3, end=False)
        for n in range(3):
            for server in (one, two):
                server.gate.opened.clear()
            sent = [asyncio.create_task(server.send("a", n, seed=n)) for server in (one, two)]
            await one.entered()
            await two.entered()  # both compute it
            for server in (one, two):
                server.gate.opened.set()
            assert await asyncio.gather(*sent) == [expected[n]] * 2
        applied = [server.counters.chunks_applied for server in (one, two)]
        replayed = [server.counters.chunks_replayed for server in (one, two)]
        assert sum(applied) == 3
        assert sum(replayed) == 3
        assert sum(server.counters.store_fenced for server in (one, two)) == 3

    cluster.run(body)


def test_of_two_contents_under_one_number_one_counts(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()

    async def body() -> None:
        await one.send("a", 0)
        await two.send("a", 1, seed=1)
        # one still remembers that it waits for 1
        error = await one.refused(ConflictingChunk, "other content", "a", 1, seed=9)
        assert isinstance(error, ConflictingChunk)
        assert error.expected_seq == 2
        assert (await one.send("a", None, seed=2)).seq == 2

    cluster.run(body)


def test_nothing_is_refused_or_replayed_from_memory_alone(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()

    async def body() -> None:
        await one.send("a", 0, form="bank")
        await two.registry.delete("a")
        # another life of the id, of another form and another kind, of which one knows nothing
        begun = await two.send("a", 0, seed=4, form="exact")
        assert await one.send("a", 0, seed=4, form="exact") == begun
        await two.send("a", 1, seed=5)
        assert (await one.send("a", 2, seed=6)).form == "exact"
        await two.registry.delete("a")
        await two.send("a", 0, chunk=AudioChunk(sound(800).astype(np.float32) / np.float32(32_768), 8_000))
        assert (
            await one.send("a", 1, chunk=AudioChunk(sound(80).astype(np.float32) / np.float32(32_768), 8_000))
        ).seq == 1

    cluster.run(body)


def test_refusals_are_those_of_one_server(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()

    async def body() -> None:
        await one.refused(NotFound, "begin it with seq 0", "a", 3)
        await one.refused(InputError, "empty", "a", 0, empty=True, end=True)
        await one.refused(NotFound, "no model", "a", 0, model="nothing")
        assert await cluster.record("a") is None
        await one.send("a", 0)
        for server in (two, one):
            await server.refused(OutOfOrder, "send seq 1 next", "a", 4)
            await server.refused(ModelMismatch, "runs on form 'exact'", "a", 1, form="bank")
            await server.refused(ConflictingChunk, "other content", "a", 0, seed=9)
        one.gate.failure = ArtifactError("broken")
        await one.refused(ArtifactError, "broken", "a", 1)
        one.gate.failure = None
        assert (await two.send("a", 1)).seq == 1

    cluster.run(body)


def test_a_new_session_costs_no_load(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        await server.send(None, None)
        await server.send("a", 0)
        await server.send("a", 1)
        assert cluster.store.loads == 0
        await server.send("b", None)
        assert cluster.store.loads == 1

    cluster.run(body)


def test_chunks_of_many_sessions_are_committed_together(models: Path) -> None:
    cluster = Cluster(models, max_sessions=100)
    server = cluster.replica()

    async def body() -> None:
        cluster.store.opened.clear()
        first = asyncio.create_task(server.send("first", 0))
        await cluster.store.entered.wait()
        rest = [asyncio.create_task(server.send(f"s{n}", 0)) for n in range(20)]
        async with asyncio.timeout(10):
            while len(shared(server)._store._pipeline._commits._waiting) < 20:
                await asyncio.sleep(0.001)
        cluster.store.opened.set()
        await asyncio.gather(first, *rest)
        assert cluster.store.batches == [1, 20]

    cluster.run(body)


def test_a_store_that_is_down_changes_nothing_and_says_when_to_come_again(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        expected = await undisturbed(cluster, 3, end=False)
        await server.send("a", 0, seed=0)
        cluster.store.down = True
        for name, seq in (("a", 1), ("a", None), ("b", 0), ("b", None)):
            error = await server.refused(StoreUnavailable, "the session store failed", name, seq, seed=1)
            assert isinstance(error, StoreUnavailable)
            assert error.retry_after_s > 0
        with pytest.raises(StoreUnavailable):
            await server.registry.describe("a")
        with pytest.raises(StoreUnavailable):
            await server.registry.delete("a")
        with pytest.raises(StoreUnavailable):
            await server.registry.sessions.check()
        cluster.store.down = False
        assert await server.send("a", 1, seed=1) == expected[1]
        assert await server.send("a", 2, seed=2) == expected[2]
        assert await cluster.record("b") is None
        assert server.counters.store_failures["StoreUnavailable"] >= 4

    cluster.run(body)


def test_a_commit_whose_answer_was_lost_counts_once(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        expected = await undisturbed(cluster, 3, end=False)
        for n in range(3):
            cluster.store.deaf = True
            await server.refused(StoreUnavailable, "failed", "a", n, seed=n)
            cluster.store.deaf = False
            calls, loads = server.gate.calls, cluster.store.loads
            if n == 2:  # another content finds out that the first was applied
                await server.refused(ConflictingChunk, "other content", "a", n, seed=9)
            assert await server.send("a", n, seed=n) == expected[n]
            # found out by loading, before anything is computed on what may be outdated; chunk 0 cannot know of a load
            assert n == 0 or server.gate.calls == calls
            assert cluster.store.loads > loads
        assert server.counters.chunks_replayed == 3

    cluster.run(body)


def test_a_commit_that_arrives_late_counts_once_or_not_at_all(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        expected = await undisturbed(cluster, 4, end=False)
        await server.send("a", 0, seed=0)
        cluster.store.late = True
        await server.refused(StoreUnavailable, "failed", "a", 1, seed=1)
        cluster.store.late = False
        assert await server.send("a", 1, seed=1) == expected[1]  # the store still held chunk 0
        await cluster.store.run_late()
        assert await server.send("a", 2, seed=2) == expected[2]
        cluster.store.late = True
        await server.refused(StoreUnavailable, "failed", "a", 3, seed=3)
        cluster.store.late = False
        await cluster.store.run_late()
        assert await server.send("a", 3, seed=3) == expected[3]

    cluster.run(body)


def test_a_session_that_the_store_lost_does_not_begin_again_unnoticed(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        await server.send("a", 0)
        await server.send("b", 0)
        await server.send("c", 0)
        cluster.store.inner = MemoryStore(cluster.clock)  # a server that was restarted without its data
        await server.refused(SessionGone, "no longer in the store", "a", None, seed=1)
        await server.refused(NotFound, "begin it with seq 0", "b", 1, seed=1)
        assert (await server.send("c", 0, seed=5)).seq == 0

    cluster.run(body)


def test_a_lost_session_is_noticed_after_an_unknown_commit_too(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        await server.send("a", 0)
        cluster.store.down = True
        await server.refused(StoreUnavailable, "failed", "a", None, seed=1)
        cluster.store.inner = MemoryStore(cluster.clock)
        cluster.store.down = False
        await server.refused(SessionGone, "no longer in the store", "a", None, seed=1)

    cluster.run(body)


@pytest.mark.parametrize(
    ("content", "kind"), [(b"foreign bytes", StateForeign), (b"HSST\x01\x00", StateMismatch), (None, StateCorrupt)]
)
def test_a_damaged_record_is_told_and_may_be_deleted(cluster: Cluster, content: bytes | None, kind: type) -> None:
    server, other = cluster.replica(), cluster.replica()

    async def body() -> None:
        await server.send("a", 0)
        await server.send("b", 0)
        stored, stored_b = await cluster.record("a"), await cluster.record("b")
        assert stored is not None
        assert stored_b is not None
        if kind is StateMismatch:
            await cluster.overwrite("a", stored_b.record)
        else:
            await cluster.overwrite("a", content or stored.record[:-1] + bytes([stored.record[-1] ^ 1]))
        for replica in (server, other):
            for seq in (None, 1, 0):
                await replica.refused(kind, ".", "a", seq, seed=1)
            with pytest.raises(kind):
                await replica.registry.describe("a")
            with pytest.raises(kind):
                await replica.registry.export_state("a")
        assert other.counters.store_failures[kind.__name__] > 0
        await other.registry.delete("a")
        assert (await other.send("a", 0)).seq == 0

    cluster.run(body)


def test_another_content_of_the_model_is_told(cluster: Cluster, tmp_path: Path) -> None:
    write_artifact(tmp_path / "other", "digits", "1", change={"provenance": {"seed": 8}})
    write_artifact(tmp_path / "third", "digits", "2")

    async def body() -> None:
        await cluster.replica().send("a", 0)
        cluster.folder = tmp_path / "other"
        await cluster.replica().refused(ModelChanged, "another content of model 'digits' version '1'", "a", 1)
        cluster.folder = tmp_path / "third"
        await cluster.replica().refused(ModelAbsent, "version '1', which this server does not have", "a", 1)

    cluster.run(body)


def test_time_is_judged_by_the_record_and_alike_everywhere(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()

    async def body() -> None:
        await one.send("a", 0)
        cluster.clock.now_s += 59
        await two.send("a", 1, seed=1)
        cluster.clock.now_s += 59
        await one.send("a", 2, seed=2)
        cluster.clock.now_s += 60
        for server in (one, two):
            for seq in (None, 0, 3):
                await server.refused(SessionGone, "dropped after 60 s idle", "a", seq)
            with pytest.raises(SessionGone):
                await server.registry.describe("a")
            with pytest.raises(SessionGone):
                await server.registry.delete("a")
        cluster.clock.now_s += 500
        assert (await two.send("a", 0)).seq == 0

    cluster.run(body)


def test_a_session_is_dropped_at_its_age(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()

    async def body() -> None:
        for n in range(20):
            await (one, two)[n % 2].send("a", n, seed=n)
            cluster.clock.now_s += 50
        await one.refused(SessionGone, "at the age of 1000 s", "a", 20)
        await two.refused(SessionGone, "at the age of 1000 s", "a", None)

    cluster.run(body)


def test_an_ended_session_is_forgotten_after_a_while(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()

    async def body() -> None:
        last = await one.send("a", 0, end=True)
        cluster.clock.now_s += 9
        assert await two.send("a", 0, end=True) == last
        assert (await two.registry.describe("a"))["state_bytes"] == 0
        cluster.clock.now_s += 1
        with pytest.raises(NotFound):
            await two.registry.describe("a")
        assert not (await two.send("a", 0)).end

    cluster.run(body)


def test_the_sweep_makes_the_record_of_a_dropped_session_small(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        await server.send("a", 0)
        before = await cluster.record("a")
        cluster.clock.now_s += 61
        server.registry.sessions.sweep(cluster.clock())
        while shared(server)._pending_tombstones:
            await asyncio.wait(shared(server)._pending_tombstones)
        after = await cluster.record("a")
        assert before is not None
        assert after is not None
        assert len(after.record) < len(before.record)
        assert server.registry.sessions.open == 0
        await server.refused(SessionGone, "dropped", "a", 1)
        assert server.counters.sessions_dropped == 1

    cluster.run(body)


def test_a_sweep_does_not_put_all_that_is_over_before_the_chunks(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.registry.table.SLICE", 10)
    cluster = Cluster(models, max_sessions=100, sweep_interval_s=0.001)
    server = cluster.replica()

    async def body() -> None:
        for n in range(60):
            await server.send(f"s{n}", 0)
        cluster.clock.now_s += 61
        cluster.store.entered.clear()
        cluster.store.opened.clear()
        cluster.store.batches.clear()
        sweeping = asyncio.create_task(server.registry.sweep_forever(0.001))
        await cluster.store.entered.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        chunk = asyncio.create_task(server.send("new", 0))
        await server.entered()
        assert len(shared(server)._pending_tombstones) <= 10
        cluster.store.opened.set()
        assert (await chunk).seq == 0
        while server.counters.sessions_dropped < 60:
            await asyncio.sleep(0.001)
        sweeping.cancel()

    cluster.run(body)


def test_chunks_wait_no_longer_for_a_store_than_it_may_take(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's tests have what it does with the time; this is that it is told the server's."""
    given: list[float] = []

    class Told(GroupCommit):
        def __init__(self, store: StateStore, max_batch: int = 64, timeout_s: float = inf) -> None:
            given.append(timeout_s)
            super().__init__(store, max_batch, timeout_s)

    monkeypatch.setattr("service.store.session_store.GroupCommit", Told)
    server = cluster.replica(store_timeout_s=0.75)

    async def body() -> None:
        await server.send("a", 0)

    cluster.run(body)
    assert given == [0.75]


def test_memory_is_bounded_and_the_store_is_not(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        for n in range(10):
            await server.send(f"s{n}", 0)
            assert server.registry.sessions.open <= 3
        assert (await server.send("s0", 1, seed=1)).seq == 1
        server.gate.opened.clear()
        running = [asyncio.create_task(server.send(f"s{n}", 1, seed=1)) for n in (7, 8, 9)]
        for _ in range(3):
            await server.entered()
        await server.refused(Overloaded, "3 sessions are open", "s1", 1)
        server.gate.opened.set()
        await asyncio.gather(*running)

    cluster.run(body)


def test_a_deletion_reaches_every_replica(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()

    async def body() -> None:
        await one.send("a", 0)
        await two.registry.delete("a")
        with pytest.raises(NotFound):
            await one.registry.describe("a")
        with pytest.raises(NotFound):
            await one.registry.delete("a")
        await one.refused(NotFound, "begin it with seq 0", "a", 1)
        assert (await one.send("a", 0)).seq == 0

    cluster.run(body)


def test_a_session_moves_as_bytes(cluster: Cluster, models: Path) -> None:
    """From a store to a server without one, under another id, and back."""
    stored = cluster.replica()
    alone = Server(ModelCatalog(models, "digits", load=load_fake), Gate(), clock=cluster.clock, session_idle_s=60)

    async def body() -> None:
        expected = await undisturbed(cluster, 4, end=False)
        for n in range(2):
            await stored.send("a", n, seed=n)
        described, is_new = await alone.registry.import_state(
            "b", await stored.registry.export_state("a"), replace_it=False
        )
        assert is_new
        assert (described["session"], described["expected_seq"], described["total_steps"]) == ("b", 2, 20)
        assert (await alone.send("b", 1, seed=1)).session == "b"  # the duplicate
        assert (await alone.send("b", 2, seed=2)).probabilities == expected[2].probabilities
        content = await alone.registry.export_state("b")
        with pytest.raises(SessionExists, match="replace=true"):
            await stored.registry.import_state("a", content, replace_it=False)
        described, is_new = await stored.registry.import_state("a", content, replace_it=True)
        assert not is_new
        other = cluster.replica()
        assert await other.send("a", 3, seed=3) == expected[3]
        assert other.counters.sessions_loaded == 1
        await alone.parts.close()

    cluster.run(body)


def test_an_import_is_checked(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        await server.send("a", 0)
        content = await server.registry.export_state("a")
        for bad, kind in (
            (b"foreign", StateForeign),
            (content[:-1] + b"\0\0", StateCorrupt),
        ):
            with pytest.raises(kind):
                await server.registry.import_state("b", bad, replace_it=True)
        assert await cluster.record("b") is None
        cluster.clock.now_s += 60
        with pytest.raises(SessionGone):
            await server.registry.import_state("a", content, replace_it=False)
        await server.registry.import_state("a", content, replace_it=True)
        assert (await server.send("a", 1, seed=1)).seq == 1
        await cluster.overwrite("a", b"damaged")
        with pytest.raises(StateForeign):
            await server.registry.import_state("a", content, replace_it=False)
        await server.registry.import_state("a", content, replace_it=True)
        cluster.clock.now_s += 1000
        with pytest.raises(SessionGone, match="at the age of 1000 s"):
            await server.registry.import_state("c", content, replace_it=False)
        await server.send("d", 0)
        content = await server.registry.export_state("d")
        cluster.store.down = True
        with pytest.raises(StoreUnavailable):
            await server.registry.import_state("c", content, replace_it=False)

    cluster.run(body)


def test_a_server_without_a_store_remembers_what_it_dropped_and_imports_over_it(models: Path) -> None:
    server = Server(ModelCatalog(models, "digits", load=load_fake), Gate(), session_idle_s=60)

    async def body() -> None:
        await server.send("a", 0)
        content = await server.registry.export_state("a")
        server.clock.now_s += 60
        await server.registry.import_state("a", content, replace_it=True)  # nobody has noticed yet that it is gone
        assert (await server.send("a", 1, seed=1)).seq == 1
        server.clock.now_s += 60
        with pytest.raises(SessionGone):
            await server.registry.import_state("a", content, replace_it=False)
        await server.registry.import_state("a", content, replace_it=True)
        assert (await server.send("a", 1, seed=1)).seq == 1
        ended = await server.send("a", 2, seed=2, end=True)
        moved = await server.registry.export_state("a")
        await server.registry.import_state("a", content, replace_it=True)
        assert (await server.send("a", 1, seed=1)).seq == 1
        await server.registry.import_state("a", moved, replace_it=True)
        assert await server.send("a", 2, seed=2, end=True) == ended

    server.run(body)


def test_closing_commits_what_runs_and_closes_the_store(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        server.gate.opened.clear()
        running = asyncio.create_task(server.send("a", 0))
        await server.entered()
        closing = asyncio.create_task(server.parts.close())
        await asyncio.sleep(0)
        server.gate.opened.set()
        await closing
        assert (await running).seq == 0
        assert cluster.store.closed
        assert await cluster.record("a") is not None

    cluster.run(body)


def test_a_caller_that_goes_away_harms_nobody(cluster: Cluster) -> None:
    server = cluster.replica()

    async def body() -> None:
        cluster.store.opened.clear()
        left = asyncio.create_task(server.send("a", 0))
        await cluster.store.entered.wait()
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        retried = asyncio.create_task(server.send("a", 0))
        cluster.store.opened.set()
        assert (await retried).seq == 0
        assert server.counters.chunks_applied == 1

    cluster.run(body)


def test_random_chaos_leaves_no_wrong_answer(models: Path) -> None:
    """Clients that retry by number, replicas that are restarted, a store that fails in every way."""
    cluster = Cluster(models, max_sessions=100)
    rng = random.Random(11)
    chunks, names = 8, [f"s{n}" for n in range(6)]

    async def body() -> None:
        expected = await undisturbed(cluster, chunks)
        replicas = [cluster.replica() for _ in range(3)]
        done = asyncio.Event()

        async def client(name: str) -> None:
            for n in range(chunks):
                while True:
                    try:
                        sent = replicas[rng.randrange(3)].send(name, n, seed=n, end=n == chunks - 1)
                        reply = await sent
                    except (StoreUnavailable, Overloaded):
                        await asyncio.sleep(0)
                        continue
                    assert reply == expected[n].model_copy(update={"session": name})
                    if rng.random() < 0.7:
                        break

        async def trouble() -> None:
            while not done.is_set():
                cluster.store.down = rng.random() < 0.1
                cluster.store.deaf = rng.random() < 0.2
                cluster.store.late = rng.random() < 0.1
                if rng.random() < 0.2:
                    await cluster.store.run_late()
                if rng.random() < 0.05:
                    replicas[rng.randrange(3)] = cluster.replica()
                await asyncio.sleep(0)

        troubled = asyncio.create_task(trouble())
        await asyncio.gather(*(client(name) for name in names))
        done.set()
        await troubled
        applied = sum(server.counters.chunks_applied for server in cluster.replicas)
        assert applied <= chunks * len(names)

    cluster.run(body)
