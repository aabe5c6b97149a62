"""Decodes packed events; ``hetsyn_client.events`` has the format."""

from __future__ import annotations

import numpy as np

from hetsyn_client.events import HEADER, LARGEST, MAGIC
from service.errors import InputError
from service.wire.chunk import SpikeChunk, spike_chunk


def unpack_events(data: bytes) -> SpikeChunk:
    """Decode packed events.

    Raises:
        InputError: the bytes have another format, are cut off or too long, or a time is outside the chunk.
    """
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise InputError(f"the body does not begin with {MAGIC.decode()}, steps and count (12 bytes): pack it again")
    _, steps, count = HEADER.unpack_from(data)
    expected = HEADER.size + 4 * count
    if len(data) != expected:
        raise InputError(f"{count} packed events take {expected} bytes, the body has {len(data)}: send all of it")
    times = np.frombuffer(data, "<u2", count, HEADER.size)
    units = np.frombuffer(data, "<u2", count, HEADER.size + 2 * count)
    # Most clients send events that are valid and ascend. ``spike_chunk`` sorts others, and explains errors.
    positions = times.astype(np.uint32) << 16 | units
    is_valid = count > 0 and 0 < steps <= LARGEST + 1 and times[-1] < steps
    if is_valid and np.count_nonzero(positions[1:] > positions[:-1]) == count - 1:
        return SpikeChunk(steps, times, units, positions=positions)
    return spike_chunk(steps, times.astype(np.int64), units.astype(np.int64))
