"""What a run comes to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.long.faults.clients import Acknowledgements
from tests.long.faults.report import plot, print_results, summary
from tests.long.faults.schedule import Kind
from tests.long.faults.script import Occurred
from tests.long.faults.tally import Tally

SETTINGS = {"store": "memory", "clients": 1, "replicas": 2, "seed": 1}


def acknowledged(count: int) -> tuple[Tally, Acknowledgements]:
    tally, acknowledgements = Tally(acknowledged=count), Acknowledgements()
    acknowledgements.times_s = [100.0 + index / 10 for index in range(count)]
    acknowledgements.waits_s = [0.01] * (count - 1) + [1.5]
    return tally, acknowledgements


def test_recoveries_count_from_when_the_fault_was_over() -> None:
    tally, acknowledgements = acknowledged(50)
    occurred = [
        Occurred(Kind.kill_replica, 0, 101.0, 101.5, 102.5, 7),
        Occurred(Kind.kill_replica, 1, 103.0, 103.0, 103.2, 3),
    ]
    results = summary(SETTINGS, tally, acknowledgements, occurred, quick=True)
    assert results["recovery_s"]["max"] == pytest.approx(1.0)
    assert results["recovery_by_kind"]["kill a replica"]["errors"] == 10
    assert results["passed"]
    assert sum(results["timeline"]["acknowledged"]) == 50
    assert results["wait_of_a_chunk_s"]["max"] == 1.5
    json.dumps(results)


def test_a_violation_or_a_path_that_stays_down_fails_the_run() -> None:
    tally, acknowledgements = acknowledged(5)
    down = Occurred(Kind.pause_store, None, 100.1, 100.2, None, 1)
    results = summary(SETTINGS, tally, acknowledgements, [down], quick=True)
    assert results["missing"] == ["1 of 1 faults without a recovery"]
    assert not results["passed"]
    tally.lost = 1
    assert not summary(SETTINGS, tally, acknowledgements, [], quick=True)["passed"]


def test_a_whole_run_needs_enough_of_all_and_quick_recoveries() -> None:
    def missing(chunks: int = 10_000, faults: int = 50, recovery_s: float = 1.9, *, quick: bool = False) -> list[str]:
        tally, acknowledgements = acknowledged(10)
        tally.acknowledged = chunks
        occurred = [Occurred(Kind.kill_replica, 0, 101.0, 101.5, 101.5 + recovery_s, 7)] * faults
        results = summary(SETTINGS, tally, acknowledgements, occurred, quick=quick)
        assert results["passed"] == (not results["missing"])
        words: list[str] = results["missing"]
        return words

    assert missing() == []
    assert missing(chunks=9_999) == ["9,999 chunks acknowledged, fewer than 10,000"]
    assert missing(faults=49) == ["49 faults, fewer than 50"]
    assert missing(recovery_s=2.0) == ["a recovery took 2.00 s, not less than 2"]
    assert len(missing(0, 0)) == 2
    assert missing(100, 2, 5.0, quick=True) == []


@pytest.mark.long
def test_it_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally, acknowledgements = acknowledged(50)
    tally.errors["no connection"] = 3
    occurred = [Occurred(kind, 0, 100.5 + n, 100.6 + n, 100.9 + n, n) for n, kind in enumerate(list(Kind)[:4])]
    results = summary(SETTINGS, tally, acknowledgements, occurred, quick=False)
    print_results(results)
    printed = capsys.readouterr().out
    assert "lost 0, applied twice 0, other answers 0" in printed
    assert "NOT PASSED: 4 faults, fewer than 50" in printed
    plot(results, tmp_path / "faults.png")
    assert (tmp_path / "faults.png").stat().st_size > 10_000
