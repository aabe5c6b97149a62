"""Group commit: the asyncio shell between many sessions and a store that works on batches.

What is asked while a batch is under way waits and goes together in the next one; what is asked in the same turn of
the event loop goes together in the first. Loads and commits have a batch under way each. A caller that goes
away harms nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Generic, TypeVar

from service.errors import HetsynError, StoreUnavailable
from service.store.seam import Change, StateStore, Stored, Verdict

Q = TypeVar("Q")
A = TypeVar("A")

MAX_BATCH = 64


class _Queue(Generic[Q, A]):
    """Questions in order, answered in batches by ``act``, one batch at a time."""

    def __init__(self, act: Callable[[Sequence[Q]], Awaitable[Sequence[A | HetsynError]]], max_batch: int) -> None:
        self._act = act
        self._max_batch = max_batch
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
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
                batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
                await self._answer(batch)
        finally:
            self._running = None

    async def _answer(self, batch: list[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._act([question for question, _ in batch])
        except asyncio.CancelledError:
            for _, future in [*batch, *self._waiting]:  # the loop ends: nobody may be left waiting for ever
                future.cancel()
            raise
        except Exception as error:
            # of a store that breaks its promise: what it did is unknown, and nobody else may be harmed
            unavailable = StoreUnavailable(f"the session store failed ({error}): send the chunk again later")
            unavailable.__cause__ = error
            answers = [unavailable] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, HetsynError):
                own = copy(answer)  # each caller's traceback goes into it
                own.__cause__ = answer.__cause__
                future.set_exception(own)
            else:
                future.set_result(answer)


class StorePipeline:
    """One session at a time for its callers, whole batches for the store."""

    def __init__(self, store: StateStore, max_batch: int = MAX_BATCH) -> None:
        self._loads: _Queue[str, Stored | None] = _Queue(store.load, max_batch)
        self._commits: _Queue[Change, Verdict] = _Queue(store.commit, max_batch)

    async def load(self, session: str) -> Stored | None:
        """
        Raises:
            StoreUnavailable, StateError: as ``StateStore.load`` has it for this session.
        """
        return await self._loads.ask(session)

    async def commit(self, change: Change) -> Verdict:
        """
        Raises:
            StoreUnavailable: it may have been committed, or may yet be. StateError: as ``StateStore.commit``.
        """
        return await self._commits.ask(change)

    async def drain(self) -> None:
        """Until all is answered."""
        await self._loads.drain()
        await self._commits.drain()
