"""Chunks: the input that one request adds to a stream, independent of its encoding."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from hetsyn_client.events import LARGEST_INDEX, Numbers, sort_events
from hetsyn_client.values import Values, check_values
from service.errors import InputError

Samples = NDArray[np.float32]
SpikeNumbers = NDArray[np.integer[Any]]
"""Steps or channels of spikes: int64, or uint16 where packed events have them."""
SHORT = 2**16


class AudioChunk(NamedTuple):
    """A piece of audio.

    Attributes:
        samples: float32 [n], one channel in [-1, 1]. n is 0 only for a piece of a file that completes no sample.
        rate_hz: sample rate; 0 for a piece that does not tell it yet.
    """

    samples: Samples
    rate_hz: int


class SpikeChunk(NamedTuple):
    """Spikes on channels.

    Attributes:
        steps: network steps of the chunk, at least 1.
        step: [spikes], the step of each spike, below ``steps``.
        unit: [spikes], the channel of each spike; the pairs (step, unit) ascend, and none occurs twice.
        channels: number of channels, if the encoding gives it (dense).
        positions: uint32 [spikes], step << 16 | unit, if the decoder keeps them for ``digest``.
        bound: an upper bound of the channels, if it is known.
    """

    steps: int
    step: SpikeNumbers
    unit: SpikeNumbers
    channels: int | None = None
    positions: NDArray[np.uint32] | None = None
    bound: int | None = None


class ValuesChunk(NamedTuple):
    """Rows of real numbers.

    Attributes:
        values: float32 [steps, channels], finite, at least one row.
    """

    values: Values

    @property
    def steps(self) -> int:
        return len(self.values)


Chunk = AudioChunk | SpikeChunk | ValuesChunk


def chunk_bytes(chunk: Chunk) -> int:
    """Count the bytes of a chunk's input in memory."""
    if isinstance(chunk, AudioChunk):
        return chunk.samples.nbytes
    return chunk.values.nbytes if isinstance(chunk, ValuesChunk) else chunk.step.nbytes + chunk.unit.nbytes


def chunk_length(chunk: Chunk) -> int:
    """Count a chunk's samples, or the steps of other input."""
    return len(chunk.samples) if isinstance(chunk, AudioChunk) else chunk.steps


def part_of_chunk(chunk: Chunk, first: int, last: int | None = None) -> Chunk:
    """Cut the samples, or steps, ``first`` to ``last`` (excluded) out of a chunk."""
    last = chunk_length(chunk) if last is None else last
    if isinstance(chunk, AudioChunk):
        return AudioChunk(chunk.samples[first:last], chunk.rate_hz)
    if isinstance(chunk, ValuesChunk):
        return ValuesChunk(chunk.values[first:last])
    return part_of_spikes(chunk, first, last)


def part_of_spikes(chunk: SpikeChunk, first: int, last: int) -> SpikeChunk:
    """Cut the steps ``first`` to ``last`` (excluded) out of a chunk. Its steps are int64."""
    begin, end = spikes_between(chunk, first, last)
    step = chunk.step[begin:end].astype(np.int64) - first
    return SpikeChunk(last - first, step, chunk.unit[begin:end], chunk.channels)


def spikes_between(chunk: SpikeChunk, first: int, last: int) -> tuple[int, int]:
    """Find the spikes of the steps ``first`` to ``last`` (excluded): the first one, and the one after the last."""
    # not ``np.searchsorted``: it would convert all 16-bit steps of the chunk
    return bisect_left(chunk.step, first), bisect_left(chunk.step, last)


def copied(chunk: Chunk) -> Chunk:
    """Copy a chunk into its own memory."""
    if isinstance(chunk, AudioChunk):
        return AudioChunk(chunk.samples.copy(), chunk.rate_hz)
    if isinstance(chunk, ValuesChunk):
        return ValuesChunk(chunk.values.copy())
    return SpikeChunk(chunk.steps, chunk.step.copy(), chunk.unit.copy(), chunk.channels)


def joined_chunks(first: Chunk, second: Chunk) -> Chunk:
    """Concatenate two chunks of one kind."""
    if isinstance(first, AudioChunk) and isinstance(second, AudioChunk):
        return AudioChunk(np.concatenate([first.samples, second.samples]), first.rate_hz)
    if isinstance(first, ValuesChunk) and isinstance(second, ValuesChunk):
        return ValuesChunk(np.concatenate([first.values, second.values]))
    if isinstance(first, SpikeChunk) and isinstance(second, SpikeChunk):
        step = np.concatenate([first.step, second.step.astype(np.int64) + first.steps])
        return SpikeChunk(first.steps + second.steps, step, np.concatenate([first.unit, second.unit]))
    raise TypeError(f"{type(first).__name__} and {type(second).__name__} are chunks of two kinds")


