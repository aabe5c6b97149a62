"""A store in a file: SQLite with a write-ahead log, one transaction a batch, on its own thread.

With ``synchronous=FULL`` a transaction waits for the disk, so an acknowledged chunk survives a power failure and a
killed process. With ``normal`` it does not wait: a power failure may lose the last transactions, a killed process none.
Several servers of one machine may share the file. It must not be on a network file system, where SQLite's locks do not
work.

Two reserves keep a full store working. Every change needs room in the log, even a deletion: so the database leaves a
part of the disk free. An open session may need another page, for the index or its record: so new sessions are refused
while some pages are free. Open sessions then go on, end and expire, which makes room for new ones. If other programs
fill the disk, no change is possible until somebody makes room.

If the file or its log is deleted or replaced, the next check notices, and the store refuses everything until the server
is started again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from service.clock import Clock, Executors
from service.errors import (
    HetsynError,
    StateCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from service.keys.ids import client_id
from service.store.base import NO_REVISION, Change, CommitResult, Stored
from service.store.database import SCHEMA_VERSION, Connect, Synchronous, advice, has_no_room, open_database, pragma

T = TypeVar("T")

EXPIRE_ROWS = 500  # rows of one transaction; chunks wait for it
LOG_PAGES = 1000  # the log is written back at this length: SQLite's default
MAX_PAGES = 2**32 - 2  # SQLite's own limit
SPARE_SHARE, SPARE_BYTES = 16, 256_000_000  # new sessions leave every 16th page free, at most these bytes
RESERVE_BYTES, RESERVE_SHARE = 16_000_000, 8  # reserve for the log on the disk, at most an eighth of the disk

_INSERT = """
    INSERT INTO sessions (id, revision, keep_until_s, record) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET revision = ?2, keep_until_s = ?3, record = ?4 WHERE keep_until_s <= ?5
"""
_UPDATE = """
    UPDATE sessions SET revision = ?2, keep_until_s = ?3, record = ?4
    WHERE id = ?1 AND revision = ?6 AND keep_until_s > ?5
"""
_DELETE = "DELETE FROM sessions WHERE id = ? AND revision = ? AND keep_until_s > ?"
_LOAD = "SELECT revision, record FROM sessions WHERE id = ? AND keep_until_s > ?"
_LENGTH = "SELECT length(record) FROM sessions WHERE id = ?"
_EXPIRE = """
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM (
            SELECT id, sum(bytes) OVER (ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before FROM (
                SELECT id, length(record) AS bytes FROM sessions WHERE keep_until_s <= ? ORDER BY keep_until_s LIMIT ?
            )
        ) WHERE bytes_before < ?
    )
