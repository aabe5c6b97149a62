"""Opens and checks the SQLite file of a file store."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from service.errors import StoreUnusable

Synchronous = Literal["full", "normal"]
Connect = Callable[..., sqlite3.Connection]
"""``sqlite3.connect``."""

OPENING_S = 10.0  # limit for a lock at the start: another server may be making the tables
RETRY_S = 0.01
APPLICATION_ID = 0x48535331  # "HSS1", in the file's header
SCHEMA_VERSION = 1

_HEADER = b"SQLite format 3\0"
_SCHEMA = """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY, revision INTEGER NOT NULL, keep_until_s REAL NOT NULL, record BLOB NOT NULL
    );
    CREATE INDEX sessions_keep_until_s ON sessions (keep_until_s);
"""
# errors without room: the disk, a quota, or the limit of the database's length
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


def open_database(path: Path, synchronous: Synchronous, connect: Connect = sqlite3.connect) -> sqlite3.Connection:
    """Open the database of a file store; create it, for this user alone, if it does not exist.

    Args:
        synchronous: ``full`` waits for the disk at every commit.

    Raises:
        StoreUnusable: the file is something else, of another version, or damaged.
        sqlite3.Error: it cannot be opened.
    """
    until_s = time.monotonic() + OPENING_S
    while True:
        try:
            return _open_once(path, synchronous, connect)
        except sqlite3.OperationalError as error:
            # SQLite does not wait for the lock that switches the log on, because that could be a deadlock
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY or time.monotonic() >= until_s:
                raise
        time.sleep(RETRY_S)


def _open_once(path: Path, synchronous: Synchronous, connect: Connect) -> sqlite3.Connection:
    _check_is_database(path)
    with suppress(OSError):  # SQLite reports the error; its other files get the permissions of this one
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = connect(path, timeout=OPENING_S, isolation_level=None)
    try:
        is_new = _is_new(database)
        _check_schema(path, database, is_new)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {synchronous}")
        if is_new:
            # in one transaction, which checks again: another server may be creating the tables too
            database.execute("BEGIN IMMEDIATE")
            if _is_new(database):
                for statement in _SCHEMA.split(";")[:-1]:
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            database.execute("COMMIT")
            _check_schema(path, database, False)
        ((verdict,), *_) = database.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise StoreUnusable(
                f"{path}: is damaged ({verdict}): restore a copy, or move the file away, which ends its sessions"
            )
    except BaseException:
        database.close()
        raise
    return database


def has_no_room(error: sqlite3.Error) -> bool:
    """Return whether a change failed because there is no room for it."""
    return getattr(error, "sqlite_errorcode", None) in _NO_ROOM


def pragma(database: sqlite3.Connection, name: str) -> int:
    """Read a pragma that is a number."""
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def advice(path: Path, error: sqlite3.Error | OSError) -> str:
    """Say why a store's file cannot be opened, and what to do."""
    folder = path.parent
    if not os.access(folder, os.X_OK):
        return f"there is no folder {folder} that this user may enter: mkdir -p {folder}, or name a file elsewhere"
    if not os.access(folder, os.W_OK):
        return f"this user may not write to {folder}: change its owner or its permissions, or name a file elsewhere"
    if path.is_file() and not os.access(path, os.R_OK | os.W_OK):
        return "this user may not read and write it: change its owner or its permissions, or name another file"
    if isinstance(error, sqlite3.Error) and has_no_room(error):
        return f"{error}: give the disk of {folder} room, or name a file elsewhere"
    return f"{error}: name a file that can be written, or move this one away"


def _check_is_database(path: Path) -> None:
    """Check that a file, if it exists, is empty or a SQLite database.

    SQLite takes a file of a few bytes for an empty database, and would write over it.
    """
    try:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnusable(f"{path}: cannot be used as a session store: {advice(path, error)}") from error
    if header not in (b"", _HEADER):
        raise StoreUnusable(f"{path}: cannot be used as a session store: it is another file; name a new one")


def _check_schema(path: Path, database: sqlite3.Connection, is_new: bool) -> None:
    """Check that an existing database is a store of this version."""
    if is_new:
        return
    if pragma(database, "application_id") != APPLICATION_ID:
        raise StoreUnusable(f"{path}: is a database, but not a session store: name another file")
    version = pragma(database, "user_version")
    if version != SCHEMA_VERSION:
        raise StoreUnusable(
            f"{path}: is a session store of version {version}, but this server needs {SCHEMA_VERSION}: "
            "name another file, or let its sessions end on a server of their own version"
        )


def _is_new(database: sqlite3.Connection) -> bool:
    (count,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return not count
