"""A state store that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence

from service.errors import HetsynError, StoreUnavailable
from service.store.base import Change, CommitResult, Stored
from tests.support.stores.memory_store import MemoryStore


class FailingStore:
    """A store in memory that fails on demand.

    Attributes:
        down: every call fails, and nothing is done.
        deaf: commits are done, but their answers are lost.
        late: commits are answered as lost, and wait for ``run_late``.
        opened: while it is cleared, every call waits.
        batches: sizes of the commits so far.
    """

    def __init__(self, inner: MemoryStore | None = None) -> None:
        self.inner = inner or MemoryStore()
        self.down = self.deaf = self.late = False
        self.opened = asyncio.Event()
        self.opened.set()
        self.entered = asyncio.Event()
        self.batches: list[int] = []
        self.loads = 0
        self.closed = False
        self._late: list[Change] = []

    def clock(self) -> float:
        return self.inner.clock()

    def lane(self, session: str) -> Hashable:  # noqa: ARG002
        return None

    async def start(self) -> None:
        await self.health()

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        await self._enter()
        self.loads += len(sessions)
        return [_lost() for _ in sessions] if self.down else await self.inner.load(sessions)

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        await self._enter()
        self.batches.append(len(changes))
        if self.late:
            self._late += changes
        elif not self.down:
            verdicts = await self.inner.commit(changes)
            if not self.deaf:
                return verdicts
        return [_lost() for _ in changes]

    async def run_late(self) -> list[CommitResult | HetsynError]:
        """Do the commits that came while ``late``, in their order."""
        late, self._late = self._late, []
        return [(await self.inner.commit([change]))[0] for change in late]

    async def expire(self) -> int:
        if self.down:
            raise _lost()
        return await self.inner.expire()

    async def health(self) -> None:
        if self.down:
            raise _lost()

    async def close(self) -> None:
        self.closed = True

    async def _enter(self) -> None:
        self.entered.set()
        await self.opened.wait()


def _lost() -> StoreUnavailable:
    return StoreUnavailable("the session store failed (a fake): send the chunk again later")
