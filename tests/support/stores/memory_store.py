"""A store in the memory of one process: the reference for the other stores.

Several registries of one process may share it, as tests do. A server on ``memory://`` has no store at all: its sessions
are in memory anyway (``registry.table``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from service.errors import HetsynError
from service.store.base import NO_REVISION, Change, CommitResult, Stored


@dataclass(frozen=True)
class _Row:
    stored: Stored
    keep_until_s: float


class MemoryStore:
    """A ``StateStore`` in memory.

    Args:
        clock: seconds, for the removal of records.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._rows: dict[str, _Row] = {}

    def lane(self, session: str) -> Hashable:  # noqa: ARG002
        return None

    async def start(self) -> None:
        pass

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        return [self._find(session) for session in sessions]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        return [self._commit(change) for change in changes]

    async def expire(self) -> int:
        now_s = self.clock()
        expired = [session for session, row in self._rows.items() if row.keep_until_s <= now_s]
        for session in expired:
            del self._rows[session]
        return len(expired)

    async def health(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _find(self, session: str) -> Stored | None:
        row = self._rows.get(session)
        return row.stored if row is not None and row.keep_until_s > self.clock() else None

    def _commit(self, change: Change) -> CommitResult:
        stored = self._find(change.session)
        if (stored.revision if stored else NO_REVISION) != change.expected:
            return CommitResult.fenced
        if change.record is None:
            self._rows.pop(change.session, None)
        else:
            stored = Stored(change.revision, change.record)
            self._rows[change.session] = _Row(stored, self.clock() + change.keep_s)
        return CommitResult.committed
