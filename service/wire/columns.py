"""Decodes all rows of a frame of chunks together, by array operations (``hetsyn_client.columns``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, pairwise, repeat
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from hetsyn_client.columns import CHUNK
from hetsyn_client.events import HEADER, LARGEST, MAGIC
from service.errors import InputError
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, SpikeNumbers, ValuesChunk, digest, spike_chunk
from service.wire.many_frames import Chunks
from service.wire.sound import FULL_SCALE

Words = NDArray[np.uint16]
Encoding = Literal["events", "pcm_s16le", "values"]
Decoded = Chunk | InputError | None


class DecodedFrame(NamedTuple):
    """The chunks of a frame.

    Attributes:
        chunks: one for each row. None: the row has no content and ends its session. An error: the row is refused.
        digests: ``chunk.digest`` of each row that has no error.
    """

    chunks: list[Decoded]
    digests: list[bytes]


class Decoder(NamedTuple):
    """Decodes the frames of a connection."""

    item_bytes: int
    decode: Callable[[Chunks], DecodedFrame]


def decoder_of(encoding: Encoding, rate_hz: int, channels: int) -> Decoder:
    """Choose the decoder of an encoding."""
    if encoding == "events":
        return Decoder(4, _decode_rows_of_events)
    if encoding == "values":
        return Decoder(4 * channels, lambda chunks: _decode_values(chunks, channels))
    return Decoder(2, lambda chunks: _decode_samples(chunks, rate_hz))


def _bounds_of(lengths: NDArray[np.uint32]) -> list[int]:
    """Return the offsets of the rows' first items and of the end, [n + 1]."""
    return [0, *accumulate(lengths.tolist())]


def _ends_of(chunks: Chunks) -> list[bool]:
    """Return of each row whether it ends its session."""
    ends: list[bool] = (chunks.action != CHUNK).tolist()
    return ends


def _decode_rows_of_events(chunks: Chunks) -> DecodedFrame:
    bounds = _bounds_of(chunks.length)
    items = bounds[-1]
    times = np.frombuffer(chunks.content, "<u2", items)
    units = np.frombuffer(chunks.content, "<u2", items, 2 * items)
    rows = list(map(slice, bounds, bounds[1:]))
    by_row = list(map(times.__getitem__, rows)), list(map(units.__getitem__, rows))
    return _decode_events(chunks.steps, bounds, _ends_of(chunks), by_row, times, units)


def _decode_events(
    steps_of: NDArray[np.uint32],
    bounds: Sequence[int],
    ends: Sequence[bool],
    by_row: tuple[Iterable[Words], Iterable[Words]],
    times: Words,
    units: Words,
) -> DecodedFrame:
    """Decode spikes. Rows that ascend and are in range, as most clients send them, are checked all at once.

    Args:
        steps_of: [n], network steps of each row.
        bounds: [n + 1], its first spike; the last one is the number of spikes.
        ends: [n], whether it ends its session.
        by_row: times and units of each row, which its chunk keeps.
        times, units: of all rows.
    """
    all_steps = steps_of.tolist()
    positions: NDArray[np.uint32] = times.astype(np.uint32) << np.uint32(16) | units
    bound = int(units.max(initial=0))
    rest = repeat(None), repeat(None), repeat(bound)
    found = list(map(_spike_chunk, zip(all_steps, *by_row, *rest, strict=False)))
    to_hash = positions.data
    digests = [
        _digest(b"spikes %d %d %a\n" % (steps, len(part := to_hash[row]), end) + part)
        for steps, row, end in zip(all_steps, map(slice, bounds, bounds[1:]), ends, strict=True)
    ]
    decoded = cast("list[Decoded]", found)
    are_in_order = _are_in_order(steps_of, times, positions, np.array(bounds, np.int64))
    for row in (~are_in_order).nonzero()[0].tolist():
        decoded[row] = chunk = _decoded_alone(*found[row][:3], is_end=ends[row])
        if not isinstance(chunk, InputError):
            digests[row] = digest(chunk, ends[row])
    return DecodedFrame(decoded, digests)


_digest = xxhash.xxh3_128_digest
_NO_WORDS: Words = np.zeros(0, np.uint16)
_spike_chunk: Callable[[Iterable[Any]], SpikeChunk] = partial(tuple.__new__, SpikeChunk)


