"""The GPU's benchmark on a stand-in: it runs to its end, so that the first GPU does not meet its mistakes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import gpu
from service.errors import RuntimeUnavailable
from service.runtime.device import Device
from service.runtime.onnx import load_graph


def test_all_is_measured_on_a_device() -> None:
    device = Device("a fake GPU", lambda content: load_graph(content, use_operators=False))
    cells = gpu.measure(device, (1, 3), (2,), 0.0)["cells"]
    assert [(cell["form"], cell["batch"]) for cell in cells] == [("bank", 1), ("bank", 3), ("exact", 1), ("exact", 3)]
    assert all(cell["gpu_us"] > 0 < cell["cpu_us"] for cell in cells)


def test_without_a_gpu_nothing_is_measured_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> Device:
        raise RuntimeUnavailable("no GPU can be used: none is there")

    monkeypatch.setattr(gpu, "open_device", refuse)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "--json", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit) as caught:
        benchmarks.main()
    assert caught.value.code == "nothing measured: no GPU can be used: none is there"
    assert not (tmp_path / "gpu.json").exists()
