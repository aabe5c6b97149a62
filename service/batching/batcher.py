"""Batches across sessions: the asyncio shell around ``policy``, ``cost`` and the engine.

A caller hands in one chunk and waits for its outcome. Whenever an engine thread is free the policy chooses the next
batch, once the event loop has gone round without another chunk: chunks that were in the sockets run together, and none
waits for another that may never come.

Time is shared by segments. A batch runs for ``SEGMENT_S`` at most, by the cost model's upper estimate, and a chunk that
is not done then goes to the back of the queue: its state is a value. So a short chunk waits for a segment of a long
one and not for all of it. A batch that is done in one segment and takes less than ``inline_s`` runs on the event loop
itself: handing it to a thread and back would take longer. Audio is encoded there first, which makes the spikes known;
unknown work goes to a thread. Of more chunks than are short together, the first ones run there.

The engine changes no state in place, so a batch that fails is run again chunk by chunk, and the error reaches those
alone whose chunk fails on its own. A caller that goes away harms nobody: its chunk runs with the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import NamedTuple

from service.batching.cost import CostModel
from service.batching.policy import BatchPolicy, Wait, Waiting
from service.contract.manifest import FormName
from service.engine.engine import Engine, Segment
from service.engine.work import Job, Outcome, Work, begin, count_events, steps_left
from service.models.model import Model

# A chunk takes two rounds of the event loop from its socket to the batcher: one starts its request's task, one its own.
QUIET_ROUNDS = 2
MOST_ROUNDS = 16  # a batch starts after so many rounds although chunks keep arriving

SEGMENT_S = 5e-3
MAX_SEGMENT_STEPS = 1_000  # of each stream, to bound the memory
PROBE_STEPS = 16  # of each stream, of work whose cost is not known


class _Item(NamedTuple):
    model: Model
    form: FormName
    job: Job
    left: int  # steps that the job still takes, at least 1
    waiting: Waiting
    outcome: asyncio.Future[Outcome]


class _Measured(NamedTuple):
    """What a segment took.

    Attributes:
        results: of each job.
        segment: the steps that were run.
        encode_s: seconds until the network ran.
        network_s: seconds of the network.
    """

    results: Sequence[Job | Outcome]
    segment: Segment
    encode_s: float
    network_s: float


class Batcher:
    """Runs chunks of many sessions in batches. Used from one event loop.

    Args:
        engine: computes a batch.
        policy: chooses a batch.
        threads: batches that run at the same time.
        inline_s: a batch that is expected to take less time runs on the event loop.
        clock: seconds, for the policy.
        timer: seconds, for the time that a batch takes; by default of the thread's CPU for networks on the host, since
            a thread that waits for its turn does not make a batch dearer.
    """

    def __init__(
        self,
        engine: Engine,
        policy: BatchPolicy,
        threads: int,
        inline_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        timer: Callable[[], float] | None = None,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._threads = threads
        self._inline_s = inline_s
        self._clock = clock
        self._own_timer = timer
        self._costs = CostModel()
        self._scheduled: asyncio.Handle | None = None
        self._waiting: list[_Item] = []
        self._running: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        self._pool = self._new_pool()

    async def run(self, model: Model, form: FormName, work: Work) -> Outcome:
        """Compute one chunk.

        Args:
            model: of the chunk's session.
            form: of the model.
            work: the chunk and the stream before it.

        Raises:
            HetsynError: as ``Engine.compute``, for this chunk.
        """
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(self._item(model, form, begin(work), outcome))
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

    def _item(self, model: Model, form: FormName, job: Job, outcome: asyncio.Future[Outcome]) -> _Item:
        left = steps_left(model, job) or 1
        group = (model.name, model.version, form)
        return _Item(model, form, job, left, Waiting(group, min(left, MAX_SEGMENT_STEPS), self._clock()), outcome)

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="engine")

    def _timer(self, item: _Item) -> Callable[[], float]:
        if self._own_timer is not None:
            return self._own_timer
        return time.thread_time if item.model.states(item.form).is_host else time.perf_counter

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
            now_s = self._clock() if may_wait else inf
            choice = self._policy.choose([item.waiting for item in self._waiting], now_s)
            if choice is None:
                return
            if isinstance(choice, Wait):
                self._wake = asyncio.get_running_loop().call_later(choice.until_s - now_s, self._start)
                return
            batch = [self._waiting[index] for index in choice.indices]
            count = self._count_inline(batch)
            chosen = set(choice.indices[:count] if count else choice.indices)
            self._waiting = [item for index, item in enumerate(self._waiting) if index not in chosen]
            if count:
                self._run_here(batch[:count])
                self._schedule()  # first accept the chunks that arrived meanwhile
                return
            task = asyncio.get_running_loop().create_task(self._run(batch, self._segment_steps(batch)))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._schedule()

    def _segment_steps(self, batch: Sequence[_Item]) -> int:
        """Steps of each stream that the batch may run, so that it takes ``SEGMENT_S``."""
        limit = min(max(item.left for item in batch), MAX_SEGMENT_STEPS)
        while True:
            steps = sum(min(item.left, limit) + 1 for item in batch)
            step_s = self._step_s(batch, limit, steps)
            if step_s == inf:
                return min(limit, PROBE_STEPS)
            if steps * step_s <= SEGMENT_S or limit == 1:
                return limit
            # a denser part of a chunk may follow a quiet one, so the shorter segment is looked up anew
            limit = max(1, min(limit // 2, int(SEGMENT_S / (step_s * len(batch)))))

    def _step_s(self, batch: Sequence[_Item], limit: int, steps: int) -> float:
        """Upper estimate of the time of one step, that of the encoder included; inf if it is not known."""
        group = batch[0].waiting.group
        events, encode_s = 0.0, 0.0
        for item in batch:
            known = count_events(item.job, limit)
            if known is None:
                density = self._costs.density(("network", group))
                if density is None:
                    return inf
                known = round(density * min(item.left, limit))
                encode_s = self._costs.step_s(("encode", group), steps, 0)
            events += known
        return encode_s + self._costs.step_s(("network", group), steps, int(events))

    def _count_inline(self, batch: Sequence[_Item]) -> int:
        """Number of chunks, from the first on, that are short enough together to run on the event loop."""
        first = batch[0]
        if self._inline_s <= 0 or not first.model.states(first.form).is_host:
            return 0
        count = len(batch)
        while count:
            expected_s = self._expected_s(batch[:count])
            if expected_s < self._inline_s:
                return count
            if expected_s == inf:
                return 0
            count = min(count - 1, int(count * self._inline_s / expected_s))
        return 0

    def _expected_s(self, batch: Sequence[_Item]) -> float:
        """Time that a batch should take; inf for a long chunk, or a density that has not been seen."""
        group = batch[0].waiting.group
        steps = events = audio_steps = 0
        for item in batch:
            job, left = item.job, item.left
            resampler = job.stream.resampler
            if resampler is not None and resampler.is_slow:
                return inf  # its time does not hang on the steps
            if left > MAX_SEGMENT_STEPS or job.steps:
                return inf  # of a long chunk no part runs here, or the parts would follow one another
            count = count_events(job, left)
            if count is None:
                audio_steps += left + 1
            else:
                events += count
                steps += left + 1
        expected_s = 0.0
        if audio_steps:
            # the spikes of audio are known once it is encoded; if it has never been, the network's time is left out
            expected_s = self._costs.expected_s(("encode", group), audio_steps, 0)
            density = self._costs.density(("network", group))
            if density is not None:
                events += round(density * audio_steps)
                steps += audio_steps
        if steps:
            expected_s += self._costs.expected_s(("network", group), steps, events)
        return expected_s

    def _run_here(self, batch: Sequence[_Item]) -> None:
        """Run a batch of short chunks on the event loop."""
        first = batch[0]
        limit = max([item.left for item in batch])
        timer = self._timer(first)
        try:
            started_s = timer()
            segment = self._engine.take(first.model, [item.job for item in batch], limit)
            encoded_s = timer()
            if _has_audio(batch):
                work = ("network", first.waiting.group)
                expected_s = self._costs.expected_s(work, segment.steps + len(batch), segment.events)
                if encoded_s - started_s + expected_s >= self._inline_s:
                    # denser than it was before; the encoder's work is not done twice
                    task = asyncio.get_running_loop().create_task(self._run(batch, limit, segment))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
                    return
            results = self._engine.compute(first.model, first.form, segment)
            measured = _Measured(results, segment, encoded_s - started_s, timer() - encoded_s)
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
            else:
                for item in batch:
                    self._run_here([item])
        else:
            self._finish(batch, measured)

    async def _run(self, batch: Sequence[_Item], limit: int, segment: Segment | None = None) -> None:
        """Run a batch on a thread.

        Args:
            limit: steps of each stream.
            segment: of the batch, if it was taken before.
        """
        try:
            loop = asyncio.get_running_loop()
            measured = await loop.run_in_executor(self._pool, self._compute, batch, limit, segment)
        except asyncio.CancelledError:
            for item in batch:  # the event loop ends: no caller may wait for ever
                item.outcome.cancel()
            raise
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            for item in batch:
                await self._run([item], limit)
        else:
            self._finish(batch, measured)

    def _compute(self, batch: Sequence[_Item], limit: int, segment: Segment | None) -> _Measured:
        first = batch[0]
        timer = self._timer(first)
        started_s = timer()
        encode_s = 0.0
        if segment is None:
            segment = self._engine.take(first.model, [item.job for item in batch], limit)
            encode_s = timer() - started_s
        results = self._engine.compute(first.model, first.form, segment)
        return _Measured(results, segment, encode_s, timer() - started_s - encode_s)

    def _finish(self, batch: Sequence[_Item], measured: _Measured) -> None:
        """Answer the chunks that are done, and let the others wait again, behind those that came meanwhile."""
        group: Hashable = batch[0].waiting.group
        steps = measured.segment.steps + len(batch)
        if _has_audio(batch):
            self._costs.observe(("encode", group), steps, 0, measured.encode_s)
            self._costs.observe_density(("network", group), measured.segment.events / steps)
        self._costs.observe(("network", group), steps, measured.segment.events, measured.network_s)
        for item, result in zip(batch, measured.results, strict=True):
            if isinstance(result, Job):
                self._waiting.append(self._item(item.model, item.form, result, item.outcome))
            elif not item.outcome.done():
                item.outcome.set_result(result)


def _has_audio(batch: Sequence[_Item]) -> bool:
    return any(item.job.stream.kind == "audio" for item in batch)


def _fail(item: _Item, error: Exception) -> None:
    if not item.outcome.done():  # a cancelled caller's is done
        item.outcome.set_exception(error)
