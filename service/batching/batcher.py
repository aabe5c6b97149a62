"""Batches across sessions: the asyncio shell around ``policy`` and the engine.

A caller submits one chunk and waits for its outcome. When an engine thread is free and two rounds of the event loop
have brought no further chunk, the policy picks the next batch. So chunks that were in the sockets run together, and no
chunk waits for another that may never come. A batch that is expected to be short runs on the event loop itself, because
handing it to a thread and back would take longer.

The engine changes no state in place. So a batch that fails is run again chunk by chunk, and only the callers whose
chunks fail alone get an error. The chunk of a caller that is cancelled runs with the others.
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

# A chunk takes two rounds of the event loop from its socket to the batcher: one starts its request's task, one its own.
QUIET_ROUNDS = 2
MOST_ROUNDS = 16  # a batch starts after so many rounds although chunks keep arriving


class _Item(NamedTuple):
    model: Model
    form: FormName
    work: Work
    waiting: Waiting
    outcome: asyncio.Future[Outcome]


class Batcher:
    """Runs chunks of many sessions in batches. Used from one event loop.

    Args:
        engine: computes a batch.
        policy: chooses a batch.
        threads: batches that run at the same time.
        inline_s: a batch that is expected to take less time runs on the event loop.
        clock: seconds, for the policy.
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
        self._step_s: dict[Hashable, float] = {}  # time of one step of one stream, by group, as measured
        self._scheduled: asyncio.Handle | None = None
        self._waiting: list[_Item] = []
        self._running: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._pool = self._new_pool()

    async def run(self, model: Model, form: FormName, work: Work, steps: int) -> Outcome:
        """Compute one chunk.

        Args:
            model: of the chunk's session.
            form: of the model.
            work: the chunk and the stream before it.
            steps: that the chunk takes, from ``Engine.check``.

        Raises:
            HetsynError: as ``Engine.run``, for this chunk.
        """
        group = (model.name, model.version, form)
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Item(model, form, work, Waiting(group, steps, self._clock()), outcome))
        self._schedule()
        return await outcome

    async def close(self) -> None:
        """Run the waiting chunks, and end the threads."""
        while self._running or self._waiting:
            self._start(may_wait=False)
            if self._running:
                await asyncio.wait(self._running)
        self._pool.shutdown()
        self._pool = self._new_pool()  # a pool starts its threads when it is first used

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="engine")

    def _schedule(self) -> None:
        """Start batches after ``QUIET_ROUNDS`` rounds of the event loop without another chunk."""
        if self._scheduled is None:
            self._gather(len(self._waiting), QUIET_ROUNDS, MOST_ROUNDS)

    def _gather(self, waiting: int, quiet: int, most: int) -> None:
        """Start batches now, or check again in the next round of the event loop.

        Args:
            waiting: chunks that waited in the last round.
            quiet: rounds left if no chunk arrives.
            most: rounds left if chunks keep arriving.
        """
        if not quiet or not most:
            self._start()
            return
        now_waiting = len(self._waiting)
        quiet = quiet - 1 if now_waiting == waiting else QUIET_ROUNDS
        self._scheduled = asyncio.get_running_loop().call_soon(self._gather, now_waiting, quiet, most - 1)

    def _start(self, *, may_wait: bool = True) -> None:
        """Start a batch on every free thread, or run one short batch on the event loop."""
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
                self._schedule()  # first accept the chunks that arrived meanwhile
                return
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._schedule()

    def _expected_s(self, batch: list[_Item]) -> float:
        """Time that a batch is expected to take; infinite for a group that has not run yet."""
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
            for item in batch:  # the event loop ends: no caller may wait for ever
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
        before_s = self._step_s.get(first.waiting.group)
        # a moving average, because the first batch of a group is slower than those that follow
        self._step_s[first.waiting.group] = step_s if before_s is None else (before_s + step_s) / 2
        return outcomes


def _fail(item: _Item, error: Exception) -> None:
    if not item.outcome.done():  # a cancelled caller's is done
        item.outcome.set_exception(error)


def _succeed(batch: list[_Item], outcomes: list[Outcome]) -> None:
    for item, outcome in zip(batch, outcomes, strict=True):
        if not item.outcome.done():
            item.outcome.set_result(outcome)
