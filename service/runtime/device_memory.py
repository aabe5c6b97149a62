"""Sessions' states on a device: slots in blocks of its memory, where they stay between chunks.

A row is a handle on a slot, which it gives back when nobody holds it any more. A batch runs in as few operations on the
device as its rows allow. ONNX Runtime takes one address for a graph's ``state`` and one for ``next.state``, so:

- in: rows at consecutive addresses are read in place (a stream alone always, and a batch that comes again in the same
  order); any others are gathered by one launch of a copying kernel, whatever their number.
- out: the graph writes into fresh slots, consecutive ones where the pool has such a run (found by a few operations on a
  bit set); only where the free slots are scattered it writes to a buffer, and one launch copies the rows to the slots.
- the segments of a long chunk read what the segment before wrote, without a copy.
- the small outputs lie in one buffer and come to the host in one transfer.

An operator that takes slot numbers would save the gathering launch, but it would be another operator than the
artifact's, and the copy of a bank's row is some 10 KB in memory that moves 1 TB a second or more.

Fresh slots also mean that a batch that fails has changed nothing: its slots come back and the old rows stand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NoReturn, cast

import numpy as np

from service.contract.graph_io import BATCH, LONGEST, NEXT_STATE, STATE, STEPS, Float32Array, network_outputs
from service.errors import Overloaded
from service.runtime.device import Device, DeviceGraph
from service.runtime.onnx import Array, DeviceTensor, Graph
from service.runtime.state_memory import BatchStates, Row

BLOCK_BYTES = 16 * 1024 * 1024
MIN_BLOCK_SLOTS = 64
RETRY_S = 5.0


class SlotPool:
    """Which slots are free. Any thread may ``give`` a slot back at any time; ``take`` and ``add`` need a lock."""

    def __init__(self) -> None:
        self._free = 0  # bit n: slot n is free
        self._returned: deque[int] = deque()

    @property
    def free(self) -> int:
        self._collect()
        return self._free.bit_count()

    def add(self, first: int, count: int) -> None:
        """New slots, all free."""
        self._free |= ((1 << count) - 1) << first

    def give(self, slot: int) -> None:
        # from finalisers, which may run in the middle of ``take``: no lock, and nothing but this
        self._returned.append(slot)

    def take(self, count: int) -> list[int] | None:
        """``count`` slots, ascending, and consecutive if the pool has such a run; None if fewer are free."""
        self._collect()
        runs, length = self._free, 1  # bit n: slots n to n + length - 1 are free
        while length < count and runs:
            shift = min(length, count - length)
            runs &= runs >> shift
            length += shift
        if runs:
            first = _lowest(runs)
            self._free &= ~(((1 << count) - 1) << first)
            return list(range(first, first + count))
        if self._free.bit_count() < count:
            return None
        slots = []
        for _ in range(count):
            slots.append(_lowest(self._free))
            self._free &= self._free - 1
        return slots

    def _collect(self) -> None:
        while self._returned:
            self._free |= 1 << self._returned.popleft()


class DeviceRow:
    """A handle on a slot.

    Args:
        pool: that the slot goes back to.
        slot: index in the pool.
        address: of the slot's memory.
        nbytes: length of the state.

    Attributes:
        address: see above.
        nbytes: see above.
    """

    __slots__ = ("_pool", "_slot", "address", "nbytes")

    def __init__(self, pool: SlotPool, slot: int, address: int, nbytes: int) -> None:
        self._pool = pool
        self._slot = slot
        self.address = address
        self.nbytes = nbytes

    def __del__(self) -> None:
        self._pool.give(self._slot)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the row is on a device: StateMemory.to_host brings its values here")


class DeviceMemory:
    """The states of one form of a model on a device.

    Args:
        device: has the memory.
        words: float32 values of a stream's state.
        outputs: neurons of the network's readout.
    """

    def __init__(self, device: Device, words: int, outputs: int) -> None:
        self._device = device
        self._output_types = network_outputs(words, outputs, hidden={})
        self._row_bytes = 4 * words
        self._pool = SlotPool()
        self._blocks: list[int] = []
        self._block_slots = max(MIN_BLOCK_SLOTS, BLOCK_BYTES // self._row_bytes)
        self._buffers: dict[str, tuple[int, int]] = {}  # address and bytes of a batch's working memory, by its use

    def __del__(self) -> None:
        # rows hold the pool, not the memory: their model is gone, and nobody can read them any more
        for address in (*self._blocks, *(address for address, _ in self._buffers.values())):
            self._device.release(address)

    def from_host(self, values: Float32Array) -> Row:
        with self._device.lock:
            row = self._fresh(1)[0]
            self._device.upload(np.ascontiguousarray(values, np.float32), row.address)
        return row

    def to_host(self, row: Row) -> Float32Array:
        slot = cast(DeviceRow, row)
        with self._device.lock:
            return self._device.download(slot.address, slot.nbytes).view(np.float32)

    def batch(self, rows: Sequence[Row]) -> BatchStates:
        return _DeviceBatch(self, cast(Sequence[DeviceRow], rows))

    def run(
        self, graph: DeviceGraph, rows: Sequence[DeviceRow], inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> tuple[list[DeviceRow], dict[str, Array]]:
        """Run a graph on these rows.

        Args:
            graph: of the network.
            rows: of the streams.
            inputs: as in ``BatchStates.run``.
            outputs: as in ``BatchStates.run``.

        Returns:
            The next rows, and the named outputs on the host.
        """
        count, state_type = len(rows), np.dtype(np.float32)
        axes = {BATCH: count, LONGEST: int(inputs[STEPS].max())}
        state_shape = self._output_types[NEXT_STATE].lengths(axes)
        types = {name: np.dtype(self._output_types[name].dtype) for name in outputs}
        shapes = {name: self._output_types[name].lengths(axes) for name in outputs}
        offsets, size = dict[str, int](), 0
        for name in sorted(outputs, key=lambda name: -types[name].itemsize):  # int64 first: each output is aligned
            offsets[name] = size
            size += types[name].itemsize * prod(shapes[name])
        with self._device.lock:
            fresh = self._fresh(count)
            source = rows[0].address
            if not self._adjacent(rows):
                source = self._buffer("gathered states", count * self._row_bytes)
                self._device.copy_rows([row.address for row in rows], self._addresses(source, count), self._row_bytes)
            scattered = not self._adjacent(fresh)
            target = self._buffer("next states", count * self._row_bytes) if scattered else fresh[0].address
            results = self._buffer("results", size)
            bound = {name: DeviceTensor(results + offsets[name], types[name], shapes[name]) for name in outputs}
            graph.run_bound(
                {**inputs, STATE: DeviceTensor(source, state_type, state_shape)},
                {**bound, NEXT_STATE: DeviceTensor(target, state_type, state_shape)},
            )
            if scattered:
                self._device.copy_rows(self._addresses(target, count), [row.address for row in fresh], self._row_bytes)
            downloaded = self._device.download(results, size)
        values: dict[str, Array] = {}
        for name, offset in offsets.items():
            end = offset + types[name].itemsize * prod(shapes[name])
            values[name] = downloaded[offset:end].view(types[name]).reshape(shapes[name])
        return fresh, values

    def _addresses(self, first: int, count: int) -> list[int]:
        """Of rows one after the other."""
        return [first + b * self._row_bytes for b in range(count)]

    def _fresh(self, count: int) -> list[DeviceRow]:
        """Rows in slots that nobody else has, at consecutive addresses if there are such.

        Raises:
            Overloaded: the device's memory is full.
        """
        slots = self._pool.take(count)
        while slots is None:
            self._grow()
            slots = self._pool.take(count)
        stride = self._block_slots + 1
        return [
            DeviceRow(self._pool, slot, self._blocks[slot // stride] + slot % stride * self._row_bytes, self._row_bytes)
            for slot in slots
        ]

    def _grow(self) -> None:
        address = self._device.allocate(self._block_slots * self._row_bytes)
        if address is None:
            raise self._full()
        # one number between two blocks stays unused, so consecutive slots always lie in one block
        self._pool.add(len(self._blocks) * (self._block_slots + 1), self._block_slots)
        self._blocks.append(address)

    def _buffer(self, use: str, nbytes: int) -> int:
        """The address of working memory, whose content does not outlast the batch.

        Raises:
            Overloaded: the device's memory is full.
        """
        address, size = self._buffers.get(use, (0, 0))
        if size >= nbytes:
            return address
        if size:
            del self._buffers[use]
            self._device.release(address)
        allocated = self._device.allocate(nbytes)
        if allocated is None:
            raise self._full()
        self._buffers[use] = (allocated, nbytes)
        return allocated

    def _full(self) -> Overloaded:
        return Overloaded(
            f"the memory of {self._device.name} is full: end sessions, or try again in {RETRY_S:g} s", RETRY_S
        )

    def _adjacent(self, rows: Sequence[DeviceRow]) -> bool:
        return all(second.address - first.address == self._row_bytes for first, second in pairwise(rows))


class _DeviceBatch:
    def __init__(self, memory: DeviceMemory, rows: Sequence[DeviceRow]) -> None:
        self._memory = memory
        self._rows = list(rows)

    def run(self, graph: Graph, inputs: Mapping[str, Array], outputs: Sequence[str], count: int) -> Mapping[str, Array]:
        # a model whose states are on a device has its graphs there too
        on_device = cast(DeviceGraph, graph)
        self._rows[:count], values = self._memory.run(on_device, self._rows[:count], inputs, outputs)
        return values

    def rows(self) -> Sequence[Row]:
        return self._rows


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
