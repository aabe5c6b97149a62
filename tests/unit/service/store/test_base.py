"""What every store promises, held against each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from service.store.base import NO_REVISION, StateStore, Stored, new_revision
from service.store.file import FileStore
from tests.support.clock import Clock
from tests.support.stores.change import COMMITTED, FENCED, delete, put
from tests.support.stores.memory_store import MemoryStore
from tests.support.stores.started_store import StartStore
from tests.support.stores.store_record import records


async def test_what_is_committed_is_loaded_with_its_revision(store: StateStore) -> None:
    assert await store.load(["a", "b"]) == [None, None]
    content = bytes(range(256)) * 40
    assert (
        await store.commit([put("a", NO_REVISION, 11, content), put("b", NO_REVISION, 2**63 - 1, b"")])
        == [COMMITTED] * 2
    )
    assert await store.load(["b", "x", "a"]) == [Stored(2**63 - 1, b""), None, Stored(11, content)]


async def test_a_change_is_committed_only_on_the_revision_that_it_names(store: StateStore) -> None:
    await store.commit([put("a", NO_REVISION, 1, b"one")])
    for wrong in (NO_REVISION, 2, 2**62):
        assert await store.commit([put("a", wrong, 7, b"wrong")]) == [FENCED]
    assert await store.commit([put("b", 1, 7, b"wrong")]) == [FENCED]
    assert await records(store, "a", "b") == [b"one", None]
    assert await store.commit([put("a", 1, 2, b"two")]) == [COMMITTED]
    assert await store.commit([put("a", 1, 3, b"three")]) == [FENCED]
    assert await store.load(["a"]) == [Stored(2, b"two")]


async def test_each_change_of_a_batch_has_its_own_verdict(store: StateStore) -> None:
    await store.commit([put("a", NO_REVISION, 1), put("b", NO_REVISION, 2)])
    verdicts = await store.commit(
        [put("a", 1, 3, b"a"), put("b", 9, 4, b"b"), put("c", NO_REVISION, 5, b"c"), delete("d", 1), delete("b", 2)]
    )
    assert verdicts == [COMMITTED, FENCED, COMMITTED, FENCED, COMMITTED]
    assert await records(store, "a", "b", "c") == [b"a", None, b"c"]
    assert await store.commit([]) == []
    assert await store.load([]) == []


async def test_a_deleted_session_may_begin_again_and_its_old_revision_is_fenced(store: StateStore) -> None:
    await store.commit([put("a", NO_REVISION, 1)])
    assert await store.commit([delete("a", 2)]) == [FENCED]
    assert await store.commit([delete("a", 1)]) == [COMMITTED]
    assert await store.load(["a"]) == [None]
    assert await store.commit([put("a", 1, 2)]) == [FENCED]
    assert await store.commit([put("a", NO_REVISION, 3, b"new")]) == [COMMITTED]
    assert await store.commit([put("a", 1, 4)]) == [FENCED]
    assert await records(store, "a") == [b"new"]


async def test_a_record_of_any_length_is_deleted(store: StateStore) -> None:
    lengths = range(10)
    await store.commit([put(f"s{length}", NO_REVISION, length + 1, bytes(length)) for length in lengths])
    assert await records(store, *(f"s{length}" for length in lengths)) == [bytes(length) for length in lengths]
    assert await store.commit([delete(f"s{length}", length + 1) for length in lengths]) == [COMMITTED] * 10
    assert await records(store, *(f"s{length}" for length in lengths)) == [None] * 10


async def test_of_many_that_change_one_revision_one_comes_first(
    store: StateStore, make_store: Callable[[], StateStore], start_store: StartStore
) -> None:
    replicas = [store, *[make_store() for _ in range(3)]]
    for replica in replicas[1:]:
        await start_store(replica)
    expected = NO_REVISION
    for round_ in range(10):
        changes = [put("a", expected, 100 * round_ + n + 1, bytes([n])) for n in range(len(replicas))]
        verdicts = await asyncio.gather(
            *(replica.commit([change]) for replica, change in zip(replicas, changes, strict=True))
        )
        first = [n for n, (verdict,) in enumerate(verdicts) if verdict is COMMITTED]
        assert len(first) == 1
        expected = changes[first[0]].revision
        assert await store.load(["a"]) == [Stored(expected, bytes([first[0]]))]


async def test_what_is_kept_long_enough_is_expired_and_may_begin_again(store: StateStore) -> None:
    await store.commit([put("a", NO_REVISION, 1, keep_s=0.05), put("b", NO_REVISION, 2, keep_s=60)])
    async with asyncio.timeout(60):
        while (await store.load(["a"])) != [None]:
            await asyncio.sleep(0.005)
    assert await store.commit([put("a", 1, 3)]) == [FENCED]
    assert await store.commit([put("a", NO_REVISION, 4)]) == [COMMITTED]
    assert await store.load(["a", "b"]) == [Stored(4, b"record"), Stored(2, b"record")]


async def test_a_store_is_well_and_expires(store: StateStore) -> None:
    await store.health()
    assert await store.expire() == 0


def test_nothing_that_is_not_there_can_be_deleted() -> None:
    with pytest.raises(ValueError, match="cannot be deleted"):
        delete("a", NO_REVISION)


def test_revisions_are_never_absent_and_never_the_same() -> None:
    drawn = {new_revision() for _ in range(1000)}
    assert len(drawn) == 1000
    assert all(NO_REVISION < revision < 2**63 for revision in drawn)


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_expire_removes_what_is_over(tmp_path: Path, kind: str, start_store: StartStore) -> None:
    clock = Clock()
    store = await start_store(MemoryStore(clock) if kind == "memory" else FileStore(tmp_path / "s.db", wall=clock))
    await store.commit([put("a", NO_REVISION, 1, keep_s=10), put("b", NO_REVISION, 2, keep_s=20)])
    clock.now_s += 10
    assert await store.load(["a"]) == [None]
    assert await store.expire() == 1
    assert await store.load(["b"]) == [Stored(2, b"record")]
    assert await store.expire() == 0
    clock.now_s += 10
    assert await store.expire() == 1
