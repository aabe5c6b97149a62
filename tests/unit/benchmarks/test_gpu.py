"""The GPU's benchmark on a faked device: it runs to its end, so that the first GPU does not meet its mistakes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import gpu
from service.runtime.onnx import load_graph
from tests.support.fake_device import FakeDevice


def test_all_is_measured_on_a_device() -> None:
    results = gpu.measure(FakeDevice(load_graph), (1, 3), (2,), 0.0)
    for form in ("bank", "exact"):
        assert results["forms"][form]["agrees"]
        assert results["forms"][form]["state_values"] > 9_000
        assert results["forms"][form]["import_microseconds"] > 0
    assert [(cell["form"], cell["batch"]) for cell in results["cells"]] == [
        ("bank", 1),
        ("bank", 3),
        ("exact", 1),
        ("exact", 3),
    ]


def test_without_a_gpu_nothing_is_measured_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "problem", lambda: "none is there")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "--json", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit) as caught:
        benchmarks.main()
    assert caught.value.code == "no CUDA device: nothing measured (none is there)"
    assert not (tmp_path / "gpu.json").exists()
