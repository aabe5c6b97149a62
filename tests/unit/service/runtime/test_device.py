"""The choice of a GPU, and graphs on ONNX Runtime's CUDA provider; a stand-in takes ONNX Runtime's place."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hetsyn_client.extras import install_command
from service.errors import ArtifactError, RuntimeUnavailable
from service.runtime import device
from service.runtime import onnx as runtime
from service.runtime.device import GPU, open_device
from service.runtime.onnx import CUDA, PROBE, load_graph


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
    monkeypatch.setattr(device, "cuda_problem", lambda: pytest.fail("looked"))
    assert open_device("cpu") is None


def test_a_gpu_that_works_runs_plain_onnx_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library of operators is registered: the graph's function of plain ONNX runs."""
    ort = use(monkeypatch, Ort())
    assert open_device("auto") is open_device("cuda") is GPU
    ort.did.clear()
    GPU.load(b"")
    assert ort.did == ["preload", [(CUDA, {"use_tf32": "0"})]]


@pytest.mark.parametrize(
    ("ort", "level", "sentence"),
    [
        (
            Ort(lists=("CPUExecutionProvider",)),
            None,
            f"the CPU's: pip uninstall -y onnxruntime, then {install_command('gpu')}",
        ),
        (Ort("CPUExecutionProvider"), logging.WARNING, "falls back to the CPU: see whether nvidia-smi finds the GPU"),
        (Ort("nothing"), logging.WARNING, "cannot use the GPU (no kernel image): see whether nvidia-smi finds the GPU"),
    ],
    ids=["ONNX Runtime of the CPU", "silent fallback", "failure"],
)
def test_each_lack_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ort: Ort, level: int | None, sentence: str
) -> None:
    """``cuda`` refuses; ``auto`` takes the CPU, and warns in an installation for GPUs."""
    use(monkeypatch, ort)
    with pytest.raises(RuntimeUnavailable) as caught:
        open_device("cuda")
    assert str(caught.value).startswith("no GPU can be used: ")
    assert sentence in str(caught.value)
    assert open_device("auto") is None
    assert [record.levelno for record in caplog.records] == ([] if level is None else [level])
    assert all(sentence in record.getMessage() for record in caplog.records)


def test_a_graph_that_does_not_load_on_the_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Ort("CPUExecutionProvider"))
    with pytest.raises(RuntimeUnavailable, match="falls back"):
        GPU.load(b"")
    use(monkeypatch, Ort("nothing"))
    with pytest.raises(ArtifactError, match=r"cannot load the graph .no kernel image.$"):
        GPU.load(b"")


def test_the_probe_is_a_graph_that_runs() -> None:
    x = np.ones(1, np.float32)
    assert load_graph(PROBE).run({"x": x}, ["y"])["y"] == x
