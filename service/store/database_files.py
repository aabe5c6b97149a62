"""Whether the files that a database has open are still those at its path.

Somebody may delete, replace or cut off a file that a server has open. SQLite would go on with the old one, and what it
commits would be in no file that a later server finds.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from service.errors import StoreUnusable

_SUFFIXES = ("-wal", "-shm")


class DatabaseFiles:
    """The files of an open database. No program deletes them while it is open, and they do not shrink.

    Args:
        path: of the database, which is open and has been read.

    Raises:
        OSError: one of the files does not exist.
    """

    def __init__(self, path: Path) -> None:
        real = real_path(path)
        files = [path, *(real.with_name(real.name + suffix) for suffix in _SUFFIXES)]
        self._files = [(file, _identity(file.stat())) for file in files]
        self._size_bytes = path.stat().st_size
        self._log_bytes = 0

    @property
    def is_log_shorter(self) -> bool:
        """Whether the log is shorter than at the last check. SQLite cuts it off once the database has all of it."""
        with suppress(OSError):  # ``check`` says so
            return self._files[1][0].stat().st_size < self._log_bytes
        return False

    def check_log(self, least_bytes: int) -> None:
        """Check the length of the log.

        Args:
            least_bytes: with the commits that SQLite knows to be in it.

        Raises:
            StoreUnusable: it is shorter.
        """
        log = self._files[1][0]
        with suppress(OSError):
            if log.stat().st_size < least_bytes:
                raise _unusable(log, "was cut off")

    @property
    def only_log_is_missing(self) -> bool:
        """Whether the database is in its place, and only the log has been deleted."""
        return self._state(self._files[0]) == self._state(self._files[2]) == "" and self._state(self._files[1]) != ""

    def check(self) -> None:
        """Check that all files are in their places.

        Raises:
            StoreUnusable: one is not.
        """
        for file in self._files:
            state = self._state(file)
            if state:
                raise _unusable(file[0], state)

    def _state(self, file: tuple[Path, tuple[int, int]]) -> str:
        path, identity = file
        try:
            found = path.stat()
        except FileNotFoundError:
            return "was deleted"
        except OSError as error:
            return f"cannot be reached ({error.strerror})"
        if _identity(found) != identity:
            return "was replaced"
        if file is self._files[0]:
            if found.st_size < self._size_bytes:
                return "was cut off"
            self._size_bytes = found.st_size
        elif file is self._files[1]:
            self._log_bytes = found.st_size
        return ""


def _unusable(file: Path, state: str) -> StoreUnusable:
    return StoreUnusable(
        f"{file} {state} while the server had it open, so it cannot keep sessions any more: stop all servers that use "
        "it, put the file back if you have it, and start them again"
    )


def real_path(path: Path) -> Path:
    """Where a database is: SQLite puts its other files beside it, and not beside a link to it."""
    return Path(os.path.realpath(path))


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
