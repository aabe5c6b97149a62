"""Sessions' states on a device: slots in blocks of its memory, that sessions never leave between chunks.

A row is a handle on a slot, which it gives back when nobody holds it any more. A batch runs in as few operations on the
device as its rows allow. ONNX Runtime takes one address for a graph's ``state`` and one for ``next.state``, so:

- in: rows that lie one after the other are read where they are (a stream alone always, and a batch that comes again
  in the same order); any others are gathered by one launch of a copying kernel, whatever their number.
- out: the graph writes into fresh slots, one after the other where there are such (found by a few operations on a bit
  set); only where the free slots are scattered it writes beside them, and one launch copies the rows to their slots.
- the segments of a long chunk read what the segment before wrote, without a copy.
- the small outputs lie one after the other and come to the host in one transfer.

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

from service.contract.graph_io import NEXT_STATE, STATE
from service.errors import Overloaded
from service.runtime.device import Device, DeviceGraph
from service.runtime.onnx import Array, DeviceTensor, Graph
from service.runtime.state_memory import BatchStates, Floats

BLOCK_BYTES = 16 * 1024 * 1024
FEWEST_SLOTS = 64  # of a block
RETRY_S = 5.0


class SlotPool:
    """Which slots are free. A slot may be given back by any thread, at any time; ``take`` and ``add`` need a lock."""

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
        """So many slots, one after the other if there are such, ascending anyhow; None if fewer are free."""
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
    """A handle on a slot."""

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
        words: float32 values of a state. outputs: of the network.
    """

    def __init__(self, device: Device, words: int, outputs: int) -> None:
        self._device = device
        self.words = words
        self.outputs = outputs
        self.row_bytes = 4 * words
        self._pool = SlotPool()
        self._blocks: list[int] = []
        self._block_slots = max(FEWEST_SLOTS, BLOCK_BYTES // self.row_bytes)
        self._spare: dict[str, tuple[int, int]] = {}  # address and bytes of what a batch works in, by its use

    def __del__(self) -> None:
        # rows hold the pool, not the memory: their model is gone, and nobody can read them any more
        for address in (*self._blocks, *(address for address, _ in self._spare.values())):
            self._device.release(address)

    def from_host(self, values: Floats) -> DeviceRow:
        with self._device.lock:
            row = self._fresh(1)[0]
            self._device.upload(np.ascontiguousarray(values, np.float32), row.address)
        return row

    def to_host(self, row: Any) -> Floats:
        with self._device.lock:
            return self._device.download(row.address, row.nbytes).view(np.float32)

    def batch(self, rows: Sequence[Any]) -> BatchStates:
        return _DeviceBatch(self, rows)

    def run(
        self, graph: DeviceGraph, rows: Sequence[DeviceRow], given: dict[str, Array], asked: Sequence[str]
    ) -> tuple[list[DeviceRow], dict[str, Array]]:
        """The rows after a graph's run, and its outputs ``asked`` for (``BatchStates.run``)."""
        count, shape = len(rows), (len(rows), self.words)
        shapes = self._shapes(given)
        with self._device.lock:
            fresh = self._fresh(count)
            source = rows[0].address
            if not self._adjacent(rows):
                source = self._room("gathered", count * self.row_bytes)
                targets = [source + b * self.row_bytes for b in range(count)]
                self._device.copy_rows([row.address for row in rows], targets, self.row_bytes)
            beside = not self._adjacent(fresh)
            target = self._room("beside", count * self.row_bytes) if beside else fresh[0].address
            results = self._room("results", sum(_nbytes(*shapes[name]) for name in asked))
            # int64 first, so that each lies where its type may
            places, offset = dict[str, int](), 0
            for name in sorted(asked, key=lambda name: -shapes[name][0].itemsize):
                places[name] = offset
                offset += _nbytes(*shapes[name])
            bound = {name: DeviceTensor(results + places[name], *shapes[name]) for name in asked}
            graph.run_bound(
                {**given, STATE: DeviceTensor(source, np.dtype(np.float32), shape)},
                {**bound, NEXT_STATE: DeviceTensor(target, np.dtype(np.float32), shape)},
            )
            if beside:
                sources = [target + b * self.row_bytes for b in range(count)]
                self._device.copy_rows(sources, [row.address for row in fresh], self.row_bytes)
            came = self._device.download(results, offset)
        outputs = {}
        for name in asked:
            dtype, its_shape = shapes[name]
            outputs[name] = came[places[name] : places[name] + _nbytes(dtype, its_shape)].view(dtype).reshape(its_shape)
        return fresh, outputs

    def _shapes(self, given: Mapping[str, Array]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Type and shape of each output that may be asked for (``service.contract``)."""
        steps = given["steps"]
        floats, count = np.dtype(np.float32), len(steps)
        return {
            "next.step": (np.dtype(np.int64), (count,)),
            "scores": (floats, (count, self.outputs)),
            "probabilities": (floats, (count, self.outputs)),
            "readout": (floats, (count, int(steps.max()), self.outputs)),
        }

    def _fresh(self, count: int) -> list[DeviceRow]:
        """
        Raises:
            Overloaded: the device's memory is full.
        """
        slots = self._pool.take(count)
        while slots is None:
            self._grow()
            slots = self._pool.take(count)
        stride = self._block_slots + 1
        return [
            DeviceRow(self._pool, slot, self._blocks[slot // stride] + slot % stride * self.row_bytes, self.row_bytes)
            for slot in slots
        ]

    def _grow(self) -> None:
        address = self._device.allocate(self._block_slots * self.row_bytes)
        if address is None:
            raise self._full()
        # a number between two blocks stays unused: slots in a row lie in one block
        self._pool.add(len(self._blocks) * (self._block_slots + 1), self._block_slots)
        self._blocks.append(address)

    def _room(self, use: str, nbytes: int) -> int:
        """Memory that a batch works in; the next one finds it as it likes."""
        address, have = self._spare.get(use, (0, 0))
        if have < nbytes:
            if have:
                del self._spare[use]
                self._device.release(address)
            made = self._device.allocate(nbytes)
            if made is None:
                raise self._full()
            address = made
            self._spare[use] = (address, nbytes)
        return address

    def _full(self) -> Overloaded:
        return Overloaded(
            f"the memory of {self._device.name} is full: end sessions, or try again in {RETRY_S:g} s", RETRY_S
        )

    def _adjacent(self, rows: Sequence[DeviceRow]) -> bool:
        return all(second.address - first.address == self.row_bytes for first, second in pairwise(rows))


class _DeviceBatch:
    def __init__(self, memory: DeviceMemory, rows: Sequence[DeviceRow]) -> None:
        self._memory = memory
        self._rows = list(rows)

    def run(self, graph: Graph, given: dict[str, Array], asked: Sequence[str], count: int) -> dict[str, Array]:
        # whoever gave a model its memory on a device loaded its graphs there
        on_device = cast(DeviceGraph, graph)
        self._rows[:count], outputs = self._memory.run(on_device, self._rows[:count], given, asked)
        return outputs

    def rows(self) -> list[Any]:
        return self._rows


def _nbytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return dtype.itemsize * prod(shape)


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
