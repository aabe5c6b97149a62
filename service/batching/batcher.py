"""Batches across sessions: the asyncio shell around ``backlog``, ``estimates`` and the engine.

A caller submits a chunk and gets its outcome. Whenever an engine thread is free, the policy chooses the next batch,
after two rounds of the event loop (``QUIET_ROUNDS``) without another chunk: chunks that were in the sockets run
together, and none waits for others that may never come.

Time is shared by segments. A batch should run for at most ``SEGMENT_S``, by the estimate. A chunk that is not done then
goes to the back of the queue, because its state is a value. So a short chunk waits for a segment of a long one, not for
all of it. Clients take turns at leading a batch (``backlog``).

A batch of one segment that takes less than ``inline_s`` runs on the event loop, because a thread would take longer.
Audio is encoded there first, which tells the number of spikes; work of unknown length goes to a thread. Of too many
chunks, the first ones run there.

The engine changes no state in place. So a failed batch runs again chunk by chunk, and only chunks that fail on their
own get an error. A state out of range fails its own chunk, not the batch. A chunk may be dropped between two segments:
when its caller is cancelled, and when the server ends. A chunk that has not begun in time is refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import groupby
from math import inf
from operator import attrgetter, itemgetter
from typing import cast

from service.admission.budget import shutting_down, waited_too_long
from service.batching.backlog import SPIKES_A_STEP, Backlog, BatchPolicy
from service.batching.estimates import Estimates, Item, Measured
from service.clock import Executors
from service.engine.engine import Engine, Segment
from service.engine.work import Job, Outcome, Work, begin_all, size_of
from service.errors import ArtifactError, HetsynError, InputError, Overloaded, RuntimeUnavailable
from service.models.model import Model
from service.observe.timings import Timings
from service.observe.watch import NOT_RUN, Ran
from service.wire.chunk import ValuesChunk

log = logging.getLogger("hetsyn.batching")

# A chunk takes two rounds of the event loop from its socket to the batcher (``Ingress.begin``).
QUIET_ROUNDS = 2
MOST_ROUNDS = 16  # a batch starts after as many rounds even if chunks keep arriving
ABANDON_S = 2.0  # a segment takes a tenth of a second; at the server's end, one of this length counts as endless


class Batcher:
    """Runs chunks of many sessions in batches. Used from one event loop.

    Args:
        inline_s: a batch with a shorter estimate runs on the event loop.
        timer: seconds, for a batch's time; by default the thread's CPU time for networks on the host, so that waiting
            for a core does not count.
        max_work, client_share: as of ``Backlog``.
    """

    def __init__(
        self,
        engine: Engine,
        policy: BatchPolicy,
        threads: int,
        inline_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        timer: Callable[[], float] | None = None,
        max_work: float = inf,
        client_share: float = 1.0,
        timings: Timings | None = None,
        executors: Executors = ThreadPoolExecutor,
    ) -> None:
        self._engine = engine
        self._timings = timings or Timings()
        self._policy = policy
        self._threads = threads
        self._inline_s = inline_s
        self._clock = clock
        self._cpu_timer, self._gpu_timer = timer or time.thread_time, timer or time.perf_counter
        self._estimates = Estimates(inline_s)
        self._backlog = Backlog(max_work, client_share, threads)
        self._is_stopped = False
        self._scheduled: asyncio.Handle | None = None
        self._waiting: list[Item] = []
        self._running: dict[asyncio.Task[None], Sequence[Item]] = {}
        self._abandoning: asyncio.TimerHandle | None = None
        self._executors = executors
        self._pool = self._new_pool()

    async def run(self, model: Model, work: Work, client: str = "", due_s: float = inf) -> Outcome:
        """Compute one chunk. If the caller is cancelled, the computation stops.

        Args:
            due_s: deadline for the chunk's beginning, by ``clock``.

        Raises:
            Overloaded: too much work waits, or the chunk has not begun in time.
            ShuttingDown: the chunk was not done when ``stop`` was called.
            HetsynError: as ``Engine.compute``, for this chunk.
        """
        item = Awaited(client, due_s)
        self.submit([item], [model], [work])
        try:
            return (await item.outcome)._replace(ran=item.ran)
        finally:
            self.drop(item)

    def submit(self, items: Sequence[Item], models: Sequence[Model], works: Sequence[Work]) -> None:
        """Compute chunks that came together. ``Item.done`` gets the outcome of each that is not dropped before.

        Those that are too much work, and all after ``stop``, are refused at once.
        """
        if self._is_stopped:
            _tell(items, [shutting_down() for _ in items])
            return
        for item, model, (job, left, events) in zip(items, models, begin_all(models, works), strict=True):
            item.wait(model, job, left, events)
            item.work = left + (events or 0) // SPIKES_A_STEP + 1
        for client, together in groupby(items, _client_of):
            chunks = list(together)
            if not self._backlog.enter_all(client, chunks):
                chunks = self._entered(chunks)
            for item in chunks:
                item.is_computed = True
            self._waiting += chunks
        self._schedule()

    def _entered(self, items: Sequence[Item]) -> list[Item]:
        """Admit the chunks for which the backlog has room, and refuse the others. Returns the admitted ones."""
        entered: list[Item] = []
        for item in items:
            try:
                self._backlog.enter(item)
            except Overloaded as error:
                _tell([item], [error])
            else:
                entered.append(item)
        return entered

    def drop(self, item: Item) -> None:
        """Stop the computation of a chunk: its caller has gone."""
        if item.is_computed:
            item.is_computed = False
            self._backlog.leave([item])

    def _end(self, items: Sequence[Item], outcomes: Sequence[Outcome | Exception]) -> None:
        """Give the callers of chunks their outcomes, if they are still there."""
        if not all(map(_is_computed, items)):
            outcomes = [outcome for item, outcome in zip(items, outcomes, strict=True) if item.is_computed]
            items = [item for item in items if item.is_computed]
        for item in items:
            item.is_computed = False
        self._backlog.leave(items)
        _tell(items, outcomes)

    @property
    def waiting_work(self) -> int:
        """Return the units of work that wait or are computed (``backlog``)."""
        return self._backlog.work

    def stop(self) -> None:
        """Refuse the chunks that wait, and all later ones. Running chunks stop after their segment.

        If a segment does not end, its chunks are refused after ``ABANDON_S``.
        """
        self._is_stopped = True
        waiting, self._waiting = self._waiting, []
        self._end(waiting, [shutting_down() for _ in waiting])
        if self._running and self._abandoning is None:
            self._abandoning = asyncio.get_running_loop().call_later(ABANDON_S, self._abandon)

    def _abandon(self) -> None:
        """Refuse the chunks of segments that do not end."""
        for batch in self._running.values():
            self._end(batch, [shutting_down() for _ in batch])

    async def close(self) -> None:
        """Run the waiting chunks, and end the threads. Endless work without a caller is stopped."""
        while self._running or self._waiting:
            self._start()
            if self._running and not (await asyncio.wait(self._running, timeout=ABANDON_S))[0]:
                for batch in self._running.values():
                    if not any(item.is_computed for item in batch):
                        batch[0].model.stop()
        if self._abandoning is not None:
            self._abandoning.cancel()
        self._pool.shutdown()
        self._pool = self._new_pool()  # a pool starts its threads when it is first used

    def _new_pool(self) -> Executor:
        return self._executors(self._threads, "engine")

    def _schedule(self) -> None:
        """Start batches of what waits, after ``QUIET_ROUNDS`` rounds of the event loop without another chunk."""
        if self._waiting and self._scheduled is None:
            loop = asyncio.get_running_loop()
            self._scheduled = loop.call_soon(self._gather, len(self._waiting), QUIET_ROUNDS, MOST_ROUNDS)

    def _gather(self, waiting: int, quiet: int, most: int) -> None:
        """Start batches now, or look again in the next round of the event loop.

        Args:
            waiting: chunks that waited in the last round.
            quiet: rounds left if no chunk arrives.
            most: rounds left if chunks keep arriving.
        """
        quiet = quiet - 1 if len(self._waiting) == waiting else QUIET_ROUNDS
        if quiet and most > 1:
            loop = asyncio.get_running_loop()
            self._scheduled = loop.call_soon(self._gather, len(self._waiting), quiet, most - 1)
        else:
            self._start()

    def _start(self) -> None:
        """Start a batch on every free thread, or run one short batch on the event loop.

        Forgets the chunks without a caller before, and refuses those that have not begun in time.
        """
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        now_s, waiting = self._clock(), self._waiting
        if not all(map(_is_computed, waiting)) or min(map(_due_of, waiting), default=inf) <= now_s:
            late = [item for item in waiting if item.due_s <= now_s]
            self._end(late, [waited_too_long() for _ in late])
            self._waiting = [item for item in waiting if item.is_computed]
        while len(self._running) < self._threads:
            indices = self._policy.choose(self._waiting, self._backlog.turns)
            if not indices:
                return
            batch = [self._waiting[index] for index in indices]
            self._backlog.to_the_end(batch[0].client)
            is_short = bool(count := self._estimates.count_inline(batch))
            if not is_short:
                count, limit = self._estimates.segment(batch)
            if count < len(batch):
                batch = batch[:count]
            if len(batch) == len(self._waiting):
                self._waiting = []
            else:
                chosen = set(indices[:count])
                self._waiting = [item for index, item in enumerate(self._waiting) if index not in chosen]
            if is_short:
                self._run_here(batch)
                self._schedule()  # first accept the chunks that arrived meanwhile
                return
            task = asyncio.get_running_loop().create_task(self._run(batch, limit))
            self._running[task] = batch
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._schedule()

    def _run_here(self, batch: Sequence[Item]) -> None:
        """Run a batch of short chunks on the event loop, and so on the CPU."""
        model, timer = batch[0].model, self._cpu_timer
        limit = max(map(_left_of, batch))
        begun_s = time.perf_counter()
        try:
            started_s = timer()
            segment = self._engine.take(model, list(map(_job_of, batch)), limit)
            encoded_s, encode_s = timer(), None
            if None in map(_events_of, batch):  # audio or values: an encoder has made spikes
                encode_s = encoded_s - started_s
                line = self._estimates.network[batch[0].group]
                if encode_s + line.seconds(segment.steps + len(batch), segment.events) >= self._inline_s:
                    # more spikes than expected; the encoder does not run twice
                    task = asyncio.get_running_loop().create_task(self._run(batch, limit, (segment, encode_s)))
                    self._running[task] = batch
                    task.add_done_callback(self._ended)
                    return
            results = self._engine.compute(model, segment)
            network_s = timer() - encoded_s
            ran = Ran(begun_s, time.perf_counter() - begun_s, 1 / len(batch))
            measured = Measured(results, segment, encode_s, network_s, ran)
        except Exception as error:
            if len(batch) == 1:
                self._end(batch, [_explained(batch[0], error)])
            else:
                for item in batch:
                    self._run_here([item])
        else:
            self._finish(batch, measured)

    async def _run(self, batch: Sequence[Item], limit: int, taken: tuple[Segment, float] | None = None) -> None:
        """Run a batch on a thread. ``taken`` has its segment and its encoder's seconds, if that ran already."""
        try:
            loop = asyncio.get_running_loop()
            measured = await loop.run_in_executor(self._pool, self._compute, batch, limit, taken)
        except asyncio.CancelledError:
            self._end(batch, [shutting_down() for _ in batch])  # the event loop ends: nobody may wait without an end
            raise
        except Exception as error:
            if len(batch) == 1:
                self._end(batch, [_explained(batch[0], error)])
                return
            for item in batch:
                if item.is_computed:
                    await self._run([item], limit)
        else:
            self._finish(batch, measured)

    def _compute(self, batch: Sequence[Item], limit: int, taken: tuple[Segment, float] | None) -> Measured:
        model = batch[0].model
        timer = self._cpu_timer if model.is_on_cpu else self._gpu_timer
        begun_s, started_s = time.perf_counter(), timer()
        segment, encode_s = taken or (self._engine.take(model, list(map(_job_of, batch)), limit), None)
        encoded_s = timer()
        if taken is None and None in map(_events_of, batch):
            encode_s = encoded_s - started_s
        results = self._engine.compute(model, segment)
        network_s = timer() - encoded_s
        ran = Ran(begun_s, time.perf_counter() - begun_s, 1 / len(batch))
        return Measured(results, segment, encode_s, network_s, ran)

    def _finish(self, batch: Sequence[Item], measured: Measured) -> None:
        """Answer the chunks that are done, and let the others wait again. If that fails, all get the error."""
        results, ran = measured.results, measured.ran
        try:
            self._backlog.unit_s = self._estimates.observe(batch, measured)
            self._timings.batch(batch[0].model.name, len(batch))
            if len(results) != len(batch):
                raise ValueError(f"the engine gave {len(results)} results of {len(batch)} chunks")
            for item in batch:
                item.ran = ran if item.ran is NOT_RUN else item.ran.and_then(ran)
            if Job in map(type, results):
                items, outcomes = self._separate(batch, results)
            else:
                items, outcomes = batch, cast("Sequence[Outcome | Exception]", results)
        except Exception as error:
            items, outcomes = batch, [error] * len(batch)
        self._end(items, outcomes)

    def _separate(
        self, batch: Sequence[Item], results: Sequence[Job | Outcome | HetsynError]
    ) -> tuple[Sequence[Item], Sequence[Outcome | Exception]]:
        """Return the chunks that are done, with their outcomes. The others wait again, behind later arrivals."""
        ended: list[Item] = []
        outcomes: list[Outcome | Exception] = []
        for item, result in zip(batch, results, strict=True):
            if not isinstance(result, Job):
                outcomes.append(result)
            elif self._is_stopped:
                outcomes.append(shutting_down())
            else:
                if item.is_computed:
                    self._go_on(item, result)
                continue
            ended.append(item)
        return ended, outcomes

    def _go_on(self, item: Item, job: Job) -> None:
        """Let a chunk wait for its next segment."""
        before, item.due_s = item.left, inf
        item.wait(item.model, job, *size_of(item.model, job))
        item.is_long = item.is_long or job.steps > 0  # its segments would follow one another on the event loop
        self._backlog.progress(item, before - item.left)
        self._waiting.append(item)


