"""HetSyn's operators for ONNX Runtime, in C++: finds the built library, and decides whether to use it.

The installation of hetsyn builds the operators, with a compiler from PyPI if the machine has none. Without them, a
graph runs its function of plain ONNX, 5 to 58 times slower. ``python -P -m service.runtime.operators`` says which
runs.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from service.errors import RuntimeUnavailable

BUILD = "install hetsyn again, in a checkout with pip install -e (without g++, pip downloads a compiler)"
MODE = "HETSYN_OPERATORS"
GRAPH_VERSION = 5  # version of the graphs that the sources run: kFormat of description.hpp

Mode = Literal["auto", "off", "require"]


@dataclass(frozen=True)
class OperatorStatus:
    """The state of the operator.

    Attributes:
        kernel: version of its loops that the processor runs: v2 (SSE4.2), v3 (AVX2), v4 (AVX-512), or generic. None
            if plain ONNX runs the networks.
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
        """Return a copy for networks that run on a device, where the operator is not used."""
        return replace(self, kernel=None, device=device)

    @property
    def sentence(self) -> str:
        """Describe the state in one line for people."""
        if self.device is not None:
            return f"operator: not used, it is for the CPU: {self.device} runs plain ONNX"
        if self.problem is None:
            return f"operator: {self.kernel}"
        return f"operator: not used, plain ONNX runs the networks, many times slower: {self.problem}"


def mode() -> Mode:
    """Read ``HETSYN_OPERATORS`` of the environment: ``off`` uses plain ONNX, ``require`` refuses it.

    Raises:
        RuntimeUnavailable: it has another value.
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
    """Find the shared library; None if it was not built or is switched off (``mode``)."""
    return None if mode() == "off" else _built()


def kernel(built: Path) -> str:
    """Find the version of the library's loops that this processor runs.

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
    """Return whether a library was built for this version's graphs; an older checkout may have left another one.

    A library that cannot be loaded counts as this version's: its registration says why it fails.
    """
    try:
        loaded = ctypes.CDLL(str(built))
    except OSError:
        return True
    return hasattr(loaded, "hetsyn_flush_denormals") and loaded.hetsyn_format() == GRAPH_VERSION


class Denormals(NamedTuple):
    """Functions of the library: they flush denormal numbers to zero on a thread, and stop it.

    A silent stream decays to such numbers, and they take 100 times as long.

    Attributes:
        flush: begins; returns the mode before.
        restore: goes back to that mode.
    """

    flush: Callable[[], int]
    restore: Callable[[int], None]


@cache
def denormals() -> Denormals | None:
    """Load the library's two functions if it was built; plain ONNX has none."""
    built = _built()
    if built is None or not is_of_this_version(built):
        return None
    loaded = ctypes.PyDLL(str(built))
    flush, restore = loaded.hetsyn_flush_denormals, loaded.hetsyn_restore_denormals
    flush.restype = ctypes.c_uint64
    restore.argtypes, restore.restype = [ctypes.c_uint64], None
    return Denormals(flush, restore)


def _built() -> Path | None:
    built = Path(__file__).parent / "_network.so"
    return built if built.exists() else None
