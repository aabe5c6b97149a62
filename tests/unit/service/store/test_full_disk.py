"""The store in a file on a full disk: a small one that is mounted for the test, and a limit of the file's length."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import HetsynError, StoreFull, StoreUnusable
from service.store.base import NO_REVISION, CommitResult, Stored
from service.store.file import FileStore
from tests.support.change import COMMITTED, delete, put
from tests.support.clock import Clock
from tests.support.small_disk import fill, small_disk
from tests.support.started_store import StartStore, started

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


async def test_sessions_go_on_end_and_are_deleted_on_a_full_disk(disk: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(disk / "s.db"))
    names = await fill_with_sessions(store)
    assert len(names) > 150  # of 3.5 MB, beside the ballast
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


async def test_what_makes_room_does_not_fail_with_what_needs_it(disk: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(disk / "s.db"))
    names = await fill_with_sessions(store)
    fill(disk / "other")
    large = put("large", NO_REVISION, 7_000, RECORD * 60)
    batch = [large, delete(names[0], 1), put(names[1], 2, 7_001, END), put("new", NO_REVISION, 7_002, END)]
    refused, *others = await store.commit(batch)
    assert isinstance(refused, StoreFull)
    assert others == [COMMITTED] * 3
    assert await store.load(["large", names[0]]) == [None, None]


async def test_records_whose_time_is_over_make_room_on_a_full_disk(disk: Path, start_store: StartStore) -> None:
    clock = Clock()
    store = await start_store(FileStore(disk / "s.db", wall=clock, steady=clock))
    names = await fill_with_sessions(store)
    fill(disk / "other")
    clock.now_s += 1e6
    removed = 0
    while count := await store.expire():
        removed += count
    assert removed == len(names)
    assert len(await fill_with_sessions(store, "again")) > len(names) * 3 // 4


async def test_a_disk_that_another_program_fills_loses_nothing_and_is_noticed_again(
    disk: Path, caplog: pytest.LogCaptureFixture, start_store: StartStore
) -> None:
    caplog.set_level(logging.INFO, "hetsyn.store")
    store = await start_store(FileStore(disk / "s.db"))
    names = [f"s{n}" for n in range(40)]
    assert await store.commit([put(name, NO_REVISION, n + 1, RECORD) for n, name in enumerate(names)]) == [
        COMMITTED
    ] * len(names)
    fill(disk / "other")
    assert len(await fill_with_sessions(store, "few")) < 40
    assert "its disk is full" in caplog.text
    fill(disk / "other")  # it takes what the ballast had
    await store.health()  # sessions go on, in the room of the log
    assert [await store.commit([put(name, n + 1, n + 100, END)]) for n, name in enumerate(names[:20])] == [
        [COMMITTED]
    ] * 20
    assert len(await fill_with_sessions(store, "new")) < 30
    (disk / "other").unlink()
    await store.health()
    assert "has room again" in caplog.text
    assert len(await fill_with_sessions(store, "more")) > 80
    await assert_kept(store, names[20:])


@pytest.mark.parametrize("is_killed", [False, True])
async def test_a_server_starts_on_a_full_disk_and_makes_room(disk: Path, is_killed: bool) -> None:
    path = disk / "s.db"
    store = FileStore(path)
    names = await fill_with_sessions(store)
    if is_killed:
        # what a killed process leaves: the files as they are
        left = {file.name: file.read_bytes() for file in disk.iterdir()}
    await store.close()
    if is_killed:
        for file in disk.iterdir():
            file.unlink()
        for name, content in left.items():
            (disk / name).write_bytes(content)
    async with started(FileStore(path)) as store:
        await assert_kept(store, names)
        for n, name in enumerate(names[:20], 1):
            assert await store.commit([delete(name, n)]) == [COMMITTED]
        for n in range(20):
            assert await store.commit([put(f"new{n}", NO_REVISION, 6_000 + n, RECORD)]) == [COMMITTED]
    async with started(FileStore(path)) as store:
        await assert_kept(store, names[20:])


async def test_two_servers_share_the_ballast(disk: Path, start_store: StartStore) -> None:
    """One that has not seen the full disk does not take the room that the other has given up."""
    one = await start_store(FileStore(disk / "s.db"))
    two = await start_store(FileStore(disk / "s.db"))
    names = await fill_with_sessions(one)
    (refused,) = await two.commit([put("large", NO_REVISION, 9_000, RECORD * 20)])
    assert isinstance(refused, StoreFull)
    for n, name in enumerate(names[:40], 1):
        assert await (one, two)[n % 2].commit([delete(name, n)]) == [COMMITTED]
    results: list[CommitResult | HetsynError] = []
    for n in range(20):
        results += await (one, two)[n % 2].commit([put(f"new{n}", NO_REVISION, 6_000 + n, RECORD)])
    assert results == [COMMITTED] * 20
    await assert_kept(two, names[40:])


def test_a_new_store_on_a_full_disk_is_refused_with_the_remedy(disk: Path) -> None:
    fill(disk / "other")
    with pytest.raises(StoreUnusable, match=f"give the disk of {disk} room, or name a file elsewhere"):
        FileStore(disk / "s.db")


async def test_the_ballast_is_there_before_it_is_needed(tmp_path: Path, start_store: StartStore) -> None:
    path = tmp_path / "s.db"
    await start_store(FileStore(path))
    ballast = tmp_path / "s.db-ballast"
    assert ballast.stat().st_blocks * 512 >= ballast.stat().st_size > 4_000_000


async def test_max_bytes_is_no_full_disk(tmp_path: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(tmp_path / "s.db", max_bytes=1_000_000))
    names = await fill_with_sessions(store)
    assert (tmp_path / "s.db-ballast").exists()
    await store.health()
    assert await store.commit([delete(name, n) for n, name in enumerate(names[:10], 1)]) == [COMMITTED] * 10
    assert await store.commit([put("new", NO_REVISION, 5_000, RECORD)]) == [COMMITTED]


async def test_a_large_batch_is_cut_so_that_the_log_stays_shorter_than_the_ballast(
    disk: Path, start_store: StartStore
) -> None:
    store = await start_store(FileStore(disk / "s.db"))
    batch = [put(f"s{n}", NO_REVISION, n + 1, RECORD * 10) for n in range(16)]  # 1.8 MB
    assert await store.commit(batch) == [COMMITTED] * 16
    assert (disk / "s.db-wal").stat().st_size < 512 * 1024
    with closing(sqlite3.connect(disk / "s.db")) as other:
        assert other.execute("SELECT count(*) FROM sessions").fetchone() == (16,)


async def test_a_disk_on_which_no_change_is_possible_is_reported_until_it_has_room(
    disk: Path, start_store: StartStore
) -> None:
    """Another program took the ballast's room before the server could."""
    store = await start_store(FileStore(disk / "s.db"))
    assert await store.commit([put("a", NO_REVISION, 1, RECORD)]) == [COMMITTED]
    with closing(sqlite3.connect(disk / "s.db")) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (disk / "s.db-ballast").unlink()
    fill(disk / "other")
    with pytest.raises(StoreFull):
        await store.health()
    (refused,) = await store.commit([put("a", 1, 2, RECORD)])
    assert isinstance(refused, StoreFull)
    (disk / "other").unlink()
    await store.health()
    assert await store.commit([put("a", 1, 2, RECORD)]) == [COMMITTED]


async def test_a_disk_that_fills_while_somebody_reads_the_file_is_no_dead_end(
    disk: Path, start_store: StartStore
) -> None:
    """As a backup does. Until it ends, the log takes what changes, and nothing of it can be written back."""
    store = await start_store(FileStore(disk / "s.db"))
    await store.commit([put("first", NO_REVISION, 1, RECORD)])
    with closing(sqlite3.connect(disk / "s.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sessions").fetchall()
        names = await fill_with_sessions(store)
        assert (disk / "s.db").stat().st_size < 200_000
    await assert_kept(store, names)
    first, second, *others = names
    assert await store.commit([delete(first, 1)]) == [COMMITTED]
    assert await store.commit([put(second, 2, 5_001, END)]) == [COMMITTED]
    for n, name in enumerate(others[:20], 3):
        assert await store.commit([delete(name, n)]) == [COMMITTED]
    for n in range(10):
        assert await store.commit([put(f"new{n}", NO_REVISION, 6_000 + n, RECORD)]) == [COMMITTED]
    await store.health()
    await assert_kept(store, others[20:])
