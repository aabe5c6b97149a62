"""The ramp finds what a server holds, whatever it starts from."""

from __future__ import annotations

import pytest

from benchmarks.ramp import held, next_streams


def climb(holds: int, start: int, tolerance: float) -> tuple[int, int]:
    """What the ramp finds of a server that holds so many streams, and how many numbers it tries."""
    p99_ms: dict[int, float] = {}
    while (streams := next_streams(p99_ms, 100.0, start, tolerance)) is not None:
        assert streams not in p99_ms
        p99_ms[streams] = 10.0 if streams <= holds else float("inf")
    return held(p99_ms, 100.0), len(p99_ms)


@pytest.mark.parametrize("holds", [0, 1, 2, 7, 60, 523, 1000])
@pytest.mark.parametrize("start", [0, 1, 60, 700])
def test_it_finds_the_largest_number_that_holds(holds: int, start: int) -> None:
    found, trials = climb(holds, start, 0.05)
    assert found <= holds
    assert holds - found <= max(1, 0.06 * holds)
    assert trials < 40


def test_it_tries_few_numbers_from_a_good_start() -> None:
    assert climb(60, 50, 0.05)[1] <= 5


def test_a_number_above_one_that_fails_does_not_count() -> None:
    """p99 is noisy: 50 may hold though 40 did not."""
    assert held({30: 20.0, 40: 120.0, 50: 90.0}, 100.0) == 30


def test_trials_of_one_limit_serve_another() -> None:
    p99_ms = {40: 20.0, 50: 70.0, 60: 130.0}
    assert held(p99_ms, 100.0) == 50
    assert held(p99_ms, 50.0) == 40
    assert next_streams(p99_ms, 50.0, 0, 0.05) == 45
