"""A store that is down, loses answers, loses sessions or holds what is no session."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.errors import (
    ConflictingChunk,
    ModelAbsent,
    ModelChanged,
    NotFound,
    Overloaded,
    StateCorrupt,
    StateError,
    StateMismatch,
    StoreUnavailable,
)
from service.store.base import Change, CommitResult
from tests.support.artifacts.artifact import write_artifact
from tests.support.clock import stopped_clock
from tests.support.servers.in_process import session_store
from tests.support.stores.cluster import Cluster
from tests.support.stores.memory_store import MemoryStore


async def test_a_store_that_is_down_changes_nothing_and_says_when_to_come_again(cluster: Cluster) -> None:
    server = cluster.replica()
    expected = await cluster.undisturbed(3, end=False)
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
    assert server.counters.store_failures["store-unavailable"] >= 4


async def test_a_commit_whose_answer_was_lost_counts_once(cluster: Cluster) -> None:
    server = cluster.replica()
    expected = await cluster.undisturbed(3, end=False)
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


async def test_a_session_that_the_store_lost_does_not_begin_again_unnoticed(cluster: Cluster) -> None:
    server = cluster.replica()
    await server.send("a", 0)
    await server.send("b", 0)
    await server.send("c", 0)
    cluster.store.inner = MemoryStore(cluster.clock)  # a server that was restarted without its data
    await server.refused(NotFound, "no session 'a'", "a", None, seed=1)
    await server.refused(NotFound, "begins with seq 0", "b", 1, seed=1)
    assert (await server.send("c", 0, seed=5)).seq == 0


async def test_a_lost_session_is_noticed_after_an_unknown_commit_too(cluster: Cluster) -> None:
    server = cluster.replica()
    await server.send("a", 0)
    cluster.store.down = True
    await server.refused(StoreUnavailable, "failed", "a", None, seed=1)
    cluster.store.inner = MemoryStore(cluster.clock)
    cluster.store.down = False
    await server.refused(NotFound, "no session 'a'", "a", None, seed=1)


@pytest.mark.parametrize(
    ("content", "kind"), [(b"foreign bytes", StateCorrupt), (b"HSST\x01\x00", StateMismatch), (None, StateCorrupt)]
)
async def test_a_damaged_record_is_reported_and_may_be_deleted(
    cluster: Cluster, content: bytes | None, kind: type[StateError]
) -> None:
    server, other = cluster.replica(), cluster.replica()
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
            await replica.transfer.export_state("a")
    assert other.counters.store_failures[kind.code] > 0
    await other.registry.delete("a")
    assert (await other.send("a", 0)).seq == 0


async def test_nothing_is_computed_on_a_session_once_its_record_is_known_to_be_damaged(cluster: Cluster) -> None:
    server = cluster.replica()
    await server.send("a", 0)
    await cluster.overwrite("a", b"foreign bytes")
    with pytest.raises(StateCorrupt):
        await server.registry.describe("a")
    await server.refused(StateCorrupt, ".", "a", 1, seed=1)
    assert server.gate.calls == 1


async def test_another_content_of_the_model_is_reported(cluster: Cluster, tmp_path: Path) -> None:
    write_artifact(tmp_path / "other", "digits", "1", change={"provenance": {"seed": 8}})
    write_artifact(tmp_path / "third", "digits", "2")
    await cluster.replica().send("a", 0)
    cluster.folder = tmp_path / "other"
    await cluster.replica().refused(ModelChanged, "with other files of model 'digits' version '1'", "a", 1)
    cluster.folder = tmp_path / "third"
    await cluster.replica().refused(ModelAbsent, "version '1', which this server does not have", "a", 1)


async def test_a_session_that_other_replicas_change_all_the_time_is_refused_in_the_end(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cluster.replica()
    await server.send("a", 0)
    content = await server.transfer.export_state("a")

    async def fences(changes: Sequence[Change]) -> list[CommitResult]:
        return [CommitResult.fenced for _ in changes]

    monkeypatch.setattr(cluster.memory, "commit", fences)
    error = await server.refused(Overloaded, "other replicas keep changing session", "a", 1, seed=1)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s > 0
    with pytest.raises(Overloaded, match="other replicas keep changing session"):
        await server.registry.delete("a")
    with pytest.raises(Overloaded, match="other replicas keep changing session"):
        await server.transfer.import_state("a", content, replace_it=True)
    monkeypatch.undo()
    assert (await server.send("a", 1, seed=1)).total_steps == 20  # nothing of it was applied


async def test_chunks_wait_no_longer_for_a_store_than_it_may_take(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = stopped_clock(monkeypatch)
    server, store = cluster.replica(store_timeout_s=0.75), cluster.store
    store.opened.clear()
    first = asyncio.create_task(server.send("a", 0))
    await store.entered.wait()
    later = asyncio.create_task(server.send("b", 0))
    while not session_store(server)._commits.waiting:
        await asyncio.sleep(0)
    await clock.turn(0.8)
    store.opened.set()
    assert (await first).seq == 0
    with pytest.raises(StoreUnavailable, match=r"this request waited longer than 0\.75 s"):
        await later


async def test_behind_a_store_that_hangs_no_request_waits_for_another(cluster: Cluster) -> None:
    server, store = cluster.replica(), cluster.store
    expected = await cluster.undisturbed(2, end=False)
    await server.send("a", 0, seed=0)
    store.opened.clear()
    store.entered.clear()
    store.down = True
    waiting = [asyncio.create_task(server.send("a", 1, seed=1)) for _ in range(20)]
    async with asyncio.timeout(60):
        await store.entered.wait()
    assert server.admission.in_flight == 20
    batches = len(store.batches)
    store.opened.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert len(store.batches) == batches + 1
    assert "on a request before this one: nothing was changed" in str(results[-1])
    store.down = False
    assert await server.send("a", 1, seed=1) == expected[1]  # one that comes later finds out for itself
