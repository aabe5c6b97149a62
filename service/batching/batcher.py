"""Batches across sessions: the asyncio shell around ``batch_policy`` and the engine.

A caller hands in one chunk and waits for its outcome. Whenever an engine thread is free the policy picks the next
batch, once the event loop has gone round without another chunk: chunks that were in the sockets run together, and none
waits for another that may never come. A batch that is expected to be short runs on the event loop itself: handing it to
a thread and back would take longer. The engine changes no state in place, so a batch that fails is run again chunk by
chunk, and the error reaches those alone whose chunk fails on its own. A caller that goes away harms nobody: its chunk
runs with the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from service.batching.policy import BatchPolicy, Wait, Waiting
from service.contract.manifest import FormName
from service.engine.engine import Engine, Outcome, Work
from service.models.model import Model

# From its socket to here a chunk takes two rounds of the event loop: one that begins its request's task, one its own.
QUIET_ROUNDS = 2
MOST_ROUNDS = 16  # while chunks keep coming


class _Item(NamedTuple):
    model: Model
    form: FormName
    work: Work
    waiting: Waiting
    outcome: asyncio.Future[Outcome]


class Batcher:
    """Used from one event loop.

    Args:
        threads: batches that run at the same time.
        inline_s: a batch that is expected to take less runs on the event loop.
        clock: seconds, for the policy's waiting.
    """

    def __init__(
        self,
        engine: Engine,
        policy: BatchPolicy,
        threads: int,
        inline_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._threads = threads
        self._inline_s = inline_s
        self._clock = clock
        self._step_s: dict[Hashable, float] = {}  # of a stream's step, by group, from the batches that ran
        self._scheduled: asyncio.Handle | None = None
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
        self._schedule()
        return await outcome

    async def close(self) -> None:
        """Run what waits, and end the threads."""
        while self._running or self._waiting:
            self._start(may_wait=False)
            if self._running:
                await asyncio.wait(self._running)
        self._pool.shutdown()
        self._pool = self._new_pool()  # starts no thread before it is used

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="engine")

    def _schedule(self) -> None:
        """Start what can be started once the event loop has gone round without another chunk."""
        if self._scheduled is None:
            self._gather(len(self._waiting), QUIET_ROUNDS, MOST_ROUNDS)

    def _gather(self, waiting: int, quiet: int, most: int) -> None:
        """waiting: chunks at the last round. quiet, most: rounds left without another chunk, and in all."""
        if not quiet or not most:
            self._start()
            return
        now = len(self._waiting)
        left = quiet - 1 if now == waiting else QUIET_ROUNDS
        self._scheduled = asyncio.get_running_loop().call_soon(self._gather, now, left, most - 1)

    def _start(self, *, may_wait: bool = True) -> None:
        """Give every free thread a batch, or run one here that is short."""
        for handle in (self._wake, self._scheduled):
            if handle is not None:
                handle.cancel()
        self._wake = self._scheduled = None
        while len(self._running) < self._threads:
            now_s = self._clock() if may_wait else float("inf")
            choice = self._policy.choose([item.waiting for item in self._waiting], now_s)
            if choice is None:
                return
            if isinstance(choice, Wait):
                self._wake = asyncio.get_running_loop().call_later(choice.until_s - now_s, self._start)
                return
            chosen = set(choice.indices)
            batch = [self._waiting[index] for index in choice.indices]
            self._waiting = [item for index, item in enumerate(self._waiting) if index not in chosen]
            if self._expected_s(batch) < self._inline_s:
                self._run_here(batch)
                self._schedule()  # what arrived meanwhile comes first
                return
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._schedule()

    def _expected_s(self, batch: list[_Item]) -> float:
        """Infinite for a group that has not run yet."""
        return self._step_s.get(batch[0].waiting.group, float("inf")) * sum(item.waiting.steps + 1 for item in batch)

    def _run_here(self, batch: list[_Item]) -> None:
        try:
            outcomes = self._compute(batch)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
            else:
                for item in batch:
                    self._run_here([item])
        else:
            _succeed(batch, outcomes)

    async def _run(self, batch: list[_Item]) -> None:
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(self._pool, self._compute, batch)
        except asyncio.CancelledError:
            for item in batch:  # the loop ends: nobody may be left waiting for ever
                item.outcome.cancel()
            raise
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            for item in batch:
                await self._run([item])
        else:
            _succeed(batch, outcomes)

    def _compute(self, batch: list[_Item]) -> list[Outcome]:
        first = batch[0]
        started_s = time.perf_counter()
        outcomes = self._engine.run(first.model, first.form, [item.work for item in batch])
        step_s = (time.perf_counter() - started_s) / sum(item.waiting.steps + 1 for item in batch)
        known_s = self._step_s.get(first.waiting.group)
        # the first batch of a group is slower than those that follow
        self._step_s[first.waiting.group] = step_s if known_s is None else (known_s + step_s) / 2
        return outcomes


def _fail(item: _Item, error: Exception) -> None:
    if not item.outcome.done():  # its caller may be gone
        item.outcome.set_exception(error)


def _succeed(batch: list[_Item], outcomes: list[Outcome]) -> None:
    for item, outcome in zip(batch, outcomes, strict=True):
        if not item.outcome.done():
            item.outcome.set_result(outcome)
