"""What a database does when its disk is full (``service.store.ballast``)."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from service.store.ballast import Ballast
from service.store.database import SCHEMA_VERSION, has_no_room, pragma

T = TypeVar("T")

PAGES_TO_LOG = 1000  # SQLite's default for the length of the log at which it is written back
MAX_PAGES = 2**32 - 2  # SQLite's own limit

log = logging.getLogger("hetsyn.store")


class DiskRoom:
    """The room of a database, on its disk and in its file. Used from one thread.

    Args:
        path: of the database.
        database: open, with its tables.
        max_bytes: largest size of the database's file; None means no limit but the disk's.

    Attributes:
        transaction_bytes: most content of one transaction that a full disk can do no harm.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, max_bytes: int | None) -> None:
        self._path = path
        self._database = database
        self._ballast = Ballast(path)
        self.transaction_bytes = self._ballast.transaction_bytes
        self._page_bytes = page_bytes = pragma(database, "page_size")
        self._max_pages = MAX_PAGES if max_bytes is None else max(1, max_bytes // page_bytes)
        self._is_limited = False  # the log is long, and the file may grow no further than the disk's room
        self._is_pinned = False  # the database's file does not grow
        log_pages = max(1, min(PAGES_TO_LOG, self._ballast.log_bytes // page_bytes))
        database.execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
        if not self._unpin():
            self._pin()

    def write(self, change: Callable[[], T]) -> T:
        """Call a function that changes the database. If there is no room, make some and call it again.

        Raises:
            sqlite3.OperationalError: there is no room all the same, or another failure.
        """
        if self._ballast.exists == self._is_pinned:  # another server has made the ballast, or given it up
            if not self._is_pinned:
                self._pin()
            else:
                self._unpin()
        if not self._is_pinned:
            self._limit_growth()
        try:
            return change()
        except sqlite3.OperationalError as error:
            if not has_no_room(error):
                raise
            if not self._is_pinned and self._is_log_kept():
                raise  # until its reader ends, the room of the ballast would be lost to the log
            is_limit = error.sqlite_errorcode == sqlite3.SQLITE_FULL and self._max_pages < MAX_PAGES
            if is_limit and not self._is_pinned and self._ballast.has_room:
                raise  # max_bytes, and not the disk
        if self._is_pinned and self._unpin():
            with suppress(sqlite3.OperationalError):
                return change()
        if not self._is_pinned:
            self._pin()
        else:  # the log may be at its end, and begins anew in the room that it has
            self._checkpoint("RESTART")
        return change()

    def check(self) -> None:
        """If room is scarce, check that a change is possible that needs none in the database's file.

        Raises:
            sqlite3.OperationalError: there is no room at all, or another failure.
        """
        if self._is_pinned:
            self._unpin()
        if self._is_pinned or self._ballast.is_last_room:
            self.write(lambda: self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}"))

    def close(self) -> None:
        """Leave the ballast for the next start. The database is closed."""
        self._ballast.make()

    def _limit_growth(self) -> None:
        """While a reader keeps the log from being written back, let it take no more new pages than there is room for.

        A copy of the file or a dump is such a reader. The log grows meanwhile, with pages that the database's file does
        not have yet. Beyond the room of the ballast and what is free, they could never be written back.
        """
        is_long = self._ballast.log_length > 2 * self._ballast.log_bytes
        if is_long:
            room_bytes = self._ballast.free_bytes + self._ballast.size_bytes * 3 // 4
            pages = (self._path.stat().st_size + room_bytes) // self._page_bytes
            self._database.execute(f"PRAGMA max_page_count = {min(self._max_pages, pages)}")
        elif self._is_limited:
            self._database.execute(f"PRAGMA max_page_count = {self._max_pages}")
        self._is_limited = is_long

    def _is_log_kept(self) -> bool:
        """Whether somebody reads what the log has not written back."""
        try:
            _, pages, written = self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:  # there is no room to write it back
            return False
        return bool(written < pages)

    def _pin(self) -> None:
        """Give up the ballast, and keep the database's file from growing."""
        self._is_pinned = True
        self._database.execute("PRAGMA max_page_count = 1")  # SQLite takes its present length
        self._ballast.give_up()
        self._checkpoint("TRUNCATE")
        self._ballast.extend_log()
        log.warning(
            "%s: its disk is full: sessions go on, end and expire, but when the room of removed ones is used up, new "
            "ones get 503: make %d MB free",
            self._path,
            2 * self._ballast.size_bytes // 1_000_000 + 1,
        )

    def _checkpoint(self, mode: str) -> None:
        with suppress(sqlite3.Error):
            self._database.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()

    def _unpin(self) -> bool:
        """Let the database's file grow, if the disk has room. Whether it has."""
        if not self._ballast.make():
            return False
        self._database.execute(f"PRAGMA max_page_count = {self._max_pages}")
        if self._is_pinned:
            self._is_pinned = False
            log.info("%s: its disk has room again", self._path)
        return True
