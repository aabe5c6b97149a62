"""A store in a file: SQLite with a write-ahead log, one transaction a batch, on a thread of its own.

With ``synchronous=FULL`` a transaction waits until the disk has it, so an acknowledged chunk survives a power failure
as well as a killed process. With ``normal`` it does not wait: a power failure may lose the last transactions, a killed
process loses none. Several servers of one machine may share the file. It must not be on a network file system, where
SQLite's locks do not work.

On a full disk, sessions go on, end and expire (``service.store.disk_room``). If somebody deletes or replaces the file,
the store refuses everything until the server is started again (``service.store.database_files``).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from service.errors import (
    HetsynError,
    StateCorrupt,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from service.keys.ids import client_id
from service.observe.clock import Clock, SteadyClock, boot_id, since_boot
from service.store.ballast import Ballast
from service.store.base import NO_REVISION, Change, CommitResult, Stored, is_revision, no_record
from service.store.database import Synchronous, adopt_clock, advice, has_no_room, log_bytes, open_database
from service.store.database_files import DatabaseFiles, real_path
from service.store.disk_room import DiskRoom

T = TypeVar("T")

EXPIRE_ROWS = 500  # in one transaction; chunks wait behind it

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
_EXPIRE = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE keep_until_s <= ? LIMIT ?)"


class FileStore:
    """A ``StateStore`` in a SQLite file.

    Args:
        path: of the database; created if it does not exist.
        timeout_s: time for one batch, waiting for another process's lock included.
        synchronous: see above.
        max_bytes: largest size of the database's file; None means no limit but the disk's.
        wall: seconds since 1970.
        steady: seconds since the machine's start.
        boot: of this start of the machine; empty if unknown, None finds it out.

    Attributes:
        clock: of all servers on the file, in seconds since about 1970. Steps of the machine's clock do not reach it.

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
        wall: Clock = time.time,
        steady: Clock = since_boot,
        boot: str | None = None,
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._gone = ""  # why the file cannot be used any more
        self.clock = SteadyClock(wall, steady)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="file-store")
        try:
            self._thread.submit(self._open, synchronous, max_bytes, boot_id() if boot is None else boot).result()
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
        removed, rows = 0, EXPIRE_ROWS
        while True:  # chunks that arrive meanwhile go before the next transaction
            try:
                count = await self._on_thread(lambda: self._expire(rows))  # noqa: B023 (it is called at once)
            except StoreFull:
                if rows == 1:
                    raise
                rows = max(1, rows // 8)  # a smaller transaction needs less room
                continue
            removed += count
            if count < rows:
                return removed

    async def health(self) -> None:
        await self._on_thread(self._check)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _open(self, synchronous: Synchronous, max_bytes: int | None, boot: str) -> None:
        try:
            self._database = open_database(self._path, synchronous)
        except sqlite3.OperationalError as error:
            ballast = Ballast(real_path(self._path))
            if not (has_no_room(error) and ballast.exists):
                raise
            ballast.give_up()
            self._database = open_database(self._path, synchronous)
        try:
            self._files = DatabaseFiles(self._path)
            self._room = DiskRoom(real_path(self._path), self._database, max_bytes)
            try:
                self._room.write(lambda: adopt_clock(self._database, self.clock, boot))
            except sqlite3.OperationalError as error:
                if not has_no_room(error):  # on a full disk, a clock that begins now has to do
                    raise
            # from now on, waiting for a lock ends before the batch does, so that the error says "locked"
            self._database.execute(f"PRAGMA busy_timeout = {round(self._timeout_s * 500)}")
        except BaseException:
            self._database.close()
            raise

    def _close(self) -> None:
        self._database.close()  # of a file that has been replaced, SQLite leaves the new one's log alone
        if not self._gone:
            self._room.close()

    def _expire(self, rows: int) -> int:
        return self._room.write(lambda: self._database.execute(_EXPIRE, (self.clock(), rows)).rowcount)

    def _check(self) -> None:
        self._database.execute("SELECT 1 FROM sessions LIMIT 1").fetchall()
        self._room.check()

    def _load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        now_s = self.clock()
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
        if not (isinstance(record, bytes) and is_revision(revision)):
            return no_record(session)
        return Stored(revision, record)

    def _commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        return [result for part in self._parts(changes) for result in self._commit_part(part)]

    def _parts(self, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
        """Cut a batch so that no transaction makes the log longer than the ballast: as a rule into one part."""
        begin, size_bytes = 0, 0
        for n, change in enumerate(changes):
            size_bytes += len(change.record or b"")
            if size_bytes > self._room.transaction_bytes and n > begin:
                yield changes[begin:n]
                begin, size_bytes = n, len(change.record or b"")
        yield changes[begin:]

    def _commit_part(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        try:
            return self._room.write(lambda: self._transaction(changes))
        except sqlite3.OperationalError as error:
            if not has_no_room(error):
                raise
            if len(changes) == 1:
                return [_full(error)]
            # those first that take no more room than what they replace
            order = sorted(range(len(changes)), key=lambda n: self._growth_bytes(changes[n]))
            results = {n: self._commit_part([changes[n]])[0] for n in order}
            return [results[n] for n in range(len(changes))]
        except sqlite3.DatabaseError as error:
            if len(changes) == 1:
                return [_damaged(changes[0].session, error)]
            # one by one: only the sessions that the damage touches fail
            return [result for change in changes for result in self._commit_part([change])]

    def _growth_bytes(self, change: Change) -> int:
        row = self._database.execute(_LENGTH, (change.session,)).fetchone()
        return len(change.record or b"") - (int(row[0]) if row else 0)

    def _transaction(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        now_s = self.clock()
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
        if change.record is None:
            cursor = self._database.execute(_DELETE, (change.session, change.expected, now_s))
        elif change.expected == NO_REVISION:
            cursor = self._database.execute(_INSERT, values)
        else:
            cursor = self._database.execute(_UPDATE, (*values, change.expected))
        return CommitResult.committed if cursor.rowcount else CommitResult.fenced

    def _on_file(self, function: Callable[[], T]) -> T:
        """Call a function that uses the database, and check that its files are still in their places.

        Raises:
            StoreUnusable: they are not. What the function did may be lost.
        """
        if self._gone:
            raise StoreUnusable(self._gone)
        if self._files.is_log_shorter:  # before a write: it would leave a hole in the log
            self._check_files(lambda: self._files.check_log(log_bytes(self._database)))
        try:
            result = function()
        finally:
            self._check_files(self._files.check)
        return result

    def _check_files(self, check: Callable[[], None]) -> None:
        try:
            check()
        except StoreUnusable as error:
            self._gone = str(error)
            if self._files.only_log_is_missing:
                with suppress(sqlite3.Error):  # the database gets what only the deleted log has
                    self._database.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
            raise

    async def _on_thread(self, function: Callable[[], T]) -> T:
        """Call a function on the store's thread.

        Raises:
            StoreUnavailable: it failed, or did not return in time; it may still do its work.
            StoreUnusable: the file is not in its place any more.
        """
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._on_file, function)
        call.add_done_callback(_retrieve)  # who waits for it may leave
        try:
            async with asyncio.timeout(self._timeout_s):  # wait_for may swallow a cancellation before Python 3.12
                return await asyncio.shield(call)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the session store did not answer within {self._timeout_s:g} s: send the chunk again"
            ) from error
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and has_no_room(error):
                raise _full(error) from error
            raise StoreUnavailable(f"the session store failed ({error}): send the chunk again later") from error


def _full(error: sqlite3.Error) -> StoreFull:
    return StoreFull(
        f"the session store has no room for this ({error}), and nothing was changed: end or delete sessions, "
        "or send the chunk again later"
    )


def _damaged(session: str, error: sqlite3.DatabaseError) -> StateCorrupt:
    return StateCorrupt(
        f"session {client_id(session)!r}: the store's file is damaged where it is kept ({error}): restore a copy, "
        "or begin another session, under a new id"
    )


def _retrieve(call: asyncio.Future[T]) -> None:
    """Retrieve the exception of a call, which asyncio logs if nobody does."""
    if not call.cancelled():
        call.exception()
