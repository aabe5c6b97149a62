"""The store in a file whose file somebody deletes or replaces while a server has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from service.errors import StoreUnusable
from service.store.base import NO_REVISION, Stored
from service.store.file import FileStore
from tests.support.stores.change import COMMITTED, put
from tests.support.stores.started_store import StartStore, started


def delete_all(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()


def replace(path: Path) -> None:
    """A backup takes its place."""
    target = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as other:
        source.backup(other)
    target.rename(path)


def delete_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


FAULTS: list[Callable[[Path], None]] = [delete_all, replace, delete_log, move_folder]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder / "s.db"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_file_that_has_gone_is_noticed_by_the_next_check_and_stays_refused(
    path: Path, fault: Callable[[Path], None], start_store: StartStore
) -> None:
    store = await start_store(FileStore(path))
    assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
    await store.health()
    fault(path)
    with pytest.raises(StoreUnusable, match=r"deleted or replaced while the server had it open.*start them again"):
        await store.health()
    (found,) = await store.load(["a"])
    (changed,) = await store.commit([put("a", 1, 2)])
    assert isinstance(found, StoreUnusable)
    assert isinstance(changed, StoreUnusable)
    with pytest.raises(StoreUnusable):
        await store.expire()


async def test_the_path_may_be_a_link(path: Path, start_store: StartStore) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to(elsewhere / "real.db")
    async with started(FileStore(path)) as store:
        assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
        await store.health()
    store = await start_store(FileStore(path))
    assert await store.load(["a"]) == [Stored(1, b"record")]
    (elsewhere / "real.db").rename(elsewhere / "other.db")
    with pytest.raises(StoreUnusable, match=r"s\.db was deleted"):
        await store.health()
