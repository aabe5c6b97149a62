"""The compiled products and layer rollout, built when hetsyn is installed.

Without them everything runs in plain torch, about ten times slower; :func:`library` then returns None.
``HETSYN_NATIVE=0`` in the environment has the same effect.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BUILD = "install hetsyn again, in a checkout with pip install -e (without g++, pip downloads a compiler)"
FORMAT = 8  # of ``hetsyn_rollout_format`` in level.cpp
_BUILT = Path(__file__).with_name("_rollout.so")
_log = logging.getLogger(__name__)


class LayerStruct(ctypes.Structure):
    """``Layer`` of rollout.cpp."""

    _fields_ = [
        ("batch", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("bank", ctypes.c_int64),
        ("neurons", ctypes.c_int64),
        ("spiking", ctypes.c_int),
        ("recurrent", ctypes.c_int),
        ("membrane", ctypes.c_int),
        ("reset", ctypes.c_int),
        ("adaptation_decay", ctypes.c_double),
        ("adaptation_strength", ctypes.c_double),
    ]


class Library:
    """The functions of rollout.cpp, in the version for this processor.

    Raises:
        OSError: it cannot be loaded, is of another version of hetsyn, or has no version for this processor.
    """

    def __init__(self, path: Path) -> None:
        self._loaded = ctypes.CDLL(str(path))
        if not hasattr(self._loaded, "hetsyn_rollout_format") or self._loaded.hetsyn_rollout_format() != FORMAT:
            raise OSError(f"another version of hetsyn has built it: {BUILD}")
        kernel = self._loaded.hetsyn_kernel
        kernel.restype = ctypes.c_char_p
        level = kernel()
        if level is None:
            raise OSError("this processor is older than x86-64-v2")
        self.level: str = level.decode()

    def function(self, name: str, tensor: Tensor) -> Callable[..., Any]:
        """``hetsyn_NAME`` for tensors like this one, float32 or float64."""
        kind = "float" if tensor.dtype == torch.float32 else "double"
        found: Callable[..., Any] = getattr(self._loaded, f"hetsyn_{name}_{kind}_{self.level}")
        return found


@functools.cache
def library() -> Library | None:
    """Load the compiled library; None if it was not built or cannot be used (logged once)."""
    if os.environ.get("HETSYN_NATIVE") == "0":
        return None
    if not _BUILT.exists():
        _log.warning(
            "the compiled rollout is not built: training runs in plain torch, about ten times slower. To build it, %s",
            BUILD,
        )
        return None
    try:
        return Library(_BUILT)
    except OSError as error:
        _log.warning("the compiled rollout cannot be used, plain torch runs instead: %s", error)
        return None


def required() -> Library:
    """Return the compiled library, for code that :func:`runs` has chosen."""
    built = library()
    if built is None:
        raise RuntimeError("the compiled rollout was chosen, but cannot be used: see native.runs")
    return built


def runs(tensor: Tensor) -> bool:
    """Return whether the compiled library takes this tensor: float32 or float64 in the CPU's memory."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64) and library() is not None
