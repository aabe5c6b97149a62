"""Upper estimates of a batch's time, and what has none."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from service.batching.cost import REMEMBERED, CostModel


def test_what_has_not_run_has_no_estimate() -> None:
    costs = CostModel()
    assert costs.expected_s("a", 10, 0) == inf
    assert costs.density("a") is None
    costs.observe("a", 10, 0, 0.01)
    assert costs.expected_s("a", 10, 0) == 0.01
    assert costs.expected_s("b", 10, 0) == inf


def test_a_density_that_has_not_run_has_no_estimate() -> None:
    costs = CostModel()
    costs.observe("a", 100, 10, 0.01)
    assert costs.expected_s("a", 100, 10) < inf
    assert costs.expected_s("a", 100, 1_000) == inf
    assert costs.expected_s("a", 100, 0) < inf  # of one class with a tenth of a spike a step


def test_one_hiccup_does_not_count_and_two_do() -> None:
    costs = CostModel()
    for seconds in (0.01, 0.01, 0.01, 0.5):
        costs.observe("a", 10, 0, seconds)
    assert costs.expected_s("a", 10, 0) == 0.01
    costs.observe("a", 10, 0, 0.4)
    assert costs.expected_s("a", 10, 0) == 0.4


def test_hiccups_are_forgotten() -> None:
    costs = CostModel()
    for seconds in (0.5, 0.5, *[0.01] * REMEMBERED):
        costs.observe("a", 10, 0, seconds)
    assert costs.expected_s("a", 10, 0) == 0.01


@given(
    fixed_s=st.floats(0, 1e-3),
    step_s=st.floats(1e-7, 1e-3),
    seen=st.lists(st.integers(1, 5_000), min_size=1, max_size=20),
    steps=st.integers(1, 20_000),
)
def test_a_size_that_has_not_run_is_not_underestimated(
    fixed_s: float, step_s: float, seen: list[int], steps: int
) -> None:
    """If a batch takes a fixed time and one for each step. A class of sizes is an octave wide."""
    costs = CostModel()
    for size in seen:
        costs.observe("a", size, 0, fixed_s + size * step_s)
    assert costs.expected_s("a", steps, 0) >= (fixed_s + steps * step_s) / 2 - 1e-12


def test_the_density_of_audio_is_an_upper_estimate() -> None:
    costs = CostModel()
    for density in (1.0, 3.0, 9.0, 2.0):
        costs.observe_density("a", density)
    assert costs.density("a") == 3.0


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=3, max_size=60))
def test_the_estimate_is_the_second_largest_of_the_latest_times(times_s: list[float]) -> None:
    costs = CostModel()
    for seconds in times_s:
        costs.observe("a", 1, 0, seconds)
    assert costs.expected_s("a", 1, 0) == sorted(times_s[-REMEMBERED:])[-2]
