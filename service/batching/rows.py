"""Runs plain chunks of many sessions at once (``engine.rows``), by the cost model of all batches.

A short batch runs on the event loop. A longer one runs on a thread, so that the event loop decodes and answers other
frames meanwhile: most of its time is ONNX Runtime's, which needs no lock of the interpreter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from service.batching.estimates import MAX_SEGMENT_STEPS, Estimates
from service.engine.engine import Engine
from service.engine.rows import RowsAfter, run_segment, run_spikes, take_rows
from service.engine.stream import StreamState
from service.models.model import Model
from service.observe.timings import Timings
from service.observe.watch import Watch
from service.wire.chunk import AudioChunk, Chunk
from service.wire.columns import Spikes

THREAD_S = 1e-3  # a batch that takes longer is worth the way to a thread and back


class Measured(NamedTuple):
    """A batch that ran.

    Attributes:
        after: the streams; None if one of them fails.
        steps: of all, and one of each.
        events: of all.
        encode_s: time of the encoder; None where there is none.
        network_s: time of the network.
        begun_s: when it began, by the clock of ``Watch``.
        wall_s: seconds from then on, by that clock.
    """

    after: RowsAfter | None
    steps: int
    events: int
    encode_s: float | None
    network_s: float
    begun_s: float
    wall_s: float


class RowBatch(NamedTuple):
    """A batch that may run.

    Attributes:
        group: of its chunks.
        expected_s: time that it should take.
        model: name of their model.
        rows: number of the chunks.
        compute: runs it; no state is changed in place.
    """

    group: Hashable
    expected_s: float
    model: str
    rows: int
    compute: Callable[[], Measured]

    @property
    def is_long(self) -> bool:
        """Whether it should run on a thread."""
        return self.expected_s >= THREAD_S


class RowBatches:
    """Runs batches of rows. Used from one event loop.

    Args:
        engine: computes them.
        estimates: of batches.
        max_batch: most rows of a batch.
        timings: count batches.

    Attributes:
        max_batch: see above.
        is_stopped: nothing more is run.
    """

    def __init__(self, engine: Engine, estimates: Estimates, max_batch: int, timings: Timings) -> None:
        self._engine = engine
        self._estimates = estimates
        self._timings = timings
        self.max_batch = max_batch
        self.is_stopped = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rows")  # it starts its thread when it is first used

    def of_spikes(self, model: Model, streams: Sequence[StreamState], spikes: Spikes) -> RowBatch | None:
        """One chunk of each stream.

        Args:
            model: of the streams.
            streams: of spikes.
            spikes: of plain chunks, checked by ``Engine.check``, but for their channels.

        Returns:
            None if they should go the usual way, because they take too long together.
        """
        steps, events = sum(spikes.steps) + len(streams), len(spikes.step)

        def compute() -> Measured:
            begun_s, started_s = time.perf_counter(), time.thread_time()
            after = run_spikes(model, streams, spikes)
            network_s = time.thread_time() - started_s
            return Measured(after, steps, events, None, network_s, begun_s, time.perf_counter() - begun_s)

        return self._batch(model, len(streams), steps, events, compute)

    def of_chunks(self, model: Model, streams: Sequence[StreamState], chunks: Sequence[Chunk]) -> RowBatch | None:
        """As ``of_spikes``, of audio or values.

        Args:
            model: of the streams.
            streams: all of audio, or all of values.
            chunks: plain ones, checked by ``Engine.check``.
        """

        def compute() -> Measured:
            begun_s, started_s = time.perf_counter(), time.thread_time()
            segment = take_rows(self._engine, model, streams, chunks, MAX_SEGMENT_STEPS)
            encoded_s = time.thread_time()
            after = run_segment(self._engine, model, segment)
            steps, ended_s = segment.steps + len(chunks), time.thread_time()
            encode_s, wall_s = encoded_s - started_s, time.perf_counter() - begun_s
            return Measured(after, steps, segment.events, encode_s, ended_s - encoded_s, begun_s, wall_s)

        return self._batch(model, len(streams), _most_steps(model, streams, chunks), None, compute)

    def run(self, batch: RowBatch, watch: Watch | None = None) -> RowsAfter | None:
        """Run a batch here; None if it should go the usual way: one of its chunks fails.

        Args:
            batch: from ``of_spikes`` or ``of_chunks``.
            watch: of the chunks' time.
        """
        try:
            return self._observed(batch, batch.compute(), watch)
        except Exception:
            return None  # the usual way finds out whose fault it is

    async def run_on_thread(self, batch: RowBatch, watch: Watch | None = None) -> RowsAfter | None:
        """As ``run``, on a thread. If the caller is cancelled, the batch is computed for nobody."""
        try:
            measured = await asyncio.get_running_loop().run_in_executor(self._pool, batch.compute)
        except Exception:
            return None
        return self._observed(batch, measured, watch)

    def close(self) -> None:
        """End the thread, after the batch that it runs."""
        self._pool.shutdown()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="rows")

    def _batch(
        self, model: Model, rows: int, steps: int, events: int | None, compute: Callable[[], Measured]
    ) -> RowBatch | None:
        group = (model.name, model.version)
        expected_s = self._estimates.rows_s(group, steps, events)
        if self.is_stopped or expected_s >= self._estimates.inline_s:
            return None
        return RowBatch(group, expected_s, model.name, rows, compute)

    def _observed(self, batch: RowBatch, measured: Measured, watch: Watch | None) -> RowsAfter | None:
        after, steps, events, encode_s, network_s, begun_s, wall_s = measured
        if after is not None:
            self._timings.batch(batch.model, batch.rows)
            if watch is not None:
                watch.computed(begun_s, wall_s)
            if steps > batch.rows:  # else it says nothing of what a step takes
                self._estimates.observe_rows(batch.group, steps, events, encode_s, network_s)
        return after


def _most_steps(model: Model, streams: Sequence[StreamState], chunks: Sequence[Chunk]) -> int:
    """Steps that chunks of audio or values take at most, and one a stream."""
    if not isinstance(chunks[0], AudioChunk):
        return sum([chunk.steps for chunk in chunks if not isinstance(chunk, AudioChunk)]) + len(chunks)
    samples = sum([len(chunk.samples) for chunk in chunks if isinstance(chunk, AudioChunk)])
    encoder = model.encoder
    return samples * encoder.sample_rate_hz // (chunks[0].rate_hz * encoder.samples_per_step) + 2 * len(streams)
