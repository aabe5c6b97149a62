"""Decodes the content of a frame of chunks: all rows together, by array operations (``hetsyn_client.columns``)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.columns import CHUNK, Chunks
from hetsyn_client.events import LARGEST, Integers
from service.errors import InputError
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk, spike_chunk
from service.wire.pcm import FULL_SCALE

Encoding = Literal["events", "pcm_s16le", "values"]
Decoded = Chunk | InputError | None


class Decoder(NamedTuple):
    """Of the frames of a connection.

    Attributes:
        item_bytes: of an item.
        decode: makes a chunk of each row. None has no content, and is taken where the row ends its session. An error
            is one of its row.
    """

    item_bytes: int
    decode: Callable[[Chunks], list[Decoded]]


def decoder_of(encoding: Encoding, rate_hz: int, channels: int) -> Decoder:
    """The decoder of an encoding.

    Args:
        encoding: of the content.
        rate_hz: of samples.
        channels: of values.
    """
    if encoding == "events":
        return Decoder(4, _decode_events)
    if encoding == "values":
        return Decoder(4 * channels, lambda chunks: _decode_values(chunks, channels))
    return Decoder(2, lambda chunks: _decode_samples(chunks, rate_hz))


def bounds_of(chunks: Chunks) -> list[int]:
    """Where each row's items begin, and where the last ones end, [n + 1]."""
    return [0, *np.cumsum(chunks.length, dtype=np.int64).tolist()]


def _decode_events(chunks: Chunks) -> list[Decoded]:
    bounds, items = bounds_of(chunks), len(chunks.content) // 4
    times = np.frombuffer(chunks.content, "<u2", items)
    units = np.frombuffer(chunks.content, "<u2", items, 2 * items)
    positions = times.astype(np.uint32) << 16 | units
    step, unit = times.astype(np.int64), units.astype(np.int64)
    is_valid = _valid_rows(chunks, bounds, times, positions).tolist()
    rows: list[Decoded] = []
    begin = 0
    for valid, steps, end in zip(is_valid, chunks.steps.tolist(), bounds[1:], strict=True):
        if valid:
            rows.append(SpikeChunk(steps, step[begin:end], unit[begin:end], None, positions[begin:end]))
        else:
            rows.append(_explained(steps, step[begin:end], unit[begin:end]))
        begin = end
    return _checked(chunks, rows)


def _valid_rows(
    chunks: Chunks, bounds: list[int], times: NDArray[np.uint16], positions: NDArray[np.uint32]
) -> NDArray[np.bool_]:
    """Rows that have steps and spikes, whose pairs ascend and are within their steps: as most clients send them."""
    ends = np.array(bounds[1:], np.int64)
    is_valid = (chunks.length > 0) & (chunks.steps > 0) & (chunks.steps <= LARGEST + 1)
    if not len(times):
        return is_valid
    is_valid &= times[np.maximum(ends - 1, 0)] < chunks.steps
    is_first = np.zeros(len(times) + 1, bool)  # of a row: there the order does not matter
    is_first[ends] = True
    descents = np.flatnonzero(positions[1:] <= positions[:-1]) + 1
    is_valid[np.searchsorted(ends, descents[~is_first[descents]], side="right")] = False
    return is_valid


def _explained(steps: int, step: Integers, unit: Integers) -> Decoded:
    """A row of events in any order."""
    if not steps and not len(step):
        return None
    try:
        return spike_chunk(steps, step, unit)
    except InputError as error:
        return error


def _decode_samples(chunks: Chunks, rate_hz: int) -> list[Decoded]:
    samples = np.frombuffer(chunks.content, "<i2").astype(np.float32) / FULL_SCALE
    bounds = bounds_of(chunks)
    return _checked(
        chunks,
        [AudioChunk(samples[begin:end], rate_hz) if end > begin else None for begin, end in pairwise(bounds)],
    )


def _decode_values(chunks: Chunks, channels: int) -> list[Decoded]:
    values = np.frombuffer(chunks.content, "<f4").reshape(-1, channels).astype(np.float32)
    bounds = bounds_of(chunks)
    is_finite = np.logical_and.reduce(np.isfinite(values), axis=1)
    rows: list[Decoded] = []
    for begin, end in pairwise(bounds):
        if end == begin:
            rows.append(None)
        elif is_finite[begin:end].all():
            rows.append(ValuesChunk(values[begin:end]))
        else:
            step = int(np.flatnonzero(~is_finite[begin:end])[0])
            rows.append(InputError(f"the values of step {step} are not finite: send numbers that float32 can hold"))
    return _checked(chunks, rows)


def _checked(chunks: Chunks, rows: list[Decoded]) -> list[Decoded]:
    """Refuse rows that should have content and have none."""
    if None in rows:
        for row, action in enumerate(chunks.action.tolist()):
            if action == CHUNK and rows[row] is None:
                rows[row] = InputError("the chunk is empty: send at least one sample or step, or end the session")
    return rows
