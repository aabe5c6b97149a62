"""Group commit: sends many sessions' requests to a store in batches.

Requests that arrive during a batch go together in the next one. Requests of one turn of the event loop go together in
the first. Each lane of the store has one batch at a time. Clients take turns in it, so nobody waits behind all that
another one has sent. The callers of a batch are told together, before the next one is sent. A cancelled caller does not
disturb the others. A request that has waited for a batch's time limit gets an error and is not sent: behind a hung
store, no request waits for one batch after another.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from copy import copy
from itertools import chain, groupby, repeat
from math import inf
from typing import Any, Generic, NamedTuple, TypeVar

from service.errors import HetsynError, StoreUnavailable

Q = TypeVar("Q")
A = TypeVar("A")

MAX_BATCH = 64
Told = Callable[[Sequence[Any], Sequence[Any]], None]
"""Is called with callers whose requests end together, and the answer or the error of each; it does not raise.
CancelledError: the event loop ends."""


class _Request(NamedTuple, Generic[Q]):
    content: Q
    caller: Any
    told: Told
    since_s: float


_Waiting = OrderedDict[str, deque[_Request[Q]]]
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
        self._waiting: dict[Hashable, _Waiting[Q]] = {}
        self._running: dict[Hashable, asyncio.Task[None]] = {}

    def request(self, session: str, content: Q, client: str = "") -> asyncio.Future[A]:
        """Queue a request, as ``queue``. Returns the answer."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self.queue(session, content, client, answer, settle)
        return answer

    def queue(self, session: str, content: Q, client: str, caller: object, told: Told) -> None:
        """Queue a request of a client about a session, without a task.

        Its caller is told before the next batch is sent: the answer, or the error that the batch has for this request.
        StoreUnavailable: the whole batch failed, or the request waited too long.
        """
        lane = self._lane(session)
        waiting = self._waiting.get(lane)
        if waiting is None:
            waiting = self._waiting[lane] = OrderedDict()
        if (own := waiting.get(client)) is None:
            own = waiting[client] = deque()
        own.append(_Request(content, caller, told, asyncio.get_running_loop().time()))
        if lane not in self._running:
            # a task starts in the next turn of the event loop, so further requests of this turn join its batch
            self._running[lane] = asyncio.create_task(self._run(lane, waiting))

    @property
    def waiting(self) -> int:
        """Count the requests that are in no batch yet."""
        return sum([len(own) for waiting in self._waiting.values() for own in waiting.values()])

    async def drain(self) -> None:
        """Wait until no request is left."""
        while self._running:
            await asyncio.wait(self._running.values())

    async def _run(self, lane: Hashable, waiting: _Waiting[Q]) -> None:
        try:
            while waiting:
                batch: list[_Request[Q]] = []
                while waiting and len(batch) < self._max_batch:
                    client, own = waiting.popitem(last=False)
                    batch.append(own.popleft())
                    if own:
                        waiting[client] = own
                await self._answer(batch, waiting)
                self._give_up(waiting)
        finally:
            del self._running[lane]

    def _give_up(self, waiting: _Waiting[Q]) -> None:
        """Answer the requests that waited too long with an error; they are not sent."""
        before_s = asyncio.get_running_loop().time() - self._timeout_s
        for client, own in list(waiting.items()):
            while own and own[0].since_s <= before_s:
                error = StoreUnavailable(
                    f"this request waited longer than {self._timeout_s:g} s for the session store: "
                    "nothing was changed, send the chunk again"
                )
                self._tell([own.popleft()], [error])
            if not own:
                del waiting[client]

    async def _answer(self, batch: Sequence[_Request[Q]], waiting: _Waiting[Q]) -> None:
        try:
            answers = await self._act([request.content for request in batch])
            if len(answers) != len(batch):
                raise ValueError(f"{len(answers)} answers to {len(batch)} requests")
        except asyncio.CancelledError as error:  # the event loop ends: no caller may wait without an end
            self._tell([*batch, *chain.from_iterable(waiting.values())], repeat(error))
            raise
        except Exception as error:
            # the store must answer every request and not raise, and did not: the outcome is unknown, and later batches
            # must still run
            unavailable = StoreUnavailable(f"the session store failed ({error}): send the chunk again later")
            unavailable.__cause__ = error
            answers = [unavailable] * len(batch)
        self._tell(batch, answers)

    def _tell(self, requests: Sequence[_Request[Q]], answers: Iterable[A | BaseException]) -> None:
        """Tell the callers, those of a kind together."""
        for told, together in groupby(zip(requests, answers, strict=False), lambda one: one[0].told):
            of_kind, results = zip(*together, strict=True)
            own = [self._own(result) if isinstance(result, HetsynError) else result for result in results]
            told([request.caller for request in of_kind], own)

    def _own(self, error: HetsynError) -> HetsynError:
        """Copy an error for one caller: it may answer the whole batch, and each caller adds a traceback."""
        self._failed(error)
        own = copy(error)
        own.__cause__ = error.__cause__
        return own


def settle(answers: Sequence[asyncio.Future[A]], results: Sequence[A | BaseException]) -> None:
    """Give futures their results: the usual ``Told``."""
    for answer, result in zip(answers, results, strict=True):
        if isinstance(result, asyncio.CancelledError):
            answer.cancel()
        elif answer.done():  # its caller has gone
            continue
        elif isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)