_is_computed, _due_of, _client_of = attrgetter("is_computed"), attrgetter("due_s"), attrgetter("client")
_left_of, _job_of, _events_of = attrgetter("left"), attrgetter("job"), attrgetter("events")


class Awaited(Item):
    """A chunk that a task waits for."""

    def __init__(self, client: str, due_s: float) -> None:
        super().__init__(client, due_s)
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @staticmethod
    def done(items: Sequence[Awaited], outcomes: Sequence[Outcome | Exception]) -> None:
        for item, outcome in zip(items, outcomes, strict=True):
            if item.outcome.done():  # its task was cancelled a moment ago, and has not run since
                continue
            if isinstance(outcome, Exception):
                item.outcome.set_exception(outcome)
            else:
                item.outcome.set_result(outcome)


def _tell(items: Sequence[Item], outcomes: Sequence[Outcome | Exception]) -> None:
    """Give the callers of chunks their outcomes."""
    for kind, together in groupby(zip(map(type, items), items, outcomes, strict=True), itemgetter(0)):
        _, of_kind, results = zip(*together, strict=True)
        try:
            kind.done(of_kind, results)
        except Exception as error:  # the others' callers must still get theirs
            log.error("the outcomes of chunks could not be used", exc_info=error)


def _explained(item: Item, error: Exception) -> Exception:
    """Make the error of a chunk that fails alone. A foreign cell may not take every number: an index, for example.

    The graph has passed its tests, so the chunk is at fault if the client chose the numbers. A GPU may fail by itself,
    too: its memory is full, or it is lost.
    """
    model = item.model
    if not isinstance(error, ArtifactError) or not isinstance(item.job.chunk, ValuesChunk):
        return error
    if model.is_on_cpu:
        return InputError(f"model {model.name!r} cannot compute these values ({error}): send values that it takes")
    return RuntimeUnavailable(
        f"model {model.name!r} failed on the GPU ({error}): see whether nvidia-smi finds it, and its memory is free"
    )
