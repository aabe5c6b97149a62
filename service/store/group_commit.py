"""Group commit: the asyncio shell between many sessions and a store that works on batches.

What is asked while a batch is under way waits and goes together in the next one; what is asked in the same turn of
the event loop goes together in the first. Loads and commits have a batch under way each. A caller that goes
away harms nobody. Who has waited for as long as a batch may take, and was not sent, is told so: behind a store that
answers no more nobody waits for one batch after the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from math import inf
from typing import Generic, NamedTuple, TypeVar

from service.errors import HetsynError, StoreUnavailable
from service.store.base import Change, StateStore, Stored, Verdict

Q = TypeVar("Q")
A = TypeVar("A")

MAX_BATCH = 64


class _Asked(NamedTuple, Generic[Q, A]):
    question: Q
    answer: asyncio.Future[A]
    asked_s: float


class _Queue(Generic[Q, A]):
    """Questions in order, answered in batches by ``act``, one batch at a time."""

    def __init__(
        self, act: Callable[[Sequence[Q]], Awaitable[Sequence[A | HetsynError]]], max_batch: int, timeout_s: float
    ) -> None:
        self._act = act
        self._max_batch = max_batch
        self._timeout_s = timeout_s
        self._waiting: deque[_Asked[Q, A]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[A] = loop.create_future()
        self._waiting.append(_Asked(question, answer, loop.time()))
        if self._running is None:
            # a task begins in the next turn: whoever asks in this one goes along
            self._running = asyncio.create_task(self._run())
        return await answer

    async def drain(self) -> None:
        """Until nothing is asked."""
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
        """What was asked too long ago, and is not sent any more."""
        before_s = asyncio.get_running_loop().time() - self._timeout_s
        while self._waiting and self._waiting[0].asked_s <= before_s:
            future = self._waiting.popleft().answer
            if not future.done():
                future.set_exception(
                    StoreUnavailable(
                        f"the session store did not come to this within {self._timeout_s:g} s: nothing was changed, "
                        "send the chunk again"
                    )
                )

    async def _answer(self, batch: Sequence[_Asked[Q, A]]) -> None:
        try:
            answers = await self._act([asked.question for asked in batch])
        except asyncio.CancelledError:
            for asked in [*batch, *self._waiting]:  # the loop ends: nobody may be left waiting for ever
                asked.answer.cancel()
            raise
        except Exception as error:
            # of a store that breaks its promise: what it did is unknown, and nobody else may be harmed
            unavailable = StoreUnavailable(f"the session store failed ({error}): send the chunk again later")
            unavailable.__cause__ = error
            answers = [unavailable] * len(batch)
        for (_, future, _), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, HetsynError):
                own = copy(answer)  # each caller's traceback goes into it
                own.__cause__ = answer.__cause__
                future.set_exception(own)
            else:
                future.set_result(answer)


class StorePipeline:
    """One session at a time for its callers, whole batches for the store.

    Args:
        timeout_s: what has waited for so long when a batch has come to its end is not sent in the next.
    """

    def __init__(self, store: StateStore, max_batch: int = MAX_BATCH, timeout_s: float = inf) -> None:
        self._loads: _Queue[str, Stored | None] = _Queue(store.load, max_batch, timeout_s)
        self._commits: _Queue[Change, Verdict] = _Queue(store.commit, max_batch, timeout_s)

    async def load(self, session: str) -> Stored | None:
        """
        Raises:
            StoreUnavailable, StateError: as ``StateStore.load`` has it for this session.
        """
        return await self._loads.ask(session)

    async def commit(self, change: Change) -> Verdict:
        """
        Raises:
            StoreUnavailable: it may have been committed, or may yet be, or it was never sent.
            StateError: as ``StateStore.commit``.
        """
        return await self._commits.ask(change)

    async def drain(self) -> None:
        """Until all is answered."""
        await self._loads.drain()
        await self._commits.drain()
