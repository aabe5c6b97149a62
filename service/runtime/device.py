"""The seam to a device with memory of its own.

A ``Device`` allocates, copies and loads graphs that read and write its memory; it knows nothing of sessions.
``device_memory.py`` keeps their states on it, ``cuda.py`` is the one for NVIDIA GPUs. Encoder graphs stay on the CPU:
a step of sound is little work, and its state is float64.
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
        """Run it on inputs on the host or on the device; its outputs are written where they are told to be.

        Raises:
            ArtifactError: it does not take these, or fails on them.
        """
        ...


class Device(Protocol):
    """A device. What is asked of it happens in that order; hold ``lock`` from a copy to what relies on it."""

    @property
    def name(self) -> str: ...

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    def load(self, content: bytes) -> DeviceGraph:
        """A graph from the bytes of an ONNX file; errors as of ``load_graph``."""
        ...

    def allocate(self, nbytes: int) -> int | None:
        """The address of so much memory; None if there is not enough left."""
        ...

    def release(self, address: int) -> None: ...

    def copy_rows(self, sources: Sequence[int], targets: Sequence[int], row_bytes: int) -> None:
        """Rows from addresses to addresses, none of which overlap."""
        ...

    def upload(self, values: Array, address: int) -> None: ...

    def download(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Bytes of its memory, in an array of the caller's own."""
        ...
