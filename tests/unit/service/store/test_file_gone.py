"""The store in a file whose file somebody deletes, replaces or cuts off while a server has it open."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import StoreUnusable
from service.store.base import NO_REVISION, Stored
from service.store.file import FileStore
from tests.support.change import COMMITTED, put
from tests.support.paths import ROOT
from tests.support.started_store import StartStore, started


def copy(path: Path) -> Path:
    """A whole copy of a store, as a backup has it."""
    target = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as other:
        source.backup(other)
        other.execute("PRAGMA journal_mode = DELETE")
    return target


def delete_all(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


def replace(path: Path) -> None:
    copy(path).rename(path)


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def delete_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def delete_index(path: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def stranger(path: Path) -> None:
    """Another server's new database at the path."""
    delete_all(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE sessions (id)")


FAULTS: list[Callable[[Path], None]] = [delete_all, replace, truncate, delete_log, delete_index, move_folder, stranger]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "s.db"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("notices", ["commit", "load", "health", "expire"])
async def test_a_file_that_has_gone_is_noticed_by_the_next_request_and_stays_refused(
    path: Path, fault: Callable[[Path], None], notices: str, start_store: StartStore
) -> None:
    store = await start_store(FileStore(path))
    assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
    fault(path)
    if notices == "commit":
        (answer,) = await store.commit([put("a", 1, 2)])
        assert isinstance(answer, StoreUnusable)
    elif notices == "load":
        answers = await store.load(["a", "b"])
        assert all(isinstance(answer, StoreUnusable) for answer in answers)
    else:
        with pytest.raises(StoreUnusable):
            await (store.health() if notices == "health" else store.expire())
    with pytest.raises(StoreUnusable, match=r"while the server had it open.*stop all servers.*start them again"):
        await store.health()
    (found,) = await store.load(["a"])
    assert isinstance(found, StoreUnusable)


async def test_a_shorter_copy_that_is_written_over_the_file_is_noticed(path: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(path))
    large = bytes(100_000)
    assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
    older = copy(path)
    assert await store.commit([put("b", NO_REVISION, 2, large)]) == [COMMITTED]
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
    assert await store.load(["a"]) == [Stored(1, b"record")]
    shutil.copyfile(older, path)
    with pytest.raises(StoreUnusable, match="was cut off"):
        await store.health()


async def test_the_path_may_be_a_link(path: Path, start_store: StartStore) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to(elsewhere / "real.db")
    for n in range(2):
        store = await start_store(FileStore(path))
        assert await store.commit([put(f"s{n}", NO_REVISION, 1)]) == [COMMITTED]
        assert {file.name for file in elsewhere.iterdir()} >= {"real.db", "real.db-wal", "real.db-ballast"}
        assert list(path.parent.iterdir()) in ([path, elsewhere], [elsewhere, path])
    (elsewhere / "real.db").rename(elsewhere / "other.db")
    with pytest.raises(StoreUnusable, match=r"s\.db was deleted"):
        await store.health()


@pytest.mark.parametrize("left", [0, 20_000])
@pytest.mark.parametrize("notices", ["commit", "load"])
async def test_a_log_that_is_cut_off_is_noticed_before_the_next_write(
    path: Path, left: int, notices: str, start_store: StartStore
) -> None:
    store = await start_store(FileStore(path))
    assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
    for n in range(10):
        assert await store.commit([put(f"s{n}", NO_REVISION, 1)]) == [COMMITTED]
    os.truncate(f"{path}-wal", left)
    (answer,) = await (store.load(["a"]) if notices == "load" else store.commit([put("late", NO_REVISION, 1)]))
    assert isinstance(answer, StoreUnusable)
    assert "s.db-wal was cut off" in str(answer)
    copied = path.with_name("copy.db")  # the next server's recovery takes what the log still has
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{copied}{suffix}")
    later = await start_store(FileStore(copied))
    assert await later.load(["a", "late"]) == [Stored(1, b"record"), None]


async def test_a_log_that_sqlite_cuts_off_is_whole(path: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(path))
    for n in range(4):
        assert await store.commit([put(f"s{n}", NO_REVISION, 1, bytes(9_000))]) == [COMMITTED]
        if n % 2:
            with closing(sqlite3.connect(path)) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            assert path.with_name("s.db-wal").stat().st_size == 0
    await store.health()
    assert None not in await store.load([f"s{n}" for n in range(4)])


async def test_a_deleted_log_loses_nothing_that_was_acknowledged(path: Path) -> None:
    async with started(FileStore(path)) as store:
        for n in range(5):
            assert await store.commit([put(f"s{n}", NO_REVISION, n + 1)]) == [COMMITTED]
        delete_log(path)
        (refused,) = await store.commit([put("late", NO_REVISION, 9)])
        assert isinstance(refused, StoreUnusable)
        assert "s.db-wal was deleted" in str(refused)
        async with started(FileStore(path)) as other:  # as after a kill: the first was not closed
            assert await other.load([f"s{n}" for n in range(5)]) == [Stored(n + 1, b"record") for n in range(5)]


# A program of its own: SQLite closes what is left open when its process ends
ENDS = """
import asyncio, sys
from pathlib import Path
from service.errors import StoreUnusable
from service.store.base import Change
from service.store.file import FileStore

async def main(path):
    store = FileStore(path)
    await store.commit([Change("a", 0, 1, b"record", 60.0)])
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    print("deleted", flush=True)
    sys.stdin.readline()
    (answer,) = await store.load(["a"])
    assert isinstance(answer, StoreUnusable), answer
    await store.close()

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_the_end_of_a_server_whose_file_has_gone_takes_nothing_from_the_next(path: Path) -> None:
    """SQLite's last connection deletes the log at the path, which is another server's by then."""
    old = subprocess.Popen(
        [sys.executable, "-c", ENDS, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert old.stdin is not None
    assert old.stdout is not None
    with old:
        try:
            assert old.stdout.readline() == b"deleted\n"
            async with started(FileStore(path)) as store:
                assert await store.commit([put("b", NO_REVISION, 1)]) == [COMMITTED]
                old.stdin.write(b"\n")
                old.stdin.close()
                assert old.wait(timeout=30) == 0
                assert await store.commit([put("c", NO_REVISION, 2)]) == [COMMITTED]
                await store.health()
        finally:
            if old.poll() is None:
                old.send_signal(signal.SIGKILL)
