"""The GPU's benchmark, by the code of a GPU on ONNX Runtime's CPU provider, so that the first GPU meets no mistakes."""

from __future__ import annotations

import pytest

from benchmarks import gpu
from service.runtime import onnx
from service.runtime.device import GPU, open_device


def test_all_is_measured_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "CUDA", "CPUExecutionProvider")
    device = open_device("cuda")
    assert device is GPU
    measured = gpu.measure(device, {"bank": gpu.MODELS}, (1, 3), (2,), 0.0)
    assert [(cell["form"], cell["batch"]) for cell in measured["cells"]] == [("bank", 1), ("bank", 3)]
    assert all(cell["gpu_us"] > 0 < cell["cpu_us"] for cell in measured["cells"])
    assert measured["share_of_spikes_that_differ"] == {"bank": 0.0}
