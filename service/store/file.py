"""A store in a file: SQLite with a write-ahead log, one transaction a batch, on a thread of its own.

With ``synchronous=FULL`` a transaction waits until the disk has it, so an acknowledged chunk survives a power failure
as well as a killed process. With ``normal`` it does not wait: a power failure may lose the last transactions, a killed
process loses none. Several servers of one machine may share the file. It must not be on a network file system, where
SQLite's locks do not work.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from service.errors import HetsynError, StateCorrupt, StateForeign, StoreUnavailable, StoreUnusable
from service.store.base import FOREIGN_REVISION, NO_REVISION, Change, CommitResult, Stored

T = TypeVar("T")
Synchronous = Literal["full", "normal"]

APPLICATION_ID = 0x48535331  # "HSS1", in the file's header
SCHEMA_VERSION = 1
EXPIRE_ROWS = 500  # in one transaction; chunks wait behind it

_HEADER = b"SQLite format 3\0"
_SCHEMA = """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY, revision INTEGER NOT NULL, keep_until_s REAL NOT NULL, record BLOB NOT NULL
    );
    CREATE INDEX sessions_keep_until_s ON sessions (keep_until_s);
"""
_INSERT = """
    INSERT INTO sessions (id, revision, keep_until_s, record) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET revision = ?2, keep_until_s = ?3, record = ?4 WHERE keep_until_s <= ?5
"""
_UPDATE = """
    UPDATE sessions SET revision = ?2, keep_until_s = ?3, record = ?4
    WHERE id = ?1 AND revision = ?6 AND keep_until_s > ?5
"""
_IS_FOREIGN = "(typeof(record) != 'blob' OR typeof(revision) != 'integer')"
_REPLACE_FOREIGN = f"""
    UPDATE sessions SET revision = ?2, keep_until_s = ?3, record = ?4 WHERE id = ?1 AND keep_until_s > ?5 AND {_IS_FOREIGN}
