"""What the comparison of two checkouts makes of its rounds, and which checkout it refuses."""

from __future__ import annotations

import pytest

from benchmarks.compare import ALL, Round, summary
from benchmarks.load.load import Figures

CASE = "speech-digits, concurrency 16"


def one_round(this: float, other: float, *, this_cpu_ms: float = 0.2, others_cores: float = 0.0) -> Round:
    return {
        CASE: {
            "this": Figures(this, 5.0, 20.0, this_cpu_ms, others_cores),
            "other": Figures(other, 5.0, 20.0, 0.2, others_cores),
        }
    }


def test_ratios_are_taken_within_a_round() -> None:
    results = summary([one_round(1000, 1000), one_round(600, 500), one_round(330, 300)])
    assert results["ratios"] == {
        f"chunks a second, this / other, {CASE}": pytest.approx(1.1),
        f"CPU time a chunk, other / this, {CASE}": pytest.approx(1.0),
        ALL: pytest.approx(1.1),
    }
    assert results["passed"]


@pytest.mark.parametrize(("others_cores", "passed"), [(0.0, False), (1.0, True)])
def test_a_low_throughput_fails_unless_others_may_have_caused_it(others_cores: float, passed: bool) -> None:
    assert summary([one_round(960, 1000, others_cores=others_cores)] * 3)["passed"] == passed


def test_more_cpu_time_fails_on_any_machine() -> None:
    assert not summary([one_round(1000, 1000, this_cpu_ms=0.21, others_cores=1.0)])["passed"]
