"""Batches across sessions: the asyncio shell around ``batch_policy`` and the engine.

A caller hands in one chunk and waits for its outcome. Whenever an engine thread is free the policy picks the next
batch. The engine changes no state in place, so a batch that fails is run again chunk by chunk, and the error reaches
those alone whose chunk fails on its own. A caller that goes away harms nobody: its chunk runs with the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.artifact import FormName
from service.batch_policy import BatchPolicy, Wait, Waiting
from service.engine import Engine, Outcome, Work
from service.models import Model


@dataclass(frozen=True)
class _Item:
    model: Model
    form: FormName
    work: Work
    waiting: Waiting
    outcome: asyncio.Future[Outcome]


class Batcher:
    """Used from one event loop.

    Args:
        threads: batches that run at the same time.
        clock: seconds, for the policy's waiting.
    """

    def __init__(
        self, engine: Engine, policy: BatchPolicy, threads: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._threads = threads
        self._clock = clock
        self._waiting: list[_Item] = []
        self._running: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._pool = self._new_pool()

    async def run(self, model: Model, form: FormName, work: Work, steps: int) -> Outcome:
        """The outcome of one chunk.

        Args:
            steps: that the chunk will take, as ``Engine.check`` gave them.

        Raises:
            HetsynError: as ``Engine.run``, for this chunk.
        """
        group = (model.name, model.version, form)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Item(model, form, work, Waiting(group, steps, self._clock()), outcome))
        self._start()
        return await outcome

    async def close(self) -> None:
        """Run what waits, and end the threads."""
        while self._running or self._waiting:
            self._start(may_wait=False)
            await asyncio.wait(self._running)
        self._pool.shutdown()
        self._pool = self._new_pool()  # starts no thread before it is used

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="engine")

    def _start(self, *, may_wait: bool = True) -> None:
        """Give every free thread a batch."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        while len(self._running) < self._threads:
            now_s = self._clock() if may_wait else float("inf")
            choice = self._policy.choose([item.waiting for item in self._waiting], now_s)
            if choice is None:
                return
            if isinstance(choice, Wait):
                self._wake = asyncio.get_running_loop().call_later(choice.until_s - now_s, self._start)
                return
            chosen = set(choice.places)
            batch = [self._waiting[place] for place in choice.places]
            self._waiting = [item for place, item in enumerate(self._waiting) if place not in chosen]
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _run(self, batch: list[_Item]) -> None:
        try:
            outcomes = await self._on_thread(batch)
        except asyncio.CancelledError:
            for item in batch:  # the loop ends: nobody may be left waiting for ever
                item.outcome.cancel()
            raise
        except Exception as error:
            if len(batch) == 1:
                if not batch[0].outcome.done():
                    batch[0].outcome.set_exception(error)
                return
            for item in batch:
                await self._run([item])
        else:
            for item, outcome in zip(batch, outcomes, strict=True):
                if not item.outcome.done():
                    item.outcome.set_result(outcome)

    async def _on_thread(self, batch: list[_Item]) -> list[Outcome]:
        model, form, works = batch[0].model, batch[0].form, [item.work for item in batch]
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._engine.run, model, form, works)
