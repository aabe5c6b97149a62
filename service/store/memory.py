"""A store in the memory of one process: what the other stores are held against, and what several registries of
one process may share. A server on ``memory://`` uses no store at all, for its sessions are in memory anyway."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.errors import HetsynError
from service.store.base import NO_REVISION, Change, CommitResult, Stored


@dataclass(frozen=True)
class _Kept:
    stored: Stored
    until_s: float


class MemoryStore:
    """
    Args:
        clock: seconds, for how long records are kept.
    """

    name = "memory"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}

    async def start(self) -> None:
        pass

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        return [self._find(session) for session in sessions]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        return [self._commit(change) for change in changes]

    async def expire(self) -> int:
        now_s = self._clock()
        over = [session for session, kept in self._kept.items() if kept.until_s <= now_s]
        for session in over:
            del self._kept[session]
        return len(over)

    async def health(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _find(self, session: str) -> Stored | None:
        kept = self._kept.get(session)
        return kept.stored if kept is not None and kept.until_s > self._clock() else None

    def _commit(self, change: Change) -> CommitResult:
        held = self._find(change.session)
        if (held.revision if held else NO_REVISION) != change.expected:
            return CommitResult.fenced
        if change.record is None:
            self._kept.pop(change.session, None)
        else:
            stored = Stored(change.revision, change.record)
            self._kept[change.session] = _Kept(stored, self._clock() + change.keep_s)
        return CommitResult.committed
