"""Group commit: the asyncio shell between many sessions and a store that works on batches.

Requests that arrive while a batch is under way go together in the next one. Requests of one turn of the event loop go
together in the first. Loads and commits have one batch under way each, in each lane of the store. A caller that is
cancelled does not disturb the others. A request that has waited for as long as a batch may take gets an error and is
not sent: behind a store that hangs, no request waits for one batch after another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
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
    """Answers requests in order, in batches, one batch at a time.

    Args:
        act: answers a batch, in its order.
        max_batch: most requests of a batch.
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
        """Answer one request.

        Raises:
            StoreUnavailable: the whole batch failed, or the request waited too long.
            HetsynError: the error that the batch has for this request.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._waiting.append(_Request(content, answer, loop.time()))
        if self._running is None:
            # a task starts in the next turn of the event loop, so further requests of this turn join its batch
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
        """Answer the requests that waited too long with an error; they are not sent."""
        before_s = asyncio.get_running_loop().time() - self._timeout_s
        while self._waiting and self._waiting[0].since_s <= before_s:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(
                    StoreUnavailable(
                        f"this request waited longer than {self._timeout_s:g} s for the session store: "
                        "nothing was changed, send the chunk again"
                    )
                )

    async def _answer(self, batch: Sequence[_Request[Q, A]]) -> None:
        try:
            answers = await self._act([request.content for request in batch])
            if len(answers) != len(batch):
                raise ValueError(f"{len(answers)} answers to {len(batch)} requests")
        except asyncio.CancelledError:
            for request in [*batch, *self._waiting]:  # the event loop ends: no caller may wait for ever
                request.answer.cancel()
            raise
        except Exception as error:
            # the store broke its promise to answer every request and not to raise: the outcome is unknown, and later
            # batches must still run
            unavailable = StoreUnavailable(f"the session store failed ({error}): send the chunk again later")
            unavailable.__cause__ = error
            answers = [unavailable] * len(batch)
        for request, answer in zip(batch, answers, strict=True):
            if request.answer.done():
                continue
            if isinstance(answer, HetsynError):
                own = copy(answer)  # one error may answer the whole batch, and each caller adds its traceback
                own.__cause__ = answer.__cause__
                request.answer.set_exception(own)
            else:
                request.answer.set_result(answer)


class _Lanes(Generic[Q, A]):
    """A queue for each lane of a store."""

    def __init__(self, make: Callable[[], BatchQueue[Q, A]]) -> None:
        self._make = make
        self._queues: dict[Hashable, BatchQueue[Q, A]] = {}

    def __getitem__(self, lane: Hashable) -> BatchQueue[Q, A]:
        queue = self._queues.get(lane)
        if queue is None:
            queue = self._queues[lane] = self._make()
        return queue

    async def drain(self) -> None:
        for queue in list(self._queues.values()):
            await queue.drain()


class GroupCommit:
    """Takes loads and commits of single sessions, and sends them to a store in batches.

    Args:
        store: answers the batches.
        max_batch: most requests of a batch.
        timeout_s: a request that has waited for longer when a batch ends is not sent in the next.
    """

    def __init__(self, store: StateStore, max_batch: int = MAX_BATCH, timeout_s: float = inf) -> None:
        self._lane = store.lane
        self._loads: _Lanes[str, Stored | None] = _Lanes(lambda: BatchQueue(store.load, max_batch, timeout_s))
        self._commits: _Lanes[Change, CommitResult] = _Lanes(lambda: BatchQueue(store.commit, max_batch, timeout_s))

    async def load(self, session: str) -> Stored | None:
        """As ``StateStore.load``, of one session.

        Raises:
            StoreUnavailable: the store did not answer, or the request was never sent.
            StateError: the store has something else under this id.
        """
        return await self._loads[self._lane(session)].request(session)

    async def commit(self, change: Change) -> CommitResult:
        """As ``StateStore.commit``, of one change.

        Raises:
            StoreUnavailable: the change was committed, may still be committed, or was never sent.
            StateError: as of ``load``.
        """
        return await self._commits[self._lane(change.session)].request(change)

    async def drain(self) -> None:
        """Wait until every request is answered."""
        await self._loads.drain()
        await self._commits.drain()
