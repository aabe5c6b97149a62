"""The store in a file on a full disk: a small one that is mounted for the test, and a limit of the file's length."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import HetsynError, StoreFull, StoreUnusable
from service.store.base import NO_REVISION, Change, CommitResult, Stored
from service.store.file import FileStore
from tests.support.clock import Clock
from tests.support.stores.change import COMMITTED, delete, put
from tests.support.stores.small_disk import fill, small_disk
from tests.support.stores.started_store import StartStore, started

RECORD = bytes(range(256)) * 44  # the size of a session of the speech model
END = b"end" * 200


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 4 * 1024 * 1024) as folder:
        yield folder


async def fill_with_sessions(store: FileStore, prefix: str = "s") -> list[str]:
    """Begin sessions until one is refused. The ids of those that were acknowledged."""
    for n in range(1_000):
        (verdict,) = await store.commit([put(f"{prefix}{n}", NO_REVISION, n + 1, RECORD, keep_s=1e6)])
        if verdict is not COMMITTED:
            assert isinstance(verdict, StoreFull), verdict
            return [f"{prefix}{m}" for m in range(n)]
    raise AssertionError("the disk is not small")


async def assert_kept(store: FileStore, names: list[str]) -> None:
    found = await store.load(names)
    assert all(isinstance(stored, Stored) and stored.record == RECORD for stored in found)


async def test_sessions_go_on_end_and_are_deleted_where_they_have_filled_the_disk(
    disk: Path, start_store: StartStore
) -> None:
    store = await start_store(FileStore(disk / "s.db"))
    names = await fill_with_sessions(store)
    assert len(names) > 150  # of 3.5 MB, beside the reserve
    await store.health()  # measures the room anew
    for n, name in enumerate(names, 1):
        assert await store.commit([put(name, n, n, RECORD, keep_s=1e6)]) == [COMMITTED]
    first, second, third, *others = names
    assert await store.commit([put(first, 1, 5_000, END)]) == [COMMITTED]
    assert await store.commit([delete(second, 2)]) == [COMMITTED]
    assert await store.commit([put(third, 3, 5_001, RECORD[::-1])]) == [COMMITTED]
    # their room is there for new ones, without a restart
    for n, name in enumerate(others[:20], 4):
        assert await store.commit([delete(name, n)]) == [COMMITTED]
    for n in range(20):
        assert await store.commit([put(f"new{n}", NO_REVISION, 6_000 + n, RECORD)]) == [COMMITTED]
    await store.health()
    assert await store.load([first, second, third]) == [Stored(5_000, END), None, Stored(5_001, RECORD[::-1])]
    await assert_kept(store, others[20:])


async def test_a_full_store_deletes_all_sessions_at_once(disk: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(disk / "s.db"))
    names = await fill_with_sessions(store)
    assert await store.commit([delete(name, n) for n, name in enumerate(names, 1)]) == [COMMITTED] * len(names)
    assert len(await fill_with_sessions(store, "new")) >= len(names)


@pytest.mark.parametrize("length", [1_900, 12_000, 16_600])
async def test_all_sessions_go_on_whatever_their_length(tmp_path: Path, start_store: StartStore, length: int) -> None:
    store = await start_store(FileStore(tmp_path / "s.db", max_bytes=1_000_000))
    count = 0
    while isinstance(await only(store, put(f"s{count}", NO_REVISION, 1, bytes(length))), CommitResult):
        count += 1
    assert count * length > 600_000
    await store.health()
    for n in range(count):
        assert await only(store, put(f"s{n}", 1, 2, bytes(length))) is COMMITTED
    assert await only(store, put("s0", NO_REVISION, 3, bytes(length))) is CommitResult.fenced
    assert (tmp_path / "s.db").stat().st_size <= 1_000_000


async def test_new_sessions_leave_no_more_than_a_bound(
    tmp_path: Path, start_store: StartStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a large disk a sixteenth is more than what sessions that go on need."""
    counts = []
    for name in ("a sixteenth", "a page"):
        store = await start_store(FileStore(tmp_path / name, max_bytes=4_000_000))
        counts.append(len(await fill_with_sessions(store)))
        monkeypatch.setattr("service.store.file.SPARE_BYTES", 4_096)
    assert counts[1] - counts[0] > 4_000_000 // 16 // len(RECORD) // 2


async def only(store: FileStore, change: Change) -> CommitResult | HetsynError:
    (result,) = await store.commit([change])
    return result


async def test_what_makes_room_does_not_fail_with_what_needs_it(disk: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(disk / "s.db"))
    names = await fill_with_sessions(store)
    large = put("large", NO_REVISION, 7_000, RECORD * 60)
    batch = [large, delete(names[0], 1), put(names[1], 2, 7_001, END), put("new", NO_REVISION, 7_002, END)]
    refused, *others = await store.commit(batch)
    assert isinstance(refused, StoreFull)
    assert others == [COMMITTED] * 3
    assert await store.load(["large", names[0]]) == [None, None]


async def test_records_whose_time_is_over_make_room_on_a_full_disk(disk: Path, start_store: StartStore) -> None:
    clock = Clock()
    store = await start_store(FileStore(disk / "s.db", wall=clock))
    names = await fill_with_sessions(store)
    clock.now_s += 1e6
    assert await store.expire() == len(names)
    assert len(await fill_with_sessions(store, "again")) > len(names) * 3 // 4


async def test_a_server_starts_where_sessions_have_filled_the_disk(disk: Path) -> None:
    path = disk / "s.db"
    async with started(FileStore(path)) as store:
        names = await fill_with_sessions(store)
    async with started(FileStore(path)) as store:
        await assert_kept(store, names)
        for n, name in enumerate(names[:20], 1):
            assert await store.commit([delete(name, n)]) == [COMMITTED]
        for n in range(20):
            assert await store.commit([put(f"new{n}", NO_REVISION, 6_000 + n, RECORD)]) == [COMMITTED]


def test_a_new_store_on_a_full_disk_is_refused_with_the_remedy(disk: Path) -> None:
    fill(disk / "other")
    with pytest.raises(StoreUnusable, match=f"give the disk of {disk} room, or name a file elsewhere"):
        FileStore(disk / "s.db")


async def test_a_disk_that_others_fill_loses_nothing_and_is_reported_until_it_has_room(
    disk: Path, start_store: StartStore
) -> None:
    store = await start_store(FileStore(disk / "s.db"))
    names = [f"s{n}" for n in range(40)]
    for n, name in enumerate(names):
        assert await store.commit([put(name, NO_REVISION, n + 1, RECORD)]) == [COMMITTED]
    with closing(sqlite3.connect(disk / "s.db")) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    fill(disk / "other")
    with pytest.raises(StoreFull):
        await store.health()
    (refused,) = await store.commit([put(names[0], 1, 100, RECORD)])
    assert isinstance(refused, StoreFull)
    await assert_kept(store, names)
    (disk / "other").unlink()
    await store.health()
    assert await store.commit([put(names[0], 1, 100, RECORD)]) == [COMMITTED]
    assert len(await fill_with_sessions(store, "more")) > 80
    await assert_kept(store, names)
