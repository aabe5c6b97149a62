"""What the service benchmark makes of its rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.contenders import dict_server, empty, ours
from benchmarks.load import Figures, typical
from benchmarks.service import plot, summary

CONTENDERS = [ours("bank"), dict_server(Path("step.onnx")), empty()]


def one_round(streams: int, chunks_per_s: float, cpu_ms: float, others_cores: float = 0.0) -> dict[str, Any]:
    figures = {
        "chunks_per_s": chunks_per_s,
        "p50_ms": 5.0,
        "p99_ms": 20.0,
        "cpu_ms": cpu_ms,
        "others_cores": others_cores,
    }
    trials = [{"streams": n, "p99_ms": p99} for n, p99 in ((streams, 30.0), (2 * streams, 300.0))]
    return {
        "closed": {"16": figures, "64": figures},
        "streams": {"50": streams, "100": streams + 10},
        "trials": trials,
    }


@pytest.fixture
def results() -> dict[str, Any]:
    rounds = {
        "ours-bank": [
            one_round(300, 3000.0, 0.5),
            one_round(290, 2900.0, 0.5),
            one_round(280, 900.0, 0.7, others_cores=1.2),
        ],
        "dict": [one_round(20, 250.0, 5.0)] * 3,
        "empty": [one_round(900, 6000.0, 0.1)] * 3,
    }
    return summary(CONTENDERS, rounds)


def test_medians_and_ratios(results: dict[str, Any]) -> None:
    assert results["servers"]["ours-bank"]["streams"] == {"50": 290, "100": 300}
    assert results["servers"]["ours-bank"]["closed"]["16"]["chunks_per_s"] == 2950.0  # of two rounds: one was disturbed
    ratios = results["ratios"]
    assert ratios["streams with p99 under 100 ms, ours / dict"] == 10.0
    assert ratios["chunks a second at concurrency 16, ours / dict"] == pytest.approx(11.8)
    assert ratios["chunks a second at concurrency 64, ours / empty"] == pytest.approx(2950 / 6000)
    assert ratios["CPU time a chunk at concurrency 16, dict / ours"] == 10.0


def test_where_all_rounds_are_disturbed_the_quietest_counts() -> None:
    rounds = [Figures(speed, 5.0, 20.0, 1.0, cores) for speed, cores in ((100.0, 1.5), (300.0, 0.4), (200.0, 1.0))]
    assert typical(rounds) == rounds[1]


def test_the_plot(results: dict[str, Any], tmp_path: Path) -> None:
    plot(results, tmp_path / "results/service.png")
    assert (tmp_path / "results/service.png").stat().st_size > 10_000
