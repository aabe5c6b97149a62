"""What the comparison of two checkouts makes of its rounds, and which checkouts it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.compare import ALL, Checkout, Round, summary
from benchmarks.load import Figures
from tests.support.paths import ROOT

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
    case = results["cases"][CASE]
    assert case["throughput"]["median"] == pytest.approx(1.1)
    assert case["this"]["chunks_per_s"] == 600
    assert results["ratios"][f"chunks a second, this / other, {CASE}"] == pytest.approx(1.1)
    assert results["ratios"][f"CPU time a chunk, other / this, {CASE}"] == pytest.approx(1.0)
    assert results["ratios"][ALL] == pytest.approx(1.1)
    assert results["passed"]
    assert json.loads(json.dumps(results))["rounds"][1][CASE]["this"]["chunks_per_s"] == 600


def test_disturbed_rounds_do_not_count_among_quiet_ones() -> None:
    quiet = [one_round(1000, 1000)] * 3
    disturbed = [one_round(100, 1000, others_cores=1.0)] * 4
    results = summary(quiet + disturbed)
    assert results["cases"][CASE]["rounds"] == 3
    assert results["passed"]


@pytest.mark.parametrize(("others_cores", "is_judged", "passed"), [(0.0, True, False), (1.0, False, True)])
def test_a_low_throughput_fails_unless_others_may_have_caused_it(
    others_cores: float, is_judged: bool, passed: bool
) -> None:
    results = summary([one_round(960, 1000, others_cores=others_cores)] * 3)
    assert results["cases"][CASE]["is_throughput_judged"] == is_judged
    assert results["passed"] == passed


def test_more_cpu_time_fails_on_any_machine() -> None:
    assert not summary([one_round(1000, 1000, this_cpu_ms=0.21, others_cores=1.0)])["passed"]


def test_a_checkout_without_an_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make install"):
        Checkout.at(tmp_path)


def test_an_environment_that_runs_other_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="not the one in"):
        Checkout(tmp_path, Path(sys.executable)).checked()


def test_this_checkout_is_described() -> None:
    described = Checkout(ROOT, Path(sys.executable)).checked().described()
    assert described["python"] == ".".join(map(str, sys.version_info[:3]))
    assert isinstance(described["has_native_operator"], bool)
