"""What only the store in a file can get wrong."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.errors import HetsynError, StateCorrupt, StoreFull, StoreUnavailable, StoreUnusable
from service.store import database
from service.store.base import NO_REVISION, Change, CommitResult, Stored
from service.store.file import FileStore
from tests.support.clock import Clock
from tests.support.stores.change import COMMITTED, put
from tests.support.stores.started_store import StartStore, started
from tests.support.stores.store_record import records


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    with pytest.raises(StoreUnusable, match=f"there is no folder {folder} .* mkdir -p {folder}, or name a file elsewh"):
        FileStore(folder / "s.db")


@pytest.mark.parametrize(
    ("forbidden", "sentence"),
    [("folder", "may not write to .*: change its owner or its permissions"), ("file", "may not read and write it: ")],
)
def test_missing_permissions_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str, sentence: str
) -> None:
    path = tmp_path / "s.db"
    path.touch()
    target = {"folder": tmp_path, "file": path}[forbidden]

    def refuse(*_: object, **__: object) -> sqlite3.Connection:  # root may do everything, so the refusal is made
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("os.access", lambda asked, mode: asked != target or not mode & os.W_OK)
    with pytest.raises(StoreUnusable, match=sentence):
        FileStore(path, connect=refuse)


async def test_all_that_is_over_is_removed_and_others_have_their_turn(tmp_path: Path, start_store: StartStore) -> None:
    clock = Clock()
    store = await start_store(FileStore(tmp_path / "s.db", wall=clock))
    order: list[str] = []
    await store.commit([put(f"s{n}", NO_REVISION, n + 1, keep_s=10) for n in range(1_200)])
    await store.commit([put("stays", NO_REVISION, 2_000, keep_s=100)])
    clock.now_s += 10

    async def remove() -> None:
        assert await store.expire() == 1_200
        order.append("removed")

    async def chunk() -> None:
        assert await store.commit([put("new", NO_REVISION, 3_000)]) == [COMMITTED]
        order.append("committed")

    await asyncio.gather(remove(), chunk())
    assert order == ["committed", "removed"]
    other = sqlite3.connect(tmp_path / "s.db")
    assert set(other.execute("SELECT id FROM sessions")) == {("stays",), ("new",)}
    other.close()


async def test_a_file_keeps_its_sessions(tmp_path: Path) -> None:
    async with started(FileStore(tmp_path / "s.db")) as store:
        await store.commit([put("a", NO_REVISION, 1, b"kept")])
    async with started(FileStore(tmp_path / "s.db", synchronous="normal")) as store:
        assert await store.load(["a"]) == [Stored(1, b"kept")]


async def test_the_file_and_those_beside_it_are_for_their_user_alone(tmp_path: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(tmp_path / "s.db"))
    assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {
        "s.db": "0o600", "s.db-wal": "0o600", "s.db-shm": "0o600"
    }  # fmt: skip


async def test_a_batch_is_one_transaction(tmp_path: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(tmp_path / "s.db"))
    statements: list[str] = []
    store._thread.submit(lambda: store._database.set_trace_callback(statements.append)).result()
    assert await store.commit([put(f"s{n}", NO_REVISION, n + 1) for n in range(64)]) == [COMMITTED] * 64
    words = [word for statement in statements if (word := statement.split()[0]) != "PRAGMA"]
    assert words == ["BEGIN", *["INSERT"] * 64, "COMMIT"]


async def test_what_is_too_large_for_max_bytes_is_refused_alone(tmp_path: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(tmp_path / "s.db", max_bytes=100_000))
    assert await store.commit([put("a", NO_REVISION, 1, b"small")]) == [COMMITTED]
    too_large, small = await store.commit([put("a", 1, 2, bytes(200_000)), put("b", NO_REVISION, 3)])
    assert isinstance(too_large, StoreFull)
    assert "full" in str(too_large)
    assert small is COMMITTED
    assert await store.load(["a", "b"]) == [Stored(1, b"small"), Stored(3, b"record")]
    await store.health()  # a small record still fits
    assert await store.commit([put("a", 1, 2, b"less")]) == [COMMITTED]


async def test_a_locked_file_is_unavailable_and_recovers(tmp_path: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(tmp_path / "s.db"))
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    (verdict,) = await store.commit([put("a", NO_REVISION, 1)])
    assert isinstance(verdict, StoreUnavailable)
    assert "locked" in str(verdict)
    other.execute("ROLLBACK")
    other.close()
    assert await store.commit([put("a", NO_REVISION, 2)]) == [COMMITTED]


@pytest.mark.parametrize("failure", [None, sqlite3.OperationalError("late")])
async def test_a_file_that_does_not_answer_in_time_is_unavailable_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_store: StartStore, failure: Exception | None
) -> None:
    store = await start_store(FileStore(tmp_path / "s.db", timeout_s=0.05))
    goes_on, load = threading.Event(), store._load

    def waits(sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        assert goes_on.wait(timeout=60)
        if failure is not None:
            raise failure
        return load(sessions)

    monkeypatch.setattr(store, "_load", waits)
    answers = await store.load(["a", "b"])
    assert len(answers) == 2
    assert all(isinstance(answer, StoreUnavailable) and "within 0.05 s" in str(answer) for answer in answers)
    goes_on.set()
    monkeypatch.undo()
    async with asyncio.timeout(60):
        while await store.load(["a"]) != [None]:
            await asyncio.sleep(0.001)


async def test_what_is_done_while_the_event_loop_stands_still_is_done(tmp_path: Path, start_store: StartStore) -> None:
    store = await start_store(FileStore(tmp_path / "s.db", timeout_s=0.2))
    commit = asyncio.create_task(store.commit([put("a", NO_REVISION, 1)]))
    await asyncio.sleep(0)
    store._thread.submit(time.sleep, 0.3).result()  # on the thread after the commit; the event loop stands still
    assert await commit == [COMMITTED]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="Is a directory"):
        FileStore(tmp_path)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"x"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(StoreUnusable, match="cannot be used as a session store"):
        FileStore(path)
    assert path.read_bytes() == content


def test_another_program_s_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE sessions (id)")
    other.close()
    with pytest.raises(StoreUnusable, match="not a session store"):
        FileStore(path)


async def test_another_version_s_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with started(FileStore(path)) as store:
        await store.health()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(StoreUnusable, match="version 7, but this server needs 1"):
        FileStore(path)


async def test_a_damaged_file_is_refused_at_the_start_or_reaches_those_it_touches(tmp_path: Path) -> None:
    """Every page in turn is overwritten: nothing is answered but what was stored, or an error."""
    path = tmp_path / "s.db"
    names = [f"session-{n}" for n in range(20)]
    content = bytes(range(256)) * 40
    async with started(FileStore(path)) as store:
        await store.commit([put(name, NO_REVISION, n + 1, content) for n, name in enumerate(names)])
    intact = path.read_bytes()
    refused = 0
    for begin in range(0, len(intact), 4096):
        path.write_bytes(intact[:begin] + b"\xff" * 4096 + intact[begin + 4096 :])
        try:
            async with started(FileStore(path)) as store:
                for n, found in enumerate(await store.load(names)):
                    if isinstance(found, Stored):
                        # a record that SQLite cannot tell to be damaged is for the packing's checksum
                        assert found.revision == n + 1
                    else:
                        assert isinstance(found, HetsynError)
        except StoreUnusable:
            refused += 1
    assert refused


async def test_a_malformed_page_is_reported_as_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "s.db")
    commit_one = store._commit_one

    def bad_commit(change: Change, now_s: float) -> CommitResult | HetsynError:
        if change.session == "bad":
            raise sqlite3.DatabaseError("database disk image is malformed")
        return commit_one(change, now_s)

    monkeypatch.setattr(store, "_commit_one", bad_commit)
    async with started(store):
        verdicts = await store.commit([put("a", NO_REVISION, 1), put("bad", NO_REVISION, 2), put("c", NO_REVISION, 3)])
        assert verdicts[0] is COMMITTED
        assert isinstance(verdicts[1], StateCorrupt)
        assert verdicts[2] is COMMITTED
        assert await records(store, "a", "bad", "c") == [b"record", None, b"record"]


def test_opening_waits_while_another_server_makes_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sessions.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE other (id)")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            other.execute("ROLLBACK")

    monkeypatch.setattr("service.store.database.time.sleep", pause)
    database.open_database(path, "full").close()
    other.close()
    assert len(pauses) == 2
