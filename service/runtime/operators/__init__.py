"""Our operators for ONNX Runtime, in C++: the paths of the libraries that were built.

Installing hetsyn builds the operators if it finds a C++ compiler and ONNX Runtime's headers (Debian: ``g++`` and
``libonnxruntime-dev``). Without them every graph still runs, on the function of plain ONNX that it carries, some ten
times slower. ``python -m service.runtime.operators`` says which of the two it is.
"""

from __future__ import annotations

from pathlib import Path

BUILD_CUDA = "make operators-cuda, with nvcc and libonnxruntime-dev (docs/guides/gpu.md)"
BUILD = "apt-get install g++ libonnxruntime-dev, then install hetsyn again"


def library() -> Path | None:
    """The shared library; None where it was not built."""
    return next(iter(sorted(Path(__file__).parent.glob("_network.*so"))), None)


def cuda_library() -> Path | None:
    """The shared library for NVIDIA GPUs; None where it was not built."""
    built = Path(__file__).parent / "_network_cuda.so"
    return built if built.exists() else None
