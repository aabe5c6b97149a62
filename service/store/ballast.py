"""Room for a full disk: a file beside the database, which is deleted when the disk is full.

Every change of a SQLite file in WAL mode needs room in the write-ahead log, deletions too. And a log that holds new
pages can begin anew only when the database's file has grown by them. So a full disk would be a dead end: what makes
room needs room first. The ballast is larger than the log ever gets, so without it the log can be written back, and
begins anew.

From then on the database's file does not grow. It takes what fits in the room of removed sessions, until the disk has
room for the ballast and as much again. Whether the ballast exists is the sign of this for all servers on the file, and
after a restart.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 6 * 1024 * 1024
DISK_SHARE = 8  # at most this part of the disk


class Ballast:
    """The ballast of a database.

    Args:
        path: of the database.

    Attributes:
        size_bytes: of the ballast.
        log_bytes: length of the log at which it is written back.
        transaction_bytes: most content of one transaction, which comes on top of ``log_bytes``.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._path = path.with_name(f"{path.name}-ballast")
        self._log = path.with_name(f"{path.name}-wal")
        self.size_bytes = min(MAX_BYTES, shutil.disk_usage(self._folder).total // DISK_SHARE)
        self.log_bytes = self.size_bytes * 2 // 3
        self.transaction_bytes = self.size_bytes - self.log_bytes

    @property
    def exists(self) -> bool:
        return self._path.exists()

    @property
    def free_bytes(self) -> int:
        """Room on the disk beside the ballast."""
        return shutil.disk_usage(self._folder).free

    @property
    def has_room(self) -> bool:
        """Whether the disk has room for the ballast and as much again."""
        return self.free_bytes >= 2 * self.size_bytes

    @property
    def is_last_room(self) -> bool:
        """Whether the disk has less room than the ballast takes."""
        return self.free_bytes < self.size_bytes

    @property
    def log_length(self) -> int:
        """Bytes of the log's file; more than ``log_bytes`` while somebody reads what it has not written back, or did.

        SQLite does not shorten the file.
        """
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def make(self) -> bool:
        """Make the ballast if the disk has room for it and as much again. Whether it exists now."""
        if self.exists:
            return True
        if not self.has_room:
            return False
        try:
            _allocate(self._path, self.size_bytes)
        except OSError:
            self.give_up()
            return False
        return True

    def give_up(self) -> None:
        """Delete the ballast."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def extend_log(self) -> None:
        """Give the log the room that it may need, before another program takes what the ballast had.

        SQLite ignores what follows a log's last commit (https://www.sqlite.org/fileformat2.html#the_write_ahead_log).
        """
        with suppress(OSError):
            if self._log.exists():
                _allocate(self._log, self.log_bytes)


def _allocate(path: Path, size_bytes: int) -> None:
    """Make a file at least this long, with all of its room on the disk. What it contains stays.

    Raises:
        OSError: there is no room.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            if size_bytes:
                os.posix_fallocate(file, 0, size_bytes)
        else:
            missing = size_bytes - os.fstat(file).st_size
            if missing > 0:
                os.pwrite(file, bytes(missing), size_bytes - missing)
    finally:
        os.close(file)
