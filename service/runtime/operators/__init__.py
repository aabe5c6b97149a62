"""Our operators for ONNX Runtime, in C++: the paths of the libraries that were built, and the choice to use them.

The installation of hetsyn builds the operators, with a compiler from PyPI if the machine has none. Without them, a
graph runs its function of plain ONNX, 5 to 58 times slower. ``python -P -m service.runtime.operators`` says which
runs.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from service.errors import RuntimeUnavailable

BUILD = "install hetsyn again, in a checkout with pip install -e (without g++, pip downloads a compiler)"
MODE = "HETSYN_OPERATORS"
GRAPH_VERSION = 5  # of the graphs that the sources run: kFormat of description.hpp

Mode = Literal["auto", "off", "require"]


@dataclass(frozen=True)
class OperatorStatus:
    """What runs the networks on the CPU.

    Attributes:
        built: whether the library is there.
        kernel: version of its loops that the processor runs: v2 (SSE4.2), v3 (AVX2), v4 (AVX-512), or generic. None
            where plain ONNX runs the networks.
        problem: why the operator is not used, and what to do; None if it is used.
        device: name of the device that runs the networks, in plain ONNX; None is the CPU.
    """

    built: bool
    kernel: str | None
    problem: str | None
    device: str | None = None

    @property
    def in_use(self) -> bool:
        return self.problem is None and self.device is None

    def on(self, device: str) -> OperatorStatus:
        """Say that the operator is not used: networks run on a device, and it is for the CPU."""
        return replace(self, kernel=None, device=device)

    @property
    def sentence(self) -> str:
        """One line for people."""
        if self.device is not None:
            return f"operator: not used, it is for the CPU: {self.device} runs plain ONNX"
        if self.problem is None:
            return f"operator: {self.kernel}"
        return f"operator: not used, plain ONNX runs the networks, many times slower: {self.problem}"


def mode() -> Mode:
    """Return what ``HETSYN_OPERATORS`` in the environment says: ``off`` leaves plain ONNX, ``require`` refuses it.

    Raises:
        RuntimeUnavailable: it says something else.
    """
    match os.environ.get(MODE) or "auto":
        case "auto":
            return "auto"
        case "off":
            return "off"
        case "require":
            return "require"
        case other:
            raise RuntimeUnavailable(f"{MODE}={other}: off, require, or leave it out")


def library() -> Path | None:
    """Return the shared library; None where it was not built or is switched off.

    Raises:
        RuntimeUnavailable: ``HETSYN_OPERATORS`` says something unknown.
    """
    return None if mode() == "off" else _built()


def kernel(built: Path) -> str:
    """Return the version of the library's loops that this processor runs.

    Raises:
        OSError: the library cannot be loaded, or has no version for this processor.
    """
    function = ctypes.CDLL(str(built)).hetsyn_kernel
    function.restype = ctypes.c_char_p
    name = function()
    if name is None:
        raise OSError("this processor is older than x86-64-v2")
    return str(name.decode())


def is_of_this_version(built: Path) -> bool:
    """Return whether a library was built for the artifacts of this version; an older checkout leaves one that was not.

    A library that cannot be loaded counts as one: who registers it says why.
    """
    try:
        loaded = ctypes.CDLL(str(built))
    except OSError:
        return True
    return hasattr(loaded, "hetsyn_flush_denormals") and loaded.hetsyn_format() == GRAPH_VERSION


class Denormals:
    """Lets denormal numbers count as zero on a thread. A silent stream decays to them, and they cost a hundredfold.

    Args:
        built: the library; None changes nothing.
    """

    def __init__(self, built: Path | None) -> None:
        self._loaded = None if built is None else ctypes.PyDLL(str(built))
        if self._loaded is not None:
            self._loaded.hetsyn_flush_denormals.restype = ctypes.c_uint64
            self._loaded.hetsyn_restore_denormals.argtypes = [ctypes.c_uint64]

    def flush(self) -> int:
        """Begin, and return what :meth:`restore` needs."""
        return 0 if self._loaded is None else int(self._loaded.hetsyn_flush_denormals())

    def restore(self, before: int) -> None:
        """End."""
        if self._loaded is not None:
            self._loaded.hetsyn_restore_denormals(before)


@cache
def denormals() -> Denormals:
    """Load the library's two functions, where it was built; plain ONNX does not know of denormal numbers."""
    built = _built()
    return Denormals(built if built is not None and is_of_this_version(built) else None)


def _built() -> Path | None:
    built = Path(__file__).parent / "_network.so"
    return built if built.exists() else None
