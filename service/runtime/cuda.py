"""NVIDIA GPUs: our CUDA library through ctypes, and graphs on ONNX Runtime's CUDA provider.

The library makes one CUDA stream, and ONNX Runtime uses it too. So copies of rows, graphs and downloads run one after
the other on the GPU, and the host need not wait in between.

None of this was run on a GPU: docs/explanation/gpu.md lists the tests and what they leave open.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.extras import install_command
from service.contract.manifest import FORMAT_VERSION
from service.errors import RuntimeUnavailable
from service.runtime.device import Device, DeviceGraph
from service.runtime.onnx import CUDA, OTHER_VERSION, Array, cuda_problem, load_cuda_graph, providers
from service.runtime.operators import BUILD_CUDA, cuda_library
from service.settings import DeviceChoice

DEVICE_ID = 0  # CUDA_VISIBLE_DEVICES chooses another
NAME_BYTES = 256
# for ONNX Runtime and the calls' own memory
RESERVE_BYTES = 512 * 1024 * 1024

log = logging.getLogger("hetsyn.device")


def open_device(choice: DeviceChoice) -> Device | None:
    """The device to compute networks on; None for the CPU.

    Args:
        choice: ``auto`` is a GPU where one can really be used, else the CPU.

    Raises:
        RuntimeUnavailable: the choice is ``cuda`` and no GPU can be used; says why and what to do.
    """
    if choice == "cpu":
        return None
    reason = problem()
    if reason is None:
        return CudaDevice()
    if choice == "cuda":
        raise RuntimeUnavailable(f"no GPU can be used: {reason}")
    # in an installation for GPUs the operator should know; the CPU's ONNX Runtime has nothing to tell
    level = logging.WARNING if CUDA in providers() else logging.DEBUG
    log.log(level, "no GPU can be used, networks run on the CPU: %s", reason)
    return None


def problem() -> str | None:
    """Why no GPU can be used, and what to do; None if one can."""
    if CUDA not in providers():
        return f"this ONNX Runtime is the CPU's: pip uninstall -y onnxruntime, then {install_command('gpu')}"
    if cuda_library() is None:
        return f"our operator for GPUs is not built, and without it a GPU would be the slower way: {BUILD_CUDA}"
    try:
        CudaDevice().close()
    except RuntimeUnavailable as error:
        return str(error)
    return cuda_problem(DEVICE_ID)


class CudaDevice:
    """The first visible GPU.

    Raises:
        RuntimeUnavailable: it cannot be opened.
    """

    def __init__(self) -> None:
        built = cuda_library()
        if built is None:
            raise RuntimeUnavailable(f"our operator for GPUs is not built: {BUILD_CUDA}")
        self._library_path = built
        try:
            self._library = _load(built)
        except (OSError, AttributeError) as error:  # a missing attribute: built from older sources
            raise RuntimeUnavailable(f"{built} cannot be loaded ({error}): build it again, {BUILD_CUDA}") from error
        self.lock = Lock()
        stream, name = ctypes.c_void_p(), ctypes.create_string_buffer(NAME_BYTES)
        self._check(self._library.hetsyn_cuda_open(DEVICE_ID, ctypes.byref(stream), name, NAME_BYTES), "opened")
        self._stream = stream
        self.name = name.value.decode(errors="replace")

    def close(self) -> None:
        """Destroy the CUDA stream. Graphs that were loaded on it must be gone."""
        self._library.hetsyn_cuda_close(self._stream)

    def load(self, content: bytes) -> DeviceGraph:
        return load_cuda_graph(content, library=self._library_path, device_id=DEVICE_ID, stream=self._stream.value or 0)

    def memory(self) -> tuple[int, int]:
        """The GPU's free bytes and all its bytes."""
        free, total = ctypes.c_int64(), ctypes.c_int64()
        code = self._library.hetsyn_cuda_memory(DEVICE_ID, ctypes.byref(free), ctypes.byref(total))
        self._check(code, "asked for its memory")
        return free.value, total.value

    def allocate(self, nbytes: int) -> int | None:
        if self.memory()[0] - nbytes < RESERVE_BYTES:
            return None
        address = ctypes.c_void_p()
        if self._library.hetsyn_cuda_allocate(DEVICE_ID, nbytes, ctypes.byref(address)):
            return None
        return address.value

    def release(self, address: int) -> None:
        self._library.hetsyn_cuda_release(address)

    def copy_rows(self, sources: Sequence[int], targets: Sequence[int], row_bytes: int) -> None:
        addresses = ctypes.c_uint64 * len(sources)
        code = self._library.hetsyn_cuda_copy_rows(
            DEVICE_ID, self._stream, addresses(*sources), addresses(*targets), len(sources), row_bytes // 4
        )
        self._check(code, "copied on")

    def upload(self, values: Array, address: int) -> None:
        contiguous = np.ascontiguousarray(values)
        code = self._library.hetsyn_cuda_upload(
            DEVICE_ID, self._stream, address, contiguous.ctypes.data, contiguous.nbytes
        )
        self._check(code, "written to")

    def download(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        values = np.empty(nbytes, np.uint8)
        code = self._library.hetsyn_cuda_download(DEVICE_ID, self._stream, values.ctypes.data, address, nbytes)
        self._check(code, "read")
        return values

    def _check(self, code: int, action: str) -> None:
        if code:
            reason = self._library.hetsyn_cuda_explain(code).decode(errors="replace")
            raise RuntimeUnavailable(f"the GPU cannot be {action} ({reason}): check nvidia-smi and the driver's log")


@cache
def _load(path: Path) -> Any:
    library = ctypes.CDLL(str(path))
    if library.hetsyn_format() != FORMAT_VERSION:
        raise OSError(OTHER_VERSION)
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    signatures = {
        "open": (ctypes.c_int, pointer, pointer, ctypes.c_int),
        "close": (pointer,),
        "memory": (ctypes.c_int, pointer, pointer),
        "allocate": (ctypes.c_int, number, pointer),
        "release": (pointer,),
        "copy_rows": (ctypes.c_int, pointer, pointer, pointer, number, number),
        "upload": (ctypes.c_int, pointer, pointer, pointer, number),
        "download": (ctypes.c_int, pointer, pointer, pointer, number),
    }
    for name, arguments in signatures.items():
        getattr(library, f"hetsyn_cuda_{name}").argtypes = arguments
    library.hetsyn_cuda_explain.restype = ctypes.c_char_p
    return library
