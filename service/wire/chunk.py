"""A chunk: what one request adds to a stream, whatever it was written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from hetsyn_client.events import LARGEST_INDEX, Integers, sort_events
from service.errors import InputError
from service.wire.pcm import Samples

SHORT = 2**16


@dataclass(frozen=True)
class AudioChunk:
    """A piece of sound.

    Attributes:
        samples: float32 [n], n >= 1, one channel in [-1, 1).
        rate_hz: their rate.
    """

    samples: Samples
    rate_hz: int


@dataclass(frozen=True)
class SpikeChunk:
    """Spikes on channels.

    Attributes:
        steps: network steps of the chunk, at least 1.
        step: int64 [spikes], of each spike, below ``steps``.
        unit: int64 [spikes], its channel; the pairs ascend, and none occurs twice.
        channels: of the client's network, where its input says so (dense).
        positions: uint32 [spikes], step << 16 | unit, where both fit and the input has them.
    """

    steps: int
    step: Integers
    unit: Integers
    channels: int | None = None
    positions: NDArray[np.uint32] | None = None


Chunk = AudioChunk | SpikeChunk


def spike_chunk(steps: int, times: Sequence[float] | Integers, units: Sequence[float] | Integers) -> SpikeChunk:
    """A chunk of ``steps`` steps from its events, in any order; a pair that occurs twice is one spike.

    Raises:
        InputError: as ``hetsyn_client.events.sort_events``.
    """
    return SpikeChunk(min(steps, LARGEST_INDEX), *sort_events(steps, times, units))


def dense_chunk(rows: Sequence[Sequence[float]]) -> SpikeChunk:
    """A chunk from one row a step, one number a channel, each 0 or 1.

    Raises:
        InputError: rows of different lengths, or another number; names the index.
    """
    channels = len(rows[0]) if rows else 0
    for index, row in enumerate(rows):
        if len(row) != channels:
            raise InputError(f"spikes[{index}] has {len(row)} values and spikes[0] has {channels}: one a channel")
    if rows and not channels:
        raise InputError("spikes[0] is empty: send one value a channel, 0 or 1")
    values = np.array(rows, dtype=np.float64).reshape(len(rows), channels)
    wrong = np.argwhere((values != 0) & (values != 1))
    if len(wrong):
        step, unit = (int(index) for index in wrong[0])
        raise InputError(f"spikes[{step}][{unit}] is {values[step, unit]:g}: a channel has 0 or 1 spikes in a step")
    step_of, unit_of = np.nonzero(values)
    return SpikeChunk(len(rows), step_of.astype(np.int64), unit_of.astype(np.int64), channels)


def digest(chunk: Chunk | None, end: bool) -> bytes:
    """Of a chunk's content and end flag, whatever encoding it came in; None is a chunk without input.

    128 bits tell chunks apart that are not made to be confused, and whoever makes such confuses only his own session: a
    cryptographic hash would protect nobody, and take a third of the time of decoding.
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
        elif chunk.steps <= SHORT and (not len(unit) or unit.max() < SHORT):
            content.update((step << 16 | unit).astype(np.uint32).data)  # less to hash
        else:
            content.update((step << 32 | unit).data)
    else:
        content.update(f"none {end}\n".encode())
    return content.digest()
