"""Ratios of the engine benchmark."""

from __future__ import annotations

from benchmarks.engine_cost import BANK, BANK_OTHER, EXACT, EXACT_OTHER
from benchmarks.engine_report import speed_of_the_other_build


def test_the_other_builds_speed_is_over_the_installed_ones() -> None:
    taken = {EXACT: (30.0, 20.0), EXACT_OTHER: (15.0, 40.0), BANK: (2.0, 1.0), BANK_OTHER: (2.0, 4.0)}
    cells = [
        {"workload": "SHD", "batch": batch, "steps": 10, "implementation": name, "microseconds": microseconds}
        for name, times in taken.items()
        for batch, microseconds in zip((1, 32), times, strict=True)
    ]
    assert speed_of_the_other_build(cells) == {
        "SHD; batch 1, 10 steps; exact": 2.0,
        "SHD; batch 32, 10 steps; exact": 0.5,
        "geometric mean; exact": 1.0,
        "SHD; batch 1, 10 steps; bank": 1.0,
        "SHD; batch 32, 10 steps; bank": 0.25,
        "geometric mean; bank": 0.5,
    }
