"""The expected time of a batch: learnt from noisy batches, never stuck."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batching.estimates import CostLine

COSTS = st.tuples(st.floats(0, 1e-3), st.floats(1e-7, 1e-3), st.floats(0, 1)).map(lambda c: (c[0], c[1], c[1] * c[2]))
"""Of a network: seconds of a batch, of a step, and of a spike, which is no dearer."""
BATCH = st.tuples(st.integers(1, 5_000), st.integers(0, 100_000))
"""Steps and spikes."""


def taken_s(costs: tuple[float, float, float], steps: int, events: int) -> float:
    fixed_s, step_s, event_s = costs
    return fixed_s + steps * step_s + events * event_s


def test_what_has_not_run_has_no_estimate() -> None:
    assert CostLine().seconds(1, 0) == inf


@given(COSTS, BATCH, BATCH)
def test_a_larger_batch_than_the_first_one_is_not_underestimated(
    costs: tuple[float, float, float], first: tuple[int, int], more: tuple[int, int]
) -> None:
    line = CostLine()
    line.observe(*first, taken_s(costs, *first))
    larger = first[0] + more[0], first[1] + more[1]
    assert line.seconds(*larger) >= taken_s(costs, *larger) * (1 - 1e-9)


@given(BATCH, st.floats(1e-6, 10.0), st.floats(1e-5, 1.0))
def test_whatever_the_first_one_was_measured_as_is_forgotten(
    batch: tuple[int, int], first_s: float, seconds: float
) -> None:
    line = CostLine()
    line.observe(*batch, first_s)
    for _ in range(80):
        line.observe(*batch, seconds)
    assert line.seconds(*batch) == pytest.approx(seconds, rel=0.01)


@pytest.mark.parametrize("first_s", [1e-6, 75e-6, 12e-3, 1.0])
def test_batches_of_several_sizes_are_told_apart(first_s: float) -> None:
    line, costs = CostLine(), (3e-5, 5e-7, 5e-8)
    kinds = [(26, 900), (416, 14_000), (416, 0), (1_001, 300_000)]
    line.observe(*kinds[0], first_s)
    for _ in range(50):
        for kind in kinds:
            line.observe(*kind, taken_s(costs, *kind))
    for kind in kinds:
        assert line.seconds(*kind) == pytest.approx(taken_s(costs, *kind), rel=0.3)


def known(seconds: float) -> CostLine:
    line = CostLine()
    for _ in range(30):
        line.observe(100, 1_000, seconds)
    return line


def test_a_hiccup_adds_a_quarter_at_most() -> None:
    line = known(1e-3)
    line.observe(100, 1_000, 1.0)
    assert line.seconds(100, 1_000) == pytest.approx(1.25e-3, rel=0.01)


def test_a_real_change_is_learnt_in_tens_of_batches() -> None:
    line = known(1e-3)
    for seconds in (8e-3, 1e-3):
        for _ in range(20):
            line.observe(100, 1_000, seconds)
        assert line.seconds(100, 1_000) == pytest.approx(seconds, rel=0.1)


def test_batches_that_take_no_time_by_a_coarse_clock_do_no_harm() -> None:
    line = known(0.0)
    assert 0 < line.seconds(100, 1_000) < 1e-5
    for _ in range(40):
        line.observe(100, 1_000, 1e-3)
    assert line.seconds(100, 1_000) == pytest.approx(1e-3, rel=0.1)