def spike_chunk(steps: int, times: Numbers, units: Numbers) -> SpikeChunk:
    """Make a chunk of events.

    Args:
        steps: network steps of the chunk.
        times: [events], the step of each event, in any order.
        units: [events], the channel of each event. A pair (time, unit) that occurs twice is one spike.

    Raises:
        InputError: as ``hetsyn_client.events.sort_events``.
    """
    return SpikeChunk(min(steps, LARGEST_INDEX), *sort_events(steps, times, units))


def dense_chunk(rows: Sequence[Sequence[float]]) -> SpikeChunk:
    """Make a chunk of a matrix of zeros and ones, [steps][channels].

    Raises:
        InputError: the rows differ in length, or a value is not 0 or 1; the message names the index.
    """
    channels = _row_length("spikes", rows)
    values = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * channels).reshape(len(rows), channels)
    invalid = np.argwhere((values != 0) & (values != 1))
    if len(invalid):
        t, i = (int(index) for index in invalid[0])
        raise InputError(f"spikes[{t}][{i}] is {values[t, i]:g}: send 0 or 1 for each channel and step")
    step, unit = np.nonzero(values)
    return SpikeChunk(len(rows), step.astype(np.int64), unit.astype(np.int64), channels)


def values_chunk(rows: Sequence[Sequence[float]]) -> ValuesChunk:
    """Make a chunk of rows of numbers, [steps][channels].

    Raises:
        InputError: the rows differ in length, or float32 cannot hold a number; the message names the index.
    """
    channels = _row_length("values", rows)
    try:
        numbers = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * channels)
    except OverflowError:  # an integer of more than 308 digits
        raise InputError("values has a number beyond all floats: send numbers up to 3.4e38") from None
    return ValuesChunk(check_values(numbers.reshape(len(rows), channels)))


def _row_length(name: str, rows: Sequence[Sequence[float]]) -> int:
    """Return the common length of a matrix's rows; 0 without rows."""
    channels = len(rows[0]) if rows else 0
    if set(map(len, rows)) - {channels}:
        index, length = next((n, len(row)) for n, row in enumerate(rows) if len(row) != channels)
        raise InputError(
            f"{name}[{index}] has {length} values, but {name}[0] has {channels}: send one for each channel"
        )
    if rows and not channels:
        numbers = "" if name == "values" else ", 0 or 1"
        raise InputError(f"{name}[0] is empty: send one value for each channel{numbers}")
    return channels


def digest(chunk: Chunk | None, end: bool) -> bytes:
    """Hash a chunk's content and end flag to 128 bits. Equal content in another encoding has the same digest.

    The hash is not cryptographic: a client that makes two chunks with one digest confuses only its own session. A
    cryptographic hash would take a third of the time of decoding.

    Args:
        chunk: None is a chunk without input.
        end: the chunk ends the session.
    """
    content = xxhash.xxh3_128()
    if isinstance(chunk, AudioChunk):
        content.update(f"audio {chunk.rate_hz} {len(chunk.samples)} {end}\n".encode())
        content.update(np.ascontiguousarray(chunk.samples).data)
    elif isinstance(chunk, SpikeChunk):
        content.update(f"spikes {chunk.steps} {len(chunk.step)} {end}\n".encode())
        step, unit = chunk.step, chunk.unit
        if chunk.positions is not None:
            content.update(chunk.positions.data)
            return content.digest()
        is_short = chunk.steps <= SHORT and (not len(unit) or unit.max() < SHORT)
        for begin in range(0, len(unit), SHORT):  # in pieces, to bound the memory
            t, i = step[begin : begin + SHORT].astype(np.int64), unit[begin : begin + SHORT]
            # half as many bytes, as in ``positions``
            content.update((t << 16 | i).astype(np.uint32).data if is_short else (t << 32 | i).data)
    elif isinstance(chunk, ValuesChunk):
        content.update(f"values {chunk.steps} {chunk.values.shape[1]} {end}\n".encode())
        content.update(np.ascontiguousarray(chunk.values).data)
    else:
        content.update(f"none {end}\n".encode())
    return content.digest()
