"""``application/vnd.hetsyn.events``: spikes of a chunk, packed. Little endian:

magic   4 bytes  b"HSE1"
steps   uint32   of the chunk
count   uint32   spikes
times   uint16 [count]   step of each spike, from 0
units   uint16 [count]   its channel
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from service.chunks import Integers, SpikeChunk, spike_chunk
from service.errors import InputError

MEDIA_TYPE = "application/vnd.hetsyn.events"
MAGIC = b"HSE1"
HEADER = struct.Struct("<4sII")
LARGEST = 0xFFFF


def pack_events(steps: int, times: Sequence[int] | Integers, units: Sequence[int] | Integers) -> bytes:
    """The packed form of a chunk of ``steps`` steps.

    Raises:
        InputError: lengths that differ, a time outside the chunk, or a time or unit beyond 16 bits.
    """
    chunk = spike_chunk(steps, times, units)
    for name, values in (("time", chunk.step), ("unit", chunk.unit)):
        if len(values) and int(values.max()) > LARGEST:
            raise InputError(f"{name} {int(values.max())} is beyond 16 bits: send kind 'events' as JSON instead")
    header = HEADER.pack(MAGIC, chunk.steps, len(chunk.step))
    return header + chunk.step.astype("<u2").tobytes() + chunk.unit.astype("<u2").tobytes()


def unpack_events(data: bytes) -> SpikeChunk:
    """
    Raises:
        InputError: other bytes, cut off or too long, or a time outside the chunk.
    """
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise InputError(f"the body does not begin with {MAGIC.decode()}, steps and count (12 bytes): pack it anew")
    _, steps, count = HEADER.unpack_from(data)
    expected = HEADER.size + 4 * count
    if len(data) != expected:
        raise InputError(f"{count} packed events take {expected} bytes, the body has {len(data)}: send all of it")
    times = np.frombuffer(data, "<u2", count, HEADER.size)
    units = np.frombuffer(data, "<u2", count, HEADER.size + 2 * count)
    # as most clients send them; ``spike_chunk`` mends the order and explains what is wrong
    places = times.astype(np.uint32) << 16 | units
    is_plain = count > 0 and 0 < steps <= LARGEST + 1 and times[-1] < steps
    if is_plain and np.count_nonzero(places[1:] > places[:-1]) == count - 1:
        return SpikeChunk(steps, times.astype(np.int64), units.astype(np.int64), places=places)
    return spike_chunk(steps, times.astype(np.int64), units.astype(np.int64))
