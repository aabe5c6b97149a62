"""Group commit: sends many sessions' requests to a store in batches.

Requests that arrive during a batch go together in the next one. Requests of one turn of the event loop go together in
the first. Each lane of the store has one batch at a time. Clients take turns in it, so nobody waits behind all that
another one has sent. A cancelled caller does not disturb the others. A request that has waited for a batch's time limit
gets an error and is not sent: behind a hung store, no request waits for one batch after another.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from copy import copy
from itertools import chain
from math import inf
from typing import Generic, NamedTuple, TypeVar

from service.errors import HetsynError, StoreUnavailable

Q = TypeVar("Q")
A = TypeVar("A")

MAX_BATCH = 64


class _Request(NamedTuple, Generic[Q, A]):
    content: Q
    answer: asyncio.Future[A]
    since_s: float


_Waiting = OrderedDict[str, deque[_Request[Q, A]]]
"""Requests by client; the first client is next."""


class GroupCommit(Generic[Q, A]):
    """Answers requests in batches, one batch of each lane at a time, in order.

    Args:
        act: answers a batch, in its order.
        lane: of a session (``StateStore.lane``).
        failed: is told each error that answers a request.
        timeout_s: a request that has waited for longer when a batch ends is not sent in the next.
    """

    def __init__(
        self,
        act: Callable[[Sequence[Q]], Awaitable[Sequence[A | HetsynError]]],
        lane: Callable[[str], Hashable],
        failed: Callable[[HetsynError], None] = lambda _: None,
        *,
        max_batch: int = MAX_BATCH,
        timeout_s: float = inf,
    ) -> None:
        self._act = act
        self._lane = lane
        self._failed = failed
        self._max_batch = max_batch
        self._timeout_s = timeout_s
        self._waiting: dict[Hashable, _Waiting[Q, A]] = {}
        self._running: dict[Hashable, asyncio.Task[None]] = {}

    def request(self, session: str, content: Q, client: str = "") -> asyncio.Future[A]:
        """Queue a request of a client about a session, without a task.

        Returns:
            The answer, or the error that the batch has for this request. StoreUnavailable: the whole batch failed, or
            the request waited too long.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        lane = self._lane(session)
        waiting = self._waiting.get(lane)
        if waiting is None:
            waiting = self._waiting[lane] = OrderedDict()
        if (own := waiting.get(client)) is None:
            own = waiting[client] = deque()
        own.append(_Request(content, answer, loop.time()))
        if lane not in self._running:
            # a task starts in the next turn of the event loop, so further requests of this turn join its batch
            self._running[lane] = asyncio.create_task(self._run(lane, waiting))
        return answer

    @property
    def waiting(self) -> int:
        """Count the requests that are in no batch yet."""
        return sum([len(own) for waiting in self._waiting.values() for own in waiting.values()])

    async def drain(self) -> None:
        """Wait until no request is left."""
        while self._running:
            await asyncio.wait(self._running.values())

    async def _run(self, lane: Hashable, waiting: _Waiting[Q, A]) -> None:
        try:
            while waiting:
                batch: list[_Request[Q, A]] = []
                while waiting and len(batch) < self._max_batch:
                    client, own = waiting.popitem(last=False)
                    batch.append(own.popleft())
                    if own:
                        waiting[client] = own
                await self._answer(batch, waiting)
                self._give_up(waiting)
        finally:
            del self._running[lane]

    def _give_up(self, waiting: _Waiting[Q, A]) -> None:
        """Answer the requests that waited too long with an error; they are not sent."""
        before_s = asyncio.get_running_loop().time() - self._timeout_s
        for client, own in list(waiting.items()):
            while own and own[0].since_s <= before_s:
                error = StoreUnavailable(
                    f"this request waited longer than {self._timeout_s:g} s for the session store: "
                    "nothing was changed, send the chunk again"
                )
                self._fail(own.popleft(), error)
            if not own:
                del waiting[client]

    async def _answer(self, batch: Sequence[_Request[Q, A]], waiting: _Waiting[Q, A]) -> None:
        try:
            answers = await self._act([request.content for request in batch])
            if len(answers) != len(batch):
                raise ValueError(f"{len(answers)} answers to {len(batch)} requests")
        except asyncio.CancelledError:
            for request in [
                *batch,
                *chain.from_iterable(waiting.values()),
            ]:  # the event loop ends: no caller may wait without an end
                request.answer.cancel()
            raise
        except Exception as error:
            # the store must answer every request and not raise, and did not: the outcome is unknown, and later batches
            # must still run
            unavailable = StoreUnavailable(f"the session store failed ({error}): send the chunk again later")
            unavailable.__cause__ = error
            answers = [unavailable] * len(batch)
        for request, answer in zip(batch, answers, strict=True):
            if isinstance(answer, HetsynError):
                own = copy(answer)  # one error may answer the whole batch, and each caller adds a traceback
                own.__cause__ = answer.__cause__
                self._fail(request, own)
            elif not request.answer.done():
                request.answer.set_result(answer)

    def _fail(self, request: _Request[Q, A], error: HetsynError) -> None:
        self._failed(error)
        if not request.answer.done():
            request.answer.set_exception(error)
