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
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NoReturn, cast

import numpy as np

from service.contract.graph_io import BATCH, LONGEST, NEXT_STATE, STATE, STEPS, Float32Array, network_outputs
from service.errors import Overloaded
from service.runtime.device import Device, DeviceGraph
from service.runtime.onnx import Array, DeviceTensor, Graph
from service.runtime.state_memory import Row, out_of_bounds

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
    """A handle on a slot, or on values that get one when a batch first reads them.

    Attributes:
        nbytes: of the state.
        host: the values, where they are on the host too.
    """

    __slots__ = ("_pool", "_slot", "address", "host", "nbytes")

    def __init__(self, pool: SlotPool, nbytes: int, host: Float32Array | None = None) -> None:
        self._pool = pool
        self._slot: int | None = None
        self.address: int | None = None
        self.nbytes = nbytes
        self.host = host

    def place(self, slot: int, address: int) -> None:
        """Give the row a slot."""
        self._slot, self.address = slot, address

    def __del__(self) -> None:
        if self._slot is not None:
            self._pool.give(self._slot)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("the row is on a device: StateMemory.to_host brings its values here")


class DeviceMemory:
    """The states of one form of a model on a device.

    Args:
        device: has the memory.
        words: float32 values of a stream's state.
        outputs: neurons of the network's readout.
        hidden: neurons of each hidden layer whose spikes the graph gives, by the layer's name.
    """

    is_host = False

    def __init__(self, device: Device, words: int, outputs: int, hidden: Mapping[str, int] | None = None) -> None:
        self._device = device
        self._output_types = network_outputs(words, outputs, hidden or {})
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
        # uploaded by the first batch that reads it, on an engine's thread
        return DeviceRow(self._pool, self._row_bytes, np.ascontiguousarray(values, np.float32))

    def to_host(self, row: Row) -> Float32Array:
        slot = cast(DeviceRow, row)
        self.fetch([slot])
        values = cast(Float32Array, slot.host)
        if slot.address is not None:
            slot.host = None  # it is read once, to be stored or sent; a copy of every session would fill the host
        return values

    def fetch(self, rows: Sequence[Row]) -> Collection[int]:
        missing, indices = list[DeviceRow](), list[int]()
        for index, row in enumerate(cast(Sequence[DeviceRow], rows)):
            if row.host is None:
                missing.append(row)
                indices.append(index)
        if not missing:
            return ()
        with self._device.lock:
            source = self._gathered(missing)
            downloaded = self._device.download(source, len(missing) * self._row_bytes).view(np.float32)
        downloaded = downloaded.reshape(len(missing), -1)
        for row, values in zip(missing, downloaded, strict=True):
            row.host = values if len(missing) == 1 else values.copy()
        return [indices[b] for b in out_of_bounds(downloaded)]

    def run(
        self, graph: Graph, rows: Sequence[Row], inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> tuple[Sequence[Row], Mapping[str, Array], Collection[int]]:
        on_device = cast(DeviceGraph, graph)  # a model whose states are on a device has its graphs there too
        slots = cast(Sequence[DeviceRow], rows)
        count, state_type = len(slots), np.dtype(np.float32)
        axes = {BATCH: count, LONGEST: int(inputs[STEPS].max())}
        state_shape = self._output_types[NEXT_STATE].lengths(axes)
        types = {name: np.dtype(self._output_types[name].dtype) for name in outputs}
        shapes = {name: self._output_types[name].lengths(axes) for name in outputs}
        offsets, size = dict[str, int](), 0
        for name in sorted(outputs, key=lambda name: -types[name].itemsize):  # int64 first: each output is aligned
            offsets[name] = size
            size += types[name].itemsize * prod(shapes[name])
        with self._device.lock:
            self._upload(slots)
            fresh = self._fresh(count)
            source = self._gathered(slots)
            scattered = not self._adjacent(fresh)
            target = self._buffer("next states", count * self._row_bytes) if scattered else _address(fresh[0])
            results = self._buffer("results", size)
            bound = {name: DeviceTensor(results + offsets[name], types[name], shapes[name]) for name in outputs}
            on_device.run_bound(
                {**inputs, STATE: DeviceTensor(source, state_type, state_shape)},
                {**bound, NEXT_STATE: DeviceTensor(target, state_type, state_shape)},
            )
            if scattered:
                self._device.copy_rows(self._addresses(target, count), [*map(_address, fresh)], self._row_bytes)
            downloaded = self._device.download(results, size)
        values: dict[str, Array] = {}
        for name, offset in offsets.items():
            end = offset + types[name].itemsize * prod(shapes[name])
            values[name] = downloaded[offset:end].view(types[name]).reshape(shapes[name])
        return fresh, values, ()  # the rows stay on the device: ``fetch`` looks at those that leave it

    def _upload(self, rows: Sequence[DeviceRow]) -> None:
        """Give slots to the rows that have none.

        Raises:
            Overloaded: the device's memory is full.
        """
        for row in rows:
            if row.address is None:
                (placed,) = self._slots(1)
                row.place(*placed)
                self._device.upload(cast(Float32Array, row.host), _address(row))

    def _gathered(self, rows: Sequence[DeviceRow]) -> int:
        """The address of these rows one after the other, copied there unless they lie so."""
        if self._adjacent(rows):
            return _address(rows[0])
        source = self._buffer("gathered states", len(rows) * self._row_bytes)
        self._device.copy_rows([*map(_address, rows)], self._addresses(source, len(rows)), self._row_bytes)
        return source

    def _addresses(self, first: int, count: int) -> list[int]:
        """Of rows one after the other."""
        return [first + b * self._row_bytes for b in range(count)]

    def _fresh(self, count: int) -> list[DeviceRow]:
        """Rows in slots that nobody else has, at consecutive addresses if there are such.

        Raises:
            Overloaded: the device's memory is full.
        """
        rows = []
        for slot, address in self._slots(count):
            row = DeviceRow(self._pool, self._row_bytes)
            row.place(slot, address)
            rows.append(row)
        return rows

    def _slots(self, count: int) -> list[tuple[int, int]]:
        """Slots that nobody else has, and their addresses; errors as of ``_fresh``."""
        slots = self._pool.take(count)
        while slots is None:
            self._grow()
            slots = self._pool.take(count)
        stride = self._block_slots + 1
        return [(slot, self._blocks[slot // stride] + slot % stride * self._row_bytes) for slot in slots]

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
        return all(_address(second) - _address(first) == self._row_bytes for first, second in pairwise(rows))


def _address(row: DeviceRow) -> int:
    if row.address is None:
        raise ValueError("the row has no slot yet")
    return row.address


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
