"""Packs the spikes of a chunk as ``application/vnd.hetsyn.events``. Little endian:

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
from numpy.typing import NDArray

from hetsyn_client.errors import InputError

Integers = NDArray[np.int64]
Numbers = Sequence[float] | NDArray[np.int64] | NDArray[np.float64]

MEDIA_TYPE = "application/vnd.hetsyn.events"
MAGIC = b"HSE1"
HEADER = struct.Struct("<4sII")
LARGEST = 0xFFFF  # time or unit in the packed form
LARGEST_INDEX = 2**31 - 1  # unit in any form
LARGEST_FLOAT = 2.0**53  # up to here every whole number is a float


def pack_events(steps: int, times: Sequence[int] | Integers, units: Sequence[int] | Integers) -> bytes:
    """Pack the spikes of ``steps`` steps.

    Args:
        times: [spikes], the step of each spike, from 0.
        units: [spikes], its channel.

    Raises:
        InputError: as ``sort_events``, or a time or unit is beyond 16 bits.
    """
    step, unit = sort_events(steps, times, units)
    for name, values in (("time", step), ("unit", unit)):
        if len(values) and int(values.max()) > LARGEST:
            raise InputError(f"{name} {int(values.max())} is beyond 16 bits: send kind 'events' as JSON instead")
    return (
        HEADER.pack(MAGIC, min(steps, LARGEST_INDEX), len(step))
        + step.astype("<u2").tobytes()
        + unit.astype("<u2").tobytes()
    )


def sort_events(steps: int, times: Numbers, units: Numbers) -> tuple[Integers, Integers]:
    """Sort the spikes of ``steps`` steps, each pair of step and unit once.

    Args:
        times: [spikes], the step of each spike, from 0, in any order.
        units: [spikes], its channel.

    Returns:
        step and unit, int64 [spikes].

    Raises:
        InputError: lengths differ, a number is not whole, a time is outside the chunk, or a unit is negative; the
            message names the index.
    """
    if len(times) != len(units):
        raise InputError(f"{len(times)} times and {len(units)} units: every spike needs one of each")
    if steps < 0:
        raise InputError(f"steps is {steps}: send the number of steps of the chunk, at least 1")
    step, unit = _integers(times, "times"), _integers(units, "units")
    if not len(step):
        return step, unit
    if step.min() < 0 or step.max() >= steps:
        index = int(np.flatnonzero((step < 0) | (step >= steps))[0])
        raise InputError(
            f"times[{index}] is {step[index]}, outside the chunk's {steps} steps: "
            "count the times from 0 at the chunk's beginning"
        )
    if unit.min() < 0 or unit.max() > LARGEST_INDEX:
        index = int(np.flatnonzero((unit < 0) | (unit > LARGEST_INDEX))[0])
        raise InputError(f"units[{index}] is {unit[index]}: units are channel numbers from 0")
    pairs = step << 32 | unit
    if (pairs[1:] > pairs[:-1]).all():  # as most clients send them
        return step, unit
    # not ``np.unique``: its hash table takes a hundred times as long for millions of pairs, and stops all other threads
    pairs.sort()
    is_first = np.ones(len(pairs), bool)
    np.not_equal(pairs[1:], pairs[:-1], out=is_first[1:])
    pairs = pairs[is_first]
    return pairs >> 32, pairs & 0xFFFF_FFFF


def _integers(values: Numbers, name: str) -> Integers:
    """Convert to whole numbers; floats are allowed."""
    raw = np.asarray(values)
    if np.can_cast(raw.dtype, np.int64):
        return raw.astype(np.int64)
    try:
        numbers = raw.astype(np.float64)
    except OverflowError:
        raise InputError(f"{name} has a number beyond all floats: send whole numbers of at most 53 bits") from None
    wrong = np.flatnonzero(~(np.abs(numbers) <= LARGEST_FLOAT) | (numbers != np.floor(numbers)))
    if len(wrong):
        index = int(wrong[0])
        raise InputError(
            f"{name}[{index}] is {numbers[index]:g}, which is not a whole number of at most 53 bits: send one"
        )
    return numbers.astype(np.int64)
