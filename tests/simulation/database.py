"""SQLite in memory, shared by the servers of a world, with calls that fail before or after they have acted."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from tests.simulation.loop import World

_numbers = count()


class Database:
    """A database of one world.

    Attributes:
        path: an empty file that stands for it, with one for its log: the store looks at them.
        fail_share: share of transactions that fail, half of them after they were made.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.fail_share = 0.0
        self.path = Path(tempfile.gettempdir()) / f"hetsyn-simulated-{os.getpid()}-{next(_numbers)}.db"
        self._files = self.path, self.path.with_name(f"{self.path.name}-wal")
        self._name = f"file:{self.path.stem}?mode=memory&cache=shared"
        self._kept: sqlite3.Connection | None = None

    def connect(self, _: Any, **options: Any) -> sqlite3.Connection:
        """Connect, as ``sqlite3.connect``."""
        if self._kept is None:
            self._kept = sqlite3.connect(self._name, uri=True)  # without a connection it would be gone
            for file in self._files:
                file.touch()
        database = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
                draw = database.world.random.random() if database.fail_share and sql == "COMMIT" else 1.0
                if draw < database.fail_share / 2:
                    super().execute("ROLLBACK")
                    raise sqlite3.OperationalError("disk I/O error")
                cursor = super().execute(sql, *arguments)
                if draw < database.fail_share:
                    raise sqlite3.OperationalError("disk I/O error")
                return cursor

        return sqlite3.connect(self._name, uri=True, factory=Connection, **options)

    @property
    def records(self) -> int:
        """Count the rows of all tables."""
        if self._kept is None:
            return 0
        tables = self._kept.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return sum(self._kept.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in tables)

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
        for file in self._files:
            file.unlink(missing_ok=True)