def _decoded_alone(steps: int, step: SpikeNumbers, unit: SpikeNumbers, *, is_end: bool) -> Decoded:
    """Decode spikes that may be out of order or out of range."""
    if not steps and not len(step):
        return None if is_end else _empty()
    try:
        return spike_chunk(steps, step.astype(np.int64), unit.astype(np.int64))
    except InputError as error:
        return error


def _are_in_order(
    steps_of: NDArray[np.uint32],
    times: Words,
    positions: NDArray[np.uint32],
    bounds: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Find the rows that have steps, and only ascending pairs of time and unit within their steps."""
    are_in_order = (steps_of > 0) & (steps_of <= LARGEST + 1)
    if not len(times):
        return are_in_order
    ends = bounds[1:]
    are_in_order &= (times[ends - 1] < steps_of) | (ends == bounds[:-1])
    descends = np.empty(len(times) + 1, bool)
    np.less_equal(positions[1:], positions[:-1], out=descends[1:-1])
    descends[0] = False
    descends[ends] = False  # between rows the order does not matter
    if descends.any():
        are_in_order[ends.searchsorted(descends.nonzero()[0], side="right")] = False
    return are_in_order


def decoded_together(messages: Sequence[bytes]) -> list[tuple[Chunk, bytes] | None]:
    """Decode at least one message of packed events (``hetsyn_client.events``) to their chunks and digests, together.

    None for a message that is incomplete or does not ascend. Decoding it alone sorts it, or says what is wrong.
    """
    size = HEADER.size
    steps_of, bounds, times, units = [], [0], [], []
    for message in messages:
        magic, steps, count = HEADER.unpack(message[:size].ljust(size))
        if magic != MAGIC or len(message) != size + 4 * count:
            steps = count = 0
        # the chunk keeps its own message in memory, and no other
        events = np.frombuffer(message, "<u2", 2 * count, size) if count else _NO_WORDS
        steps_of.append(steps)
        bounds.append(bounds[-1] + count)
        times.append(events[:count])
        units.append(events[count:])
    ends, all_events = [False] * len(messages), (np.concatenate(times), np.concatenate(units))
    chunks, digests = _decode_events(np.array(steps_of, np.uint32), bounds, ends, (times, units), *all_events)
    return [
        (chunk, its) if isinstance(chunk, SpikeChunk) and chunk.bound is not None else None
        for chunk, its in zip(chunks, digests, strict=True)
    ]


def _empty() -> InputError:
    return InputError("the chunk is empty: send at least one sample or step, or end the session")


def _digested(chunks: Chunks, rows: list[Decoded]) -> DecodedFrame:
    """Add the digests to samples or values. A row without content has to end its session."""
    ends = _ends_of(chunks)
    rows = [chunk if end or chunk is not None else _empty() for chunk, end in zip(rows, ends, strict=True)]
    digests = [
        b"" if isinstance(chunk, InputError) else digest(chunk, end) for chunk, end in zip(rows, ends, strict=True)
    ]
    return DecodedFrame(rows, digests)


def _decode_samples(chunks: Chunks, rate_hz: int) -> DecodedFrame:
    samples = np.frombuffer(chunks.content, "<i2").astype(np.float32) / FULL_SCALE
    rows: list[Decoded] = [
        AudioChunk(samples[begin:end], rate_hz) if end > begin else None
        for begin, end in pairwise(_bounds_of(chunks.length))
    ]
    return _digested(chunks, rows)


def _decode_values(chunks: Chunks, channels: int) -> DecodedFrame:
    values = np.frombuffer(chunks.content, "<f4").reshape(-1, channels).astype(np.float32)
    is_finite = np.logical_and.reduce(np.isfinite(values), axis=1)
    rows: list[Decoded] = []
    for begin, end in pairwise(_bounds_of(chunks.length)):
        if end == begin:
            rows.append(None)
        elif is_finite[begin:end].all():
            rows.append(ValuesChunk(values[begin:end]))
        else:
            step = int(np.flatnonzero(~is_finite[begin:end])[0])
            rows.append(InputError(f"the values of step {step} are not finite: send numbers that float32 can hold"))
    return _digested(chunks, rows)
