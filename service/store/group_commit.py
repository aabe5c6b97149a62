"""Group commit: the asyncio shell between many sessions and a store that works on batches.

Requests that come while a batch is under way go together in the next one, and those of one turn of the event loop go
together in the first. Loads and commits have a batch under way each. A caller that goes away harms nobody. A request
that has waited for as long as a batch may take is answered and not sent: behind a store that hangs, nobody waits for
one batch after the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from math import inf
from typing import Generic, NamedTuple, TypeVar

from service.errors import HetsynError, StoreUnavailable
from service.store.base import Change, CommitResult, StateStore, Stored

Q = TypeVar("Q")
A = TypeVar("A")

MAX_BATCH = 64


class _Request(NamedTuple, Generic[Q, A]):
    content: Q
    answer: asyncio.Future[A]
    since_s: float


class BatchQueue(Generic[Q, A]):
    """Requests in order, answered in batches, one batch at a time.

    Args:
        act: answers a batch, in its order.
        max_batch: requests of a batch.
        timeout_s: see ``GroupCommit``.
    """

    def __init__(
        self, act: Callable[[Sequence[Q]], Awaitable[Sequence[A | HetsynError]]], max_batch: int, timeout_s: float
    ) -> None:
        self._act = act
        self._max_batch = max_batch
        self._timeout_s = timeout_s
        self._waiting: deque[_Request[Q, A]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def request(self, content: Q) -> A:
        """The answer to one request.

        Raises:
            HetsynError: its own, or StoreUnavailable where the whole batch failed or the request waited too long.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._waiting.append(_Request(content, answer, loop.time()))
        if self._running is None:
            # a task begins in the next turn: further requests of this one go along
            self._running = asyncio.create_task(self._run())
        return await answer

    async def drain(self) -> None:
        """Wait until no request is left."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
                await self._answer(batch)
                self._give_up()
        finally:
            self._running = None

    def _give_up(self) -> None:
        """Answer the requests that waited too long: they are not sent any more."""
        before_s = asyncio.get_running_loop().time() - self._timeout_s
        while self._waiting and self._waiting[0].since_s <= before_s:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(
                    StoreUnavailable(
                        f"the session store did not come to this within {self._timeout_s:g} s: nothing was changed, "
                        "send the chunk again"
                    )
                )

    async def _answer(self, batch: Sequence[_Request[Q, A]]) -> None:
        try:
            answers = await self._act([request.content for request in batch])
        except asyncio.CancelledError:
            for request in [*batch, *self._waiting]:  # the loop ends: nobody may be left waiting for ever
                request.answer.cancel()
            raise
        except Exception as error:
            # of a store that breaks its promise: what it did is unknown, and nobody else may be harmed
            unavailable = StoreUnavailable(f"the session store failed ({error}): send the chunk again later")
            unavailable.__cause__ = error
            answers = [unavailable] * len(batch)
        for request, answer in zip(batch, answers, strict=True):
            if request.answer.done():
                continue
            if isinstance(answer, HetsynError):
                own = copy(answer)  # each caller's traceback goes into it
                own.__cause__ = answer.__cause__
                request.answer.set_exception(own)
            else:
                request.answer.set_result(answer)


class GroupCommit:
    """One session at a time for its callers, whole batches for the store.

    Args:
        timeout_s: what has waited for so long when a batch has come to its end is not sent in the next.
    """

    def __init__(self, store: StateStore, max_batch: int = MAX_BATCH, timeout_s: float = inf) -> None:
        self._loads: BatchQueue[str, Stored | None] = BatchQueue(store.load, max_batch, timeout_s)
        self._commits: BatchQueue[Change, CommitResult] = BatchQueue(store.commit, max_batch, timeout_s)

    async def load(self, session: str) -> Stored | None:
        """
        Raises:
            StoreUnavailable, StateError: as ``StateStore.load`` has it for this session.
        """
        return await self._loads.request(session)

    async def commit(self, change: Change) -> CommitResult:
        """
        Raises:
            StoreUnavailable: it may have been committed, or may yet be, or it was never sent.
            StateError: as ``StateStore.commit``.
        """
        return await self._commits.request(change)

    async def drain(self) -> None:
        """Until all is answered."""
        await self._loads.drain()
        await self._commits.drain()