"""
_DELETE_FOREIGN = f"DELETE FROM sessions WHERE id = ? AND keep_until_s > ? AND {_IS_FOREIGN}"
_DELETE = "DELETE FROM sessions WHERE id = ? AND revision = ? AND keep_until_s > ?"
_LOAD = "SELECT revision, record FROM sessions WHERE id = ? AND keep_until_s > ?"
_EXPIRE = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE keep_until_s <= ? LIMIT ?)"


class FileStore:
    """A ``StateStore`` in a SQLite file.

    Args:
        path: of the database; created if it does not exist.
        timeout_s: time for one batch, waiting for another process's lock included.
        synchronous: see above.
        max_bytes: largest size of the database's file; None means no limit but the disk's.
        clock: seconds since 1970, for the removal of records.

    Raises:
        StoreUnusable: the file cannot be opened or created, is damaged, or is not a store of this version.
    """

    name = "file"

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float = 2.0,
        synchronous: Synchronous = "full",
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="file-store")
        try:
            self._database = self._thread.submit(self._open, synchronous, max_bytes).result()
        except sqlite3.Error as error:
            self._thread.shutdown()
            raise StoreUnusable(f"{path}: cannot be used as a session store: {_advice(path, error)}") from error
        except StoreUnusable:
            self._thread.shutdown()
            raise

    async def start(self) -> None:
        pass  # __init__ has checked the file

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        try:
            return await self._on_thread(lambda: self._load(sessions))
        except StoreUnavailable as error:
            return [error for _ in sessions]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        try:
            return await self._on_thread(lambda: self._commit(changes))
        except StoreUnavailable as error:
            return [error for _ in changes]

    async def expire(self) -> int:
        removed, count = 0, EXPIRE_ROWS
        while count == EXPIRE_ROWS:  # chunks that arrive meanwhile go before the next transaction
            count = await self._on_thread(self._expire)
            removed += count
        return removed

    async def health(self) -> None:
        await self._on_thread(lambda: self._database.execute("SELECT 1 FROM sessions LIMIT 1").fetchall())

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    def _open(self, synchronous: Synchronous, max_bytes: int | None) -> sqlite3.Connection:
        _check_is_database(self._path)
        # waiting for a lock ends before the batch does, so that the error says "locked"
        database = sqlite3.connect(self._path, timeout=self._timeout_s / 2, isolation_level=None)
        try:
            is_new = _is_new(database)
            self._check_schema(database, is_new)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(f"PRAGMA synchronous = {synchronous}")
            if max_bytes is not None:
                database.execute(f"PRAGMA max_page_count = {max(1, max_bytes // _pragma(database, 'page_size'))}")
            if is_new:
                # in one transaction, which checks again: another server may be creating the tables too
                database.execute("BEGIN IMMEDIATE")
                if _is_new(database):
                    for statement in _SCHEMA.split(";")[:-1]:
                        database.execute(statement)
                    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                database.execute("COMMIT")
                self._check_schema(database, False)
            ((verdict,), *_) = database.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise StoreUnusable(
                    f"{self._path}: is damaged ({verdict}): restore a copy, or move the file away, which ends its "
                    "sessions"
                )
        except BaseException:
            database.close()
            raise
        return database

    def _check_schema(self, database: sqlite3.Connection, is_new: bool) -> None:
        """Check that an existing database is a store of this version.

        Raises:
            StoreUnusable: the database is another program's, or of another version.
        """
        if is_new:
            return
        if _pragma(database, "application_id") != APPLICATION_ID:
            raise StoreUnusable(f"{self._path}: is a database, but not a session store: name another file")
        version = _pragma(database, "user_version")
        if version != SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self._path}: is a session store of version {version}, but this server needs {SCHEMA_VERSION}: "
                "name another file, or let its sessions end on a server of their own version"
            )

    def _expire(self) -> int:
        return self._database.execute(_EXPIRE, (self._clock(), EXPIRE_ROWS)).rowcount

    def _load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        now_s = self._clock()
        return [self._load_one(session, now_s) for session in sessions]

    def _load_one(self, session: str, now_s: float) -> Stored | HetsynError | None:
        try:
            row = self._database.execute(_LOAD, (session, now_s)).fetchone()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            return _damaged(session, error)
        if row is None:
            return None
        revision, record = row
        if not (isinstance(record, bytes) and isinstance(revision, int)):
            return StateForeign(
                f"session {session!r}: the store's row under this id is not a session record: "
                "delete the session to free the id, or begin another, under a new id"
            )
        return Stored(revision, record)

    def _commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        try:
            return self._transaction(changes)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            if len(changes) == 1:
                return [_damaged(changes[0].session, error)]
            # one by one: only the sessions that the damage touches fail
            return [result for change in changes for result in self._commit([change])]

    def _transaction(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        now_s = self._clock()
        self._database.execute("BEGIN IMMEDIATE")
        try:
            results: list[CommitResult | HetsynError] = [self._commit_one(change, now_s) for change in changes]
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # after some errors SQLite has rolled back already
                self._database.execute("ROLLBACK")
            raise
        return results

    def _commit_one(self, change: Change, now_s: float) -> CommitResult:
        values = (change.session, change.revision, now_s + change.keep_s, change.record, now_s)
        if change.record is None and change.expected == FOREIGN_REVISION:
            cursor = self._database.execute(_DELETE_FOREIGN, (change.session, now_s))
        elif change.record is None:
            cursor = self._database.execute(_DELETE, (change.session, change.expected, now_s))
        elif change.expected == NO_REVISION:
            cursor = self._database.execute(_INSERT, values)
        elif change.expected == FOREIGN_REVISION:
            cursor = self._database.execute(_REPLACE_FOREIGN, values)
        else:
            cursor = self._database.execute(_UPDATE, (*values, change.expected))
        return CommitResult.committed if cursor.rowcount else CommitResult.fenced

    async def _on_thread(self, function: Callable[[], T]) -> T:
        """Call a function on the store's thread.

        Raises:
            StoreUnavailable: it failed, or did not return in time; it may still do its work.
        """
        call = asyncio.get_running_loop().run_in_executor(self._thread, function)
        try:
            return await asyncio.wait_for(asyncio.shield(call), self._timeout_s)
        except TimeoutError as error:
            call.add_done_callback(_retrieve)
            raise StoreUnavailable(
                f"the session store did not answer within {self._timeout_s:g} s: send the chunk again"
            ) from error
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"the session store failed ({error}): send the chunk again later") from error


def _damaged(session: str, error: sqlite3.DatabaseError) -> StateCorrupt:
    return StateCorrupt(
        f"session {session!r}: the store's file is damaged where it is kept ({error}): restore a copy, "
        "or begin another session, under a new id"
    )


def _retrieve(call: asyncio.Future[T]) -> None:
    """Retrieve the exception of a call whose caller has left: asyncio would log it."""
    if not call.cancelled():
        call.exception()


def _check_is_database(path: Path) -> None:
    """Check that a file, if it exists, is empty or a SQLite database.

    SQLite takes a file of a few bytes for an empty database, and would write over it.

    Raises:
        StoreUnusable: the file is something else.
    """
    try:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnusable(f"{path}: cannot be used as a session store: {_advice(path, error)}") from error
    if header not in (b"", _HEADER):
        raise StoreUnusable(f"{path}: cannot be used as a session store: it is another file; name a new one")


def _advice(path: Path, error: sqlite3.Error | OSError) -> str:
    """Why a store's file cannot be opened, and what to do."""
    folder = path.parent
    if not os.access(folder, os.X_OK):
        return f"there is no folder {folder} that this user may enter: mkdir -p {folder}, or name a file elsewhere"
    if not os.access(folder, os.W_OK):
        return f"this user may not write to {folder}: change its owner or its permissions, or name a file elsewhere"
    if path.is_file() and not os.access(path, os.R_OK | os.W_OK):
        return "this user may not read and write it: change its owner or its permissions, or name another file"
    return f"{error}: name a file that can be written, or move this one away"


def _is_new(database: sqlite3.Connection) -> bool:
    (count,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not count


def _pragma(database: sqlite3.Connection, name: str) -> int:
    value = database.execute(f"PRAGMA {name}").fetchone()[0]
    return int(value)
