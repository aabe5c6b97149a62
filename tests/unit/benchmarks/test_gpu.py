"""The GPU's benchmark, by the code of a GPU on ONNX Runtime's CPU provider, so that the first GPU meets no mistakes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import gpu
from service.errors import RuntimeUnavailable
from service.models.catalog import ModelCatalog
from service.runtime import onnx
from service.runtime.device import GPU, Device, open_device


def test_all_is_measured_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "CUDA", "CPUExecutionProvider")
    device = open_device("cuda")
    assert device is GPU
    measured = gpu.measure(device, {"bank": gpu.MODELS}, (1, 3), (2,), 0.0)
    assert [(cell["form"], cell["batch"]) for cell in measured["cells"]] == [("bank", 1), ("bank", 3)]
    assert all(cell["gpu_us"] > 0 < cell["cpu_us"] for cell in measured["cells"])
    assert measured["share_of_spikes_that_differ"] == {"bank": 0.0}


def test_spikes_and_labels_that_differ_are_counted() -> None:
    network, other = (ModelCatalog(gpu.MODELS).get(name) for name in (gpu.MODEL, "shd-words"))
    share, labels = gpu.differences(other, network)  # of the same size
    assert share > 0.5
    assert labels == 4


def test_without_a_gpu_nothing_is_measured_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> Device:
        raise RuntimeUnavailable("no GPU can be used: none is there")

    monkeypatch.setattr(gpu, "open_device", refuse)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "--json", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit) as caught:
        benchmarks.main()
    assert caught.value.code == "nothing measured: no GPU can be used: none is there"
    assert not (tmp_path / "gpu.json").exists()
