"""The interface to a device with memory of its own.

A ``Device`` allocates, copies, and loads graphs that read and write its memory; it knows nothing of sessions.
``device_memory.py`` keeps their states on it, ``cuda.py`` has the device for NVIDIA GPUs. Encoder graphs stay on the
CPU: a step of sound is little work, and its state is float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.runtime.onnx import Array, DeviceTensor, Graph


class DeviceGraph(Graph, Protocol):
    """A graph on a device."""

    def run_bound(self, inputs: Mapping[str, Array | DeviceTensor], outputs: Mapping[str, DeviceTensor]) -> None:
        """Run the graph; it writes its outputs to the device's memory.

        Args:
            inputs: by name, on the host or on the device; shapes as in ``service.contract.graph_io``.
            outputs: by name.

        Raises:
            ArtifactError: the graph does not take these inputs or outputs, or fails on them.
        """
        ...


class Device(Protocol):
    """A device. It runs operations in the order of the calls.

    Hold ``lock`` from the first of some operations that depend on each other to the last.
    """

    @property
    def name(self) -> str: ...

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    def load(self, content: bytes) -> DeviceGraph:
        """A graph from the bytes of an ONNX file.

        Raises:
            RuntimeUnavailable: the device cannot be used.
            ArtifactError: ONNX Runtime cannot load the graph.
        """
        ...

    def allocate(self, nbytes: int) -> int | None:
        """The address of new memory; None if the device has too little left."""
        ...

    def release(self, address: int) -> None: ...

    def copy_rows(self, sources: Sequence[int], targets: Sequence[int], row_bytes: int) -> None:
        """Copy each row from its source to its target address; no two rows overlap."""
        ...

    def upload(self, values: Array, address: int) -> None: ...

    def download(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """A copy of the device's memory from ``address`` on, [nbytes]."""
        ...