"""


class FileStore:
    """A ``StateStore`` in a SQLite file.

    Args:
        path: the database; created if it does not exist.
        timeout_s: time limit for one batch, with the wait for another process's lock.
        max_bytes: limit of the database's file; None: the disk.
        wall: seconds since 1970.
        executors: makes the store's thread.
        connect: opens the database.

    Raises:
        StoreUnusable: the file cannot be opened or created, is damaged, or is not a store of this version.
    """

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float = 2.0,
        synchronous: Synchronous = "full",
        max_bytes: int | None = None,
        wall: Clock = time.time,
        executors: Executors = ThreadPoolExecutor,
        connect: Connect = sqlite3.connect,
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._gone = ""  # why the file is no longer usable
        self._wall = wall
        self._connect = connect
        self._thread = executors(1, "file-store")
        try:
            self._thread.submit(self._open, synchronous).result()
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            raise StoreUnusable(f"{path}: cannot be used as a session store: {advice(path, error)}") from error
        except StoreUnusable:
            self._thread.shutdown()
            raise

    def lane(self, session: str) -> Hashable:  # noqa: ARG002
        return None

    async def start(self) -> None:
        pass  # __init__ has checked the file

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        try:
            return await self._on_thread(lambda: self._load(sessions))
        except StoreError as error:
            return [error for _ in sessions]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        try:
            return await self._on_thread(lambda: self._commit(changes))
        except StoreError as error:
            return [error for _ in changes]

    async def expire(self) -> int:
        removed = 0
        while count := await self._on_thread(self._expire):
            removed += count  # waiting chunks run before the next transaction
        return removed

    async def health(self) -> None:
        await self._on_thread(self._check)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    def _open(self, synchronous: Synchronous) -> None:
        self._database = open_database(self._path, synchronous, self._connect)
        try:
            self._files = {file: _identity(file) for file in (self._path, _log(self._path))}
            self._page_bytes = pragma(self._database, "page_size")
            log_pages = max(1, min(LOG_PAGES, self._reserve_bytes // 2 // self._page_bytes))
            self._database.execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
            self._transaction_bytes = self._reserve_bytes // 4
            self._limit_growth()
            # from now on, a wait for a lock ends before the batch's time limit, so that the error says "locked"
            self._database.execute(f"PRAGMA busy_timeout = {round(self._timeout_s * 500)}")
        except BaseException:
            self._database.close()
            raise

    def _expire(self) -> int:
        return self._database.execute(_EXPIRE, (self._wall(), EXPIRE_ROWS, self._transaction_bytes)).rowcount

    def _check(self) -> None:
        """Check that the file is in its place, and, if room is scarce, that a change is possible."""
        for file, identity in self._files.items():
            if _identity(file) != identity:
                self._gone = (
                    f"{file} was deleted or replaced while the server had it open: stop all servers that use it, put "
                    "the file back if you have it, and start them again"
                )
                raise StoreUnusable(self._gone)
        self._database.execute("SELECT 1 FROM sessions LIMIT 1").fetchall()
        self._limit_growth()
        if shutil.disk_usage(self._path).free < self._reserve_bytes:
            self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @property
    def _reserve_bytes(self) -> int:
        return min(RESERVE_BYTES, shutil.disk_usage(self._path).total // RESERVE_SHARE)

    def _limit_growth(self) -> None:
        """Limit the database to the disk without the reserve."""
        taken_bytes = sum(file.stat().st_size for file in self._files)  # the log is part of the reserve
        room_bytes = taken_bytes + shutil.disk_usage(self._path).free - self._reserve_bytes
        most_bytes = room_bytes if self._max_bytes is None else min(self._max_bytes, room_bytes)
        # SQLite accepts no limit below the present size
        most_pages = min(MAX_PAGES, max(1, most_bytes // self._page_bytes))
        self._most_pages = pragma(self._database, f"max_page_count = {most_pages}")

    def _has_room(self, record: bytes) -> bool:
        """Return whether there is room for a new session, besides the pages that others may need to go on."""
        used = pragma(self._database, "page_count") - pragma(self._database, "freelist_count")
        spare = min(self._most_pages // SPARE_SHARE, SPARE_BYTES // self._page_bytes)
        return used + len(record) // self._page_bytes + 1 <= self._most_pages - spare

    def _load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        now_s = self._wall()
        return [self._load_one(session, now_s) for session in sessions]

    def _load_one(self, session: str, now_s: float) -> Stored | HetsynError | None:
        try:
            row = self._database.execute(_LOAD, (session, now_s)).fetchone()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            return _damaged(session, error)
        return None if row is None else Stored(*row)

    def _commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        """Commit a batch in one transaction, or in several that fit into the reserve."""
        parts: list[list[Change]] = [[]]
        size_bytes = 0
        for change in changes:
            # SQLite may overwrite deleted pages
            written = self._length(change.session) if change.record is None else len(change.record)
            change_bytes = written + self._page_bytes
            size_bytes += change_bytes
            if size_bytes > self._transaction_bytes and parts[-1]:
                parts.append([])
                size_bytes = change_bytes
            parts[-1].append(change)
        return [result for part in parts for result in self._commit_part(part)]

    def _commit_part(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        try:
            return self._transaction(changes)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and not has_no_room(error):
                raise
            if len(changes) == 1:
                return [_full(error) if has_no_room(error) else _damaged(changes[0].session, error)]
            # one by one: only changes without room, or in damaged pages, fail
            return [result for change in changes for result in self._commit_part([change])]

    def _length(self, session: str) -> int:
        """Return the length of a record; 0 without one, and if the file is damaged, which the change then reports."""
        with suppress(sqlite3.DatabaseError):
            row = self._database.execute(_LENGTH, (session,)).fetchone()
            return int(row[0]) if row else 0
        return 0

    def _transaction(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        now_s = self._wall()
        self._database.execute("BEGIN IMMEDIATE")
        try:
            results = [self._commit_one(change, now_s) for change in changes]
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # after some errors SQLite has already rolled back
                self._database.execute("ROLLBACK")
            raise
        return results

    def _commit_one(self, change: Change, now_s: float) -> CommitResult | HetsynError:
        values = (change.session, change.revision, now_s + change.keep_s, change.record, now_s)
        if change.record is None:
            cursor = self._database.execute(_DELETE, (change.session, change.expected, now_s))
        elif change.expected == NO_REVISION:
            if not self._has_room(change.record):
                if self._database.execute(_LOAD, (change.session, now_s)).fetchone():
                    return CommitResult.fenced
                return _full("new sessions have taken all that they may")
            cursor = self._database.execute(_INSERT, values)
        else:
            cursor = self._database.execute(_UPDATE, (*values, change.expected))
        return CommitResult.committed if cursor.rowcount else CommitResult.fenced

    def _in_place(self, function: Callable[[], T]) -> T:
        if self._gone:
            raise StoreUnusable(self._gone)
        return function()

    async def _on_thread(self, function: Callable[[], T]) -> T:
        """Call a function on the store's thread.

        Raises:
            StoreUnavailable: it failed, or did not return in time; it may still do its work.
            StoreUnusable: the file is no longer in its place.
        """
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._in_place, function)
        call.add_done_callback(_retrieve)  # the waiting caller may be cancelled
        # it looks at the call last: if the event loop stood still, both the call and its time may be over
        await asyncio.wait([call], timeout=self._timeout_s)
        if not call.done():
            raise StoreUnavailable(
                f"the session store did not answer within {self._timeout_s:g} s: send the chunk again"
            )
        try:
            return call.result()
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and has_no_room(error):
                raise _full(error) from error
            raise StoreUnavailable(f"the session store failed ({error}): send the chunk again later") from error


def _full(reason: object) -> StoreFull:
    return StoreFull(
        f"the session store has no room for this ({reason}), and nothing was changed: end or delete sessions, "
        "or send the chunk again later"
    )


def _damaged(session: str, error: sqlite3.DatabaseError) -> StateCorrupt:
    return StateCorrupt(
        f"session {client_id(session)!r}: the store's file is damaged where it is kept ({error}): restore a copy, "
        "or begin another session, under a new id"
    )


def _retrieve(call: asyncio.Future[T]) -> None:
    """Retrieve the exception of a call: asyncio logs it if nobody does."""
    if not call.cancelled():
        call.exception()


def _log(path: Path) -> Path:
    """Return the path of a database's log: beside the file, not beside a link to it."""
    return Path(f"{os.path.realpath(path)}-wal")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
