"""The choice of a device, and the calls to the CUDA library; a stand-in takes the library's place."""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hetsyn_client.extras import install_command
from service.errors import ArtifactError, RuntimeUnavailable
from service.runtime import cuda
from service.runtime import onnx as runtime
from service.runtime.cuda import RESERVE_BYTES, CudaDevice, open_device, problem
from service.runtime.onnx import CUDA, PROBE, cuda_problem, load_cuda_graph, load_graph
from service.runtime.operators import cuda_library
from tests.support.paths import MODELS
from tests.support.tools import NO_CUDA_OPERATOR

BUILT = cuda_library()


class Library:
    """The functions of ``network.cu`` for ctypes, on the host's memory."""

    def __init__(self, code: int = 0, free: int = 4 * RESERVE_BYTES) -> None:
        self.code, self.free = code, free
        self.calls: list[str] = []

    def hetsyn_cuda_open(self, _: int, stream: Any, name: Any, size: int) -> int:
        ctypes.cast(stream, ctypes.POINTER(ctypes.c_void_p))[0] = 0x5EA
        name.value = b"A GPU"[:size]
        return self.code

    def hetsyn_cuda_close(self, _: Any) -> int:
        self.calls.append("close")
        return 0

    def hetsyn_cuda_memory(self, _: int, free: Any, everything: Any) -> int:
        ctypes.cast(free, ctypes.POINTER(ctypes.c_int64))[0] = self.free
        ctypes.cast(everything, ctypes.POINTER(ctypes.c_int64))[0] = 2 * self.free
        return self.code

    def hetsyn_cuda_allocate(self, _: int, nbytes: int, address: Any) -> int:
        ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))[0] = nbytes  # whatever
        return self.code

    def hetsyn_cuda_copy_rows(self, _: int, stream: Any, sources: Any, targets: Any, count: int, words: int) -> int:
        self.calls.append(f"copy {list(sources)} to {list(targets)}: {count} of {words} words on {stream.value:#x}")
        return self.code

    def hetsyn_cuda_upload(self, _: int, __: Any, target: int, source: int, nbytes: int) -> int:
        ctypes.memmove(target, source, nbytes)
        return self.code

    def hetsyn_cuda_download(self, _: int, __: Any, target: int, source: int, nbytes: int) -> int:
        ctypes.memmove(target, source, nbytes)
        return self.code

    def hetsyn_cuda_explain(self, code: int) -> bytes:
        return f"error {code}".encode()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(cuda, "_load", lambda _: made)
    monkeypatch.setattr(cuda, "cuda_library", lambda: Path("built.so"))
    return made


class FakeInferenceSession:
    def __init__(self, runs_on: str) -> None:
        self.runs_on = runs_on

    def get_providers(self) -> list[str]:
        return [self.runs_on]

    def get_inputs(self) -> list[Any]:
        return []

    get_outputs = get_inputs


class Ort:
    """ONNX Runtime's module on an imagined machine.

    Args:
        runs_on: the provider of a session that wants CUDA; "nothing" fails.
        lists: the providers that the module lists.
    """

    __version__ = "1.99"
    ExecutionMode = SimpleNamespace(ORT_SEQUENTIAL=0)

    def __init__(self, runs_on: str = CUDA, lists: tuple[str, ...] = (CUDA, "CPUExecutionProvider")) -> None:
        self.runs_on, self.lists = runs_on, lists
        self.did: list[Any] = []

    def get_available_providers(self) -> list[str]:
        return list(self.lists)

    def preload_dlls(self) -> None:
        self.did.append("preload")

    def SessionOptions(self) -> Any:
        return SimpleNamespace(
            register_custom_ops_library=lambda path: self.did.append(path),
            add_session_config_entry=lambda *_: None,
        )

    def RunOptions(self) -> Any:
        return SimpleNamespace(terminate=False)

    def InferenceSession(self, _: bytes, __: Any, providers: Any, enable_fallback: int) -> FakeInferenceSession:
        assert not enable_fallback
        self.did.append(providers)
        if self.runs_on == "nothing":
            raise RuntimeError("no kernel image\nand more")
        return FakeInferenceSession(self.runs_on)


def use(monkeypatch: pytest.MonkeyPatch, ort: Ort) -> Ort:
    monkeypatch.setattr(runtime, "_onnxruntime", lambda: ort)
    return ort


def test_the_cpu_needs_no_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "problem", lambda: pytest.fail("looked"))
    assert open_device("cpu") is None


def test_auto_takes_a_gpu_that_works_and_else_the_cpu(
    monkeypatch: pytest.MonkeyPatch, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, Ort())
    opened = open_device("auto")
    assert opened is not None
    assert opened.name == "A GPU"
    library.code = 35
    sentence = "no GPU can be used, networks run on the CPU: "
    assert open_device("auto") is None
    (warning,) = caplog.records
    assert (warning.levelno, warning.getMessage()[: len(sentence)]) == (logging.WARNING, sentence)
    assert "the GPU cannot be opened (error 35)" in warning.getMessage()
    with pytest.raises(RuntimeUnavailable, match=r"no GPU can be used: .*error 35.*nvidia-smi"):
        open_device("cuda")


def test_an_installation_for_the_cpu_warns_of_no_gpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, Ort(lists=("CPUExecutionProvider",)))
    assert open_device("auto") is None
    assert caplog.records == []


