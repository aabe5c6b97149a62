"""The results in ``benchmarks/results`` can still be drawn: their form is that of the code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import durability, engine_report, peers, service, soak
from tests.support.paths import ROOT

RESULTS = ROOT / "benchmarks/results"
Plot = Callable[[dict[str, Any], Path], None]


@pytest.mark.parametrize(
    ("name", "plot"),
    [
        ("durability", durability.plot),
        ("engine", engine_report.plot),
        ("peers", peers.plot),
        ("service", service.plot),
        ("soak", soak.plot),
    ],
)
def test_kept_results_can_be_drawn(name: str, plot: Plot, tmp_path: Path) -> None:
    plot(json.loads((RESULTS / f"{name}.json").read_text()), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
