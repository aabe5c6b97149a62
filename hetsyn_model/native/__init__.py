"""The compiled products and layer rollout: built at first use with the machine's C++ compiler.

Without a compiler everything runs in plain torch, some ten times slower; :func:`library` then returns
None. ``HETSYN_NATIVE=0`` in the environment has the same effect.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_name("rollout.cpp")
_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fopenmp-simd", "-fPIC", "-shared", "-std=c++17", "-pthread")
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
        ("threshold", ctypes.c_double),
        ("adaptation_decay", ctypes.c_double),
        ("adaptation_strength", ctypes.c_double),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled library, or None where there is no compiler or it failed (logged once)."""
    if os.environ.get("HETSYN_NATIVE") == "0":
        return None
    wanted = [shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"]]
    compiler = next((command for command in wanted if command and shutil.which(command[0])), None)
    if compiler is None:
        _log.warning(
            "no C++ compiler found (apt-get install g++): training runs in plain torch, about ten times slower"
        )
        return None
    # -march=native: the file is only good for the processor that it was built on
    cpu = (
        next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
        if Path("/proc/cpuinfo").exists()
        else ""
    )
    key = hashlib.sha256("\0".join([_SOURCE.read_text(), *_FLAGS, *compiler, cpu]).encode()).hexdigest()[:16]
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hetsyn"
        built = cache / f"rollout-{key}.so"
        if not built.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                fresh = Path(scratch) / "rollout.so"
                subprocess.run(
                    [*compiler, *_FLAGS, str(_SOURCE), "-o", str(fresh)], check=True, capture_output=True, text=True
                )
                fresh.replace(built)  # atomic: two processes may build at once
        return ctypes.CDLL(str(built))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        detail = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        _log.warning("the compiled rollout cannot be used, plain torch runs instead: %s", detail)
        return None


def required() -> ctypes.CDLL:
    """The compiled library, for code that :func:`runs` has chosen.

    Raises:
        RuntimeError: it is not there.
    """
    built = library()
    if built is None:
        raise RuntimeError("the compiled rollout was chosen, but cannot be used: see native.runs")
    return built


def runs(tensor: Tensor) -> bool:
    """Whether the compiled library takes such a tensor: float32 or float64 in the CPU's memory."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64) and library() is not None