def test_each_lack_says_what_to_do(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    use(monkeypatch, Ort(lists=("CPUExecutionProvider",)))
    assert install_command("gpu") in str(problem())
    assert "has no CUDA" in str(cuda_problem())
    use(monkeypatch, Ort())
    assert problem() is None
    assert library.calls == ["close"]
    monkeypatch.setattr(cuda, "cuda_library", lambda: None)
    assert "make operators-cuda" in str(problem())
    with pytest.raises(RuntimeUnavailable, match="make operators-cuda"):
        CudaDevice()


def test_a_library_that_does_not_load_or_is_old_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "_network_cuda.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(cuda, "cuda_library", lambda: broken)
    with pytest.raises(RuntimeUnavailable, match=r"cannot be loaded .*build it again, make operators-cuda"):
        CudaDevice()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    with pytest.raises(RuntimeUnavailable, match="build it again"):
        CudaDevice()


@pytest.mark.usefixtures("library")
def test_a_session_that_falls_back_silently_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for ort, sentence in (
        (Ort("CPUExecutionProvider"), "falls back to the CPU"),
        (Ort("nothing"), r"no kernel image\)"),
    ):
        use(monkeypatch, ort)
        assert ort.did == []
        with pytest.raises(RuntimeUnavailable, match=f"{sentence}.*nvidia-smi"):
            open_device("cuda")
        assert ort.did[0] == "preload"
    use(monkeypatch, Ort("CPUExecutionProvider"))
    with pytest.raises(RuntimeUnavailable, match="falls back"):
        load_cuda_graph(b"", library=Path("built.so"), device_id=0, stream=1)
    use(monkeypatch, Ort("nothing"))
    with pytest.raises(ArtifactError, match=r"cannot load the graph .no kernel image.$"):
        load_cuda_graph(b"", library=Path("built.so"), device_id=0, stream=1)


@pytest.mark.usefixtures("library")
def test_graphs_run_in_full_precision_on_the_devices_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    ort = use(monkeypatch, Ort())
    CudaDevice().load(b"")
    options = {"device_id": "0", "user_compute_stream": str(0x5EA), "use_tf32": "0"}
    assert ort.did == ["built.so", "preload", [(CUDA, options)]]


@pytest.mark.usefixtures("library")
def test_memory_is_left_for_others() -> None:
    device = CudaDevice()
    assert device.memory() == (4 * RESERVE_BYTES, 8 * RESERVE_BYTES)
    assert device.allocate(3 * RESERVE_BYTES) == 3 * RESERVE_BYTES
    assert device.allocate(3 * RESERVE_BYTES + 1) is None


def test_values_go_there_and_back(library: Library) -> None:
    device = CudaDevice()
    there = np.zeros(6, np.float32)
    values = np.arange(12, dtype=np.float32)[::2]
    device.upload(values, there.ctypes.data)
    assert device.download(there.ctypes.data, 24).view(np.float32).tolist() == values.tolist()
    device.copy_rows([1, 2], [3, 4], 40)
    assert library.calls == ["copy [1, 2] to [3, 4]: 2 of 10 words on 0x5ea"]


def test_what_the_driver_refuses_is_explained(library: Library) -> None:
    device = CudaDevice()
    library.code = 700
    for call in (
        lambda: device.copy_rows([1], [2], 4),
        lambda: device.upload(np.zeros(1, np.float32), np.zeros(1, np.float32).ctypes.data),
        device.memory,
    ):
        with pytest.raises(RuntimeUnavailable, match=r"the GPU cannot be .* .error 700."):
            call()


def test_the_probe_is_a_graph_that_runs() -> None:
    x = np.ones(1, np.float32)
    assert load_graph(PROBE).run({"x": x}, ["y"])["y"] == x


@pytest.mark.skipif(BUILT is None, reason=NO_CUDA_OPERATOR)
def test_the_built_library_has_what_python_asks_for(caplog: pytest.LogCaptureFixture) -> None:
    """It loads where there is no GPU, and ONNX Runtime takes its operator, for CUDA alone."""
    assert BUILT is not None
    library = cuda._load(BUILT)
    values = np.zeros(1, np.float32)
    if problem() is not None:  # no GPU: each call is made and refused
        one = (ctypes.c_uint64 * 1)(values.ctypes.data)
        found = ctypes.c_void_p()
        for code in (
            library.hetsyn_cuda_allocate(0, 4, ctypes.byref(found)),
            library.hetsyn_cuda_copy_rows(0, found, one, one, 1, 1),
            library.hetsyn_cuda_upload(0, found, values.ctypes.data, values.ctypes.data, 4),
            library.hetsyn_cuda_download(0, found, values.ctypes.data, values.ctypes.data, 4),
        ):
            assert code
            assert library.hetsyn_cuda_explain(code)
    content = (MODELS / "shd-size/1/bank.onnx").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "library", lambda: BUILT)
        assert runtime.operators_problem() is None
        with pytest.raises(runtime._failures(), match="Could not find an implementation for Network"):
            runtime._session(runtime._onnxruntime(), content, 1, BUILT)
        load_graph(content)  # never silently on the CPU
        assert "_network_cuda.so is not used, plain ONNX runs instead" in caplog.text
