"""Runs plain chunks of many sessions on the event loop at once (``engine.rows``), by the cost model of all batches."""

from __future__ import annotations

import time
from collections.abc import Sequence

from service.batching.estimates import MAX_SEGMENT_STEPS, Estimates
from service.contract.manifest import FormName
from service.engine.engine import Engine
from service.engine.rows import RowsAfter, run_segment, run_spikes, take_rows
from service.engine.stream import StreamState
from service.models.model import Model
from service.wire.chunk import AudioChunk, Chunk
from service.wire.columns import Spikes


class RowBatches:
    """Runs batches of rows. Used from one event loop.

    Args:
        engine: computes them.
        estimates: of batches.
        max_batch: most rows of a batch.

    Attributes:
        max_batch: see above.
        is_stopped: nothing more is run.
    """

    def __init__(self, engine: Engine, estimates: Estimates, max_batch: int) -> None:
        self._engine = engine
        self._estimates = estimates
        self.max_batch = max_batch
        self.is_stopped = False

    def run_spikes(
        self, model: Model, form: FormName, streams: Sequence[StreamState], spikes: Spikes
    ) -> RowsAfter | None:
        """Run one chunk of each stream. No state is changed in place.

        Args:
            model: of the streams.
            form: of the model.
            streams: of spikes.
            spikes: of plain chunks, checked by ``Engine.check``, but for their channels.

        Returns:
            None if they should go the usual way: they take too long to run here, or one of them fails.
        """
        group = (model.name, model.version, form)
        steps, events = sum(spikes.steps) + len(streams), len(spikes.step)
        if self.is_stopped or self._estimates.rows_s(group, steps, events) >= self._estimates.inline_s:
            return None
        started_s = time.thread_time()
        try:
            after = run_spikes(model, form, streams, spikes)
        except Exception:
            return None  # the usual way finds out whose fault it is
        self._estimates.observe_rows(group, steps, events, time.thread_time() - started_s)
        return after

    def run(
        self, model: Model, form: FormName, streams: Sequence[StreamState], chunks: Sequence[Chunk]
    ) -> RowsAfter | None:
        """As ``run_spikes``, of audio or values.

        Args:
            model: of the streams.
            form: of the model.
            streams: all of audio, or all of values.
            chunks: plain ones, checked by ``Engine.check``.
        """
        group = (model.name, model.version, form)
        steps = _most_steps(model, streams, chunks)
        if self.is_stopped or self._estimates.rows_s(group, steps, None) >= self._estimates.inline_s:
            return None
        started_s = time.thread_time()
        try:
            segment = take_rows(self._engine, model, streams, chunks, MAX_SEGMENT_STEPS)
            encoded_s = time.thread_time()
            after = run_segment(self._engine, model, form, segment)
        except Exception:
            return None
        ended_s = time.thread_time()
        steps = segment.steps + len(chunks)
        self._estimates.observe_encoded(group, steps, segment.events, encoded_s - started_s)
        self._estimates.observe_rows(group, steps, segment.events, ended_s - encoded_s)
        return after


def _most_steps(model: Model, streams: Sequence[StreamState], chunks: Sequence[Chunk]) -> int:
    """Steps that chunks of audio or values take at most, and one a stream."""
    if not isinstance(chunks[0], AudioChunk):
        return sum([chunk.steps for chunk in chunks if not isinstance(chunk, AudioChunk)]) + len(chunks)
    samples = sum([len(chunk.samples) for chunk in chunks if isinstance(chunk, AudioChunk)])
    encoder = model.encoder
    return samples * encoder.sample_rate_hz // (chunks[0].rate_hz * encoder.samples_per_step) + 2 * len(streams)
