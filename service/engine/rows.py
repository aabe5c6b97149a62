"""Plain chunks of many streams at once: what ``Engine`` does with them, without an object for each part of a chunk.

A plain chunk is one of an open stream, computed in one segment, without an end and without a readout. The
results are those of ``Engine`` to the bit, since the same graphs get the same inputs. What is not plain after all, and
what is out of range, is left to ``Engine``, which says whose fault it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from service.contract.decision import are_distributions
from service.contract.graph_io import EVENT_ROW, EVENT_UNIT, NEXT_STEP, PROBABILITIES, STEP, STEPS, Float32Array
from service.engine.engine import Engine, Segment
from service.engine.stream import StreamState
from service.engine.work import Outcome, Work, begin
from service.models.model import Model
from service.runtime.states import run_network
from service.wire.chunk import Chunk
from service.wire.columns import Spikes


class RowsAfter(NamedTuple):
    """Streams after a chunk of each.

    Attributes:
        streams: after the chunks.
        steps: network steps of each chunk.
        probabilities: float32 [b, outputs].
    """

    streams: list[StreamState]
    steps: list[int]
    probabilities: Float32Array


def run_spikes(model: Model, streams: Sequence[StreamState], spikes: Spikes) -> RowsAfter | None:
    """Run the network on spikes, all in one call.

    Args:
        model: of the streams.
        streams: that have taken spikes before.
        spikes: of a chunk of each.

    Returns:
        None if something is out of range.

    Raises:
        HetsynError: as ``Engine.compute``.
    """
    steps, counts, row, unit = spikes
    if len(unit) and int(unit.max()) >= model.manifest.input.channels:
        return None
    longest = max(steps)
    row += np.repeat(np.arange(0, len(steps) * longest, longest), counts)
    before = np.array([stream.step for stream in streams], np.int64)
    lengths = np.array(steps, np.int64)
    rows, outputs, unbounded = run_network(
        model.name,
        model.network,
        [stream.network for stream in streams],
        {EVENT_ROW: row, EVENT_UNIT: unit, STEPS: lengths, STEP: before},
        [NEXT_STEP, PROBABILITIES],
    )
    after, probabilities = outputs[NEXT_STEP], outputs[PROBABILITIES]
    if (
        unbounded
        or probabilities.shape != (len(steps), model.manifest.outputs)
        or not np.array_equal(after, before + lengths)
        or not are_distributions(probabilities)
    ):
        return None
    new = tuple.__new__  # in half the time of ``stream._replace``
    next_streams = [
        new(StreamState, (network, step, *stream[2:]))
        for network, step, stream in zip(rows, after.tolist(), streams, strict=True)
    ]
    return RowsAfter(next_streams, steps, probabilities)


def take_rows(
    engine: Engine, model: Model, streams: Sequence[StreamState], chunks: Sequence[Chunk], max_steps: int
) -> Segment:
    """``Engine.take`` of the chunks of streams of audio or values."""
    jobs = [begin(model, Work(stream, chunk, False)) for stream, chunk in zip(streams, chunks, strict=True)]
    return engine.take(model, jobs, max_steps)


def run_segment(engine: Engine, model: Model, segment: Segment) -> RowsAfter | None:
    """``Engine.compute`` of chunks of audio or values; None if not all are done, or if something is out of range."""
    results = engine.compute(model, segment)
    outcomes = [result for result in results if isinstance(result, Outcome)]
    if len(outcomes) < len(results):
        return None
    probabilities = np.stack([outcome.result.probabilities for outcome in outcomes])
    return RowsAfter(
        [outcome.stream for outcome in outcomes], [outcome.result.steps for outcome in outcomes], probabilities
    )
