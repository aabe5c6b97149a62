"""A device whose memory is the host's."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.runtime.device import DeviceGraph
from service.runtime.onnx import Array, DeviceTensor, Graph, GraphLoader, OrtGraph
from tests.support.fake_graph import load_fake


class FakeDevice:
    """A device that is the host's memory behind addresses. It counts its operations and refuses foreign addresses.

    Graphs of ONNX Runtime run on the addresses themselves; a fake graph gets the values at these addresses.

    Args:
        load: makes a graph of its bytes; by default a fake one.
        capacity: in bytes.
    """

    name = "a fake GPU"

    def __init__(self, load: GraphLoader | None = None, capacity: int = 1 << 30) -> None:
        self.lock = threading.Lock()
        self.capacity = capacity
        self.failure: Exception | None = None  # of every graph's run
        self.uploads = self.downloaded_bytes = self.copied_rows = self.copies = self.runs = 0
        self._load = load or load_fake
        self._blocks: dict[int, Array] = {}

    def load(self, content: bytes) -> DeviceGraph:
        return _OnFakeDevice(self._load(content), self)

    @property
    def used(self) -> int:
        return sum(block.nbytes for block in self._blocks.values())

    def allocate(self, nbytes: int) -> int | None:
        if self.used + nbytes > self.capacity:
            return None
        block = np.full(nbytes // 4, np.nan, np.float32)  # nobody may count on zeros
        address = block.ctypes.data
        self._blocks[address] = block
        return address

    def release(self, address: int) -> None:
        del self._blocks[address]

    def copy_rows(self, sources: Sequence[int], targets: Sequence[int], row_bytes: int) -> None:
        assert self.lock.locked()
        self.copies += 1
        self.copied_rows += len(sources)
        for source, target in zip(sources, targets, strict=True):
            self.at(target, row_bytes)[:] = self.at(source, row_bytes)

    def upload(self, values: Array, address: int) -> None:
        assert self.lock.locked()
        self.uploads += 1
        self.at(address, values.nbytes)[:] = values.reshape(-1).view(np.uint8)

    def download(self, address: int, nbytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        assert self.lock.locked()
        self.downloaded_bytes += nbytes
        return self.at(address, nbytes).copy()

    def at(self, address: int, nbytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """A view of its bytes at an address, if all of them are its own."""
        for begin, block in self._blocks.items():
            if begin <= address and address + nbytes <= begin + block.nbytes:
                return block.view(np.uint8)[address - begin : address - begin + nbytes]
        raise ValueError("memory that was not allocated")


class _OnFakeDevice:
    def __init__(self, graph: Graph, device: FakeDevice) -> None:
        self._graph = graph
        self._device = device
        self.inputs = graph.inputs
        self.outputs = graph.outputs

    def run(self, *_: Any, **__: Any) -> dict[str, Array]:
        raise AssertionError("states would travel through the host")

    def run_bound(self, inputs: Mapping[str, Array | DeviceTensor], outputs: Mapping[str, DeviceTensor]) -> None:
        assert self._device.lock.locked()
        self._device.runs += 1
        # before the run: every address must be the device's own
        targets = {name: self._bytes(tensor) for name, tensor in outputs.items()}
        host_inputs = {
            name: self._bytes(value).view(value.dtype).reshape(value.shape).copy()
            if isinstance(value, DeviceTensor)
            else value
            for name, value in inputs.items()
        }
        if isinstance(self._graph, OrtGraph):
            self._graph.run_bound(inputs, outputs)
        else:
            for name, values in self._graph.run(host_inputs, list(outputs)).items():
                assert values.shape == outputs[name].shape
                targets[name][:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        if self._device.failure is not None:  # late: the outputs are written
            raise self._device.failure

    def stop(self) -> None:
        self._graph.stop()

    def _bytes(self, tensor: DeviceTensor) -> Array:
        return self._device.at(tensor.address, tensor.dtype.itemsize * int(np.prod(tensor.shape)))
