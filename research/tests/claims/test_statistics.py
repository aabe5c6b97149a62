"""The statistics against scipy's own tests, published numbers and what has to hold for any numbers."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from research.claims.statistics import (
    Interval,
    fisher_test,
    found_difference,
    found_rate,
    holm,
    odds_interval,
    rate_interval,
    runs_for_rates,
    seeds_for_difference,
    seeds_for_equivalence,
    signed_rank_test,
    t_interval,
    t_test,
)

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)
DIFFERENCES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=3, max_size=12)
COUNTS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda runs: st.tuples(st.integers(0, runs[0]), st.just(runs[0]), st.integers(0, runs[1]), st.just(runs[1]))
)
# Student's own data of 1908: hours of sleep gained with one drug over the other, by patient
SLEEP = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)


def test_students_sleep_data_have_students_interval() -> None:
    interval = t_interval(SLEEP)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((1.58, 0.7001142, 2.4598858), abs=1e-6)
    assert t_test(SLEEP) == pytest.approx(0.002832890)
    assert not interval.above(0.8)
    assert interval.above(0.7)
    assert interval.below(2.5)
    assert interval.within(2.5)
    assert not interval.within(2.0)


@given(DIFFERENCES, st.floats(0.5, 0.999))
def test_t_is_that_of_scipy(values: list[float], level: float) -> None:
    if np.std(values) < 1e-6:
        return
    expected = stats.ttest_1samp(values, 0.0)
    ends = expected.confidence_interval(level)
    interval = t_interval(values, level)
    assert (interval.low, interval.high) == pytest.approx((float(ends.low), float(ends.high)), rel=1e-6, abs=1e-6)
    assert t_test(values) == pytest.approx(float(expected.pvalue), rel=1e-6, abs=1e-12)


@given(DIFFERENCES, st.floats(0, 5), st.randoms())
def test_the_order_of_the_seeds_changes_no_bit(values: list[float], resolution: float, shuffler: random.Random) -> None:
    shuffled = list(values)
    shuffler.shuffle(shuffled)
    assert t_interval(values, 0.9, resolution) == t_interval(shuffled, 0.9, resolution)
    assert t_test(values, resolution) == t_test(shuffled, resolution)


def test_runs_that_do_not_differ_say_nothing_unless_their_resolution_does() -> None:
    equal = (0.25, 0.25, 0.25)
    assert t_interval(equal) == Interval(0.25, -math.inf, math.inf, 0.95)
    assert t_test(equal) == 1.0
    interval = t_interval(equal, resolution=0.1)  # 4.302653 is t of two degrees of freedom
    assert interval.high - interval.estimate == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)


@given(DIFFERENCES, st.floats(0.01, 50))
def test_an_interval_of_90_percent_within_a_margin_is_two_tests_of_scipy(values: list[float], margin: float) -> None:
    if np.std(values) < 1e-6:
        return
    expected = max(
        float(stats.ttest_1samp(values, -margin, alternative="greater").pvalue),
        float(stats.ttest_1samp(values, margin, alternative="less").pvalue),
    )
    if abs(expected - 0.05) > 1e-9:
        assert t_interval(values, 0.9).within(margin) == (expected < 0.05)


def test_holm_by_hand() -> None:
    # 0.01 <= 0.05 / 4, 0.005 <= ..., then 0.03 > 0.05 / 2 stops, and 0.04 fails with it although 0.04 <= 0.05
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    assert holm([0.02]) == [0.05]
    assert holm([]) == []


@given(P_VALUES, st.data())
def test_holm_is_monotone(p_values: list[float], data: st.DataObject) -> None:
    rejected = [p <= alpha for p, alpha in zip(p_values, holm(p_values), strict=True)]
    for p, is_rejected in zip(p_values, rejected, strict=True):  # whoever rejects a p rejects the smaller ones
        assert not is_rejected or all(other for q, other in zip(p_values, rejected, strict=True) if q <= p)
    index = data.draw(st.integers(0, len(p_values) - 1))
    smaller = list(p_values)
    smaller[index] = data.draw(st.floats(0, p_values[index]))
    after = [p <= alpha for p, alpha in zip(smaller, holm(smaller), strict=True)]
    assert all(now for before, now in zip(rejected, after, strict=True) if before)  # a smaller p undoes nothing
    assert all(0.05 / len(p_values) <= alpha <= 0.05 for alpha in holm(p_values))
    bonferroni = [p <= 0.05 / len(p_values) for p in p_values]
    assert all(holms for bonferronis, holms in zip(bonferroni, rejected, strict=True) if bonferronis)


@given(P_VALUES)
def test_holm_rejects_what_its_adjusted_p_values_do(p_values: list[float]) -> None:
    largest, left, adjusted = 0.0, len(p_values), {}
    for index in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        largest = max(largest, p_values[index] * left)
        adjusted[index], left = largest, left - 1
    for index, alpha in enumerate(holm(p_values)):
        if abs(adjusted[index] - 0.05) > 1e-12:
            assert (p_values[index] <= alpha) == (adjusted[index] <= 0.05)


def test_fishers_tea_tasting() -> None:
    # the lady names 3 of 4 cups: one-sided p 17 of 70; all 4: 1 of 70
    assert fisher_test(3, 4, 1, 4) == pytest.approx(2 * 17 / 70)
    assert fisher_test(4, 4, 0, 4) == pytest.approx(2 / 70)
    assert fisher_test(2, 4, 2, 4) == 1.0
    assert fisher_test(4, 10, 0, 30) == pytest.approx(2 * 210 / 91390)  # C(10, 4) of C(40, 4)


def test_the_odds_of_the_tea_tasting() -> None:
    def tail(odds: float, named: range) -> float:
        """Chance of so many right cups: Fisher's noncentral hypergeometric distribution, C(4, k)^2 odds^k."""
        weights = [math.comb(4, k) ** 2 * odds**k for k in range(5)]
        return sum(weights[k] for k in named) / sum(weights)

    tea = odds_interval(3, 4, 1, 4)
    assert tail(tea.low, range(3, 5)) == pytest.approx(0.025, rel=1e-3)
    assert tail(tea.high, range(4)) == pytest.approx(0.025, rel=1e-3)
    assert sum(k * tail(tea.estimate, range(k, k + 1)) for k in range(5)) == pytest.approx(3.0, rel=1e-3)
    assert odds_interval(4, 4, 4, 4) == Interval(1.0, 0.0, math.inf, 0.95)


@given(COUNTS, st.sampled_from((0.9, 0.95, 1 - 0.05 / 3)))
@settings(deadline=None)
def test_the_odds_interval_shows_what_fishers_test_finds(table: tuple[int, int, int, int], level: float) -> None:
    interval, p = odds_interval(*table, level=level), fisher_test(*table)
    if abs(p - (1 - level)) > 1e-6:
        assert (interval.above(1) or interval.below(1)) == (p < 1 - level)
    assert interval.low <= interval.estimate <= interval.high
    swapped = odds_interval(table[2], table[3], table[0], table[1], level)
    assert interval.above(1) == swapped.below(1)


def test_wilsons_interval() -> None:
    assert (rate_interval(3, 3).low, rate_interval(3, 3).high) == pytest.approx((0.438503, 1.0), abs=1e-6)
    assert (rate_interval(0, 10).low, rate_interval(0, 10).high) == pytest.approx((0.0, 0.277533), abs=1e-6)


def test_seeds_for_a_difference_are_the_published_ones() -> None:
    # Cohen's effects of a paired t test at 5%, two-sided, 80% power (G*Power): 0.2, 0.5, 0.8
    assert [seeds_for_difference(effect, 1.0, 0.05) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert seeds_for_difference(-0.5, 1.0, 0.05) == 34
    assert seeds_for_difference(5.0, 10.0, 0.05) == 34
    assert seeds_for_difference(0.5, 1.0, 0.05 / 3) > 34  # type: ignore[operator]
    assert seeds_for_difference(0.01, 1.0, 0.05) is None
    assert seeds_for_difference(0.0, 1.0, 0.05) is None


def test_so_many_seeds_have_80_percent_power() -> None:
    rng = np.random.default_rng(0)
    found = np.array([t_test(list(rng.normal(0.8, 1.0, 15))) <= 0.05 for _ in range(1000)])
    assert found.mean() == pytest.approx(0.82, abs=0.04)


def test_so_many_seeds_show_equivalence() -> None:
    seeds = seeds_for_equivalence(0.1, 1.0, 1.0)
    assert seeds is not None
    rng = np.random.default_rng(0)
    found = np.array([t_interval(list(rng.normal(0.1, 1.0, seeds)), 0.9).within(1.0) for _ in range(1000)])
    assert 0.76 < found.mean() < 0.88
    assert seeds_for_equivalence(0.1, 1.0, 0.5) > seeds  # type: ignore[operator]
    assert seeds_for_equivalence(1.0, 0.1, 1.0) is None


def test_so_many_runs_have_80_percent_power() -> None:
    assert runs_for_rates(1.0, 0.0, 0.05) == 4  # 3 against 3 has p = 0.1
    assert runs_for_rates(0.5, 0.5, 0.05) is None
    runs = runs_for_rates(0.4, 0.0, 0.05)
    assert runs is not None
    powers = [
        sum(float(stats.binom.pmf(k, n, 0.4)) for k in range(n + 1) if fisher_test(k, n, 0, n) <= 0.05)
        for n in (runs - 1, runs)
    ]
    assert powers[0] < 0.8 <= powers[1]
    assert runs_for_rates(0.0, 0.4, 0.05) == runs


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
def test_what_so_many_seeds_find_needs_so_many_seeds(alpha: float) -> None:
    for seeds in (3, 10, 35, 200):
        difference = found_difference(seeds, 2.0, alpha)
        assert seeds_for_difference(1.0001 * difference, 2.0, alpha) == seeds
        assert seeds_for_difference(0.9999 * difference, 2.0, alpha) == seeds + 1
    assert found_difference(10, 0.0, alpha) == math.inf


def test_the_rate_that_so_many_runs_tell_from_another() -> None:
    rate = found_rate(1.0, 35, 35, 0.05 / 3)
    assert rate is not None
    assert runs_for_rates(1.0, rate, 0.05 / 3) <= 35 < runs_for_rates(1.0, rate + 0.01, 0.05 / 3)  # type: ignore[operator]
    fewer = found_rate(1.0, 35, 10, 0.05 / 3)
    assert fewer is not None
    assert fewer < rate
    assert found_rate(0.1, 35, 35, 0.05) is None, "not even a rate of 0"
    assert found_rate(0.0, 35, 35, 0.05) is None


def test_four_looks_find_an_effect_that_is_none_in_16_percent() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(2000, 454))
    found = [any(t_test(row[:seeds].tolist()) < 0.05 for seeds in (10, 46, 192, 454)) for row in drawn]
    assert np.mean(found) == pytest.approx(0.16, abs=0.015)  # what the page says of a claim that was extended so


def test_signed_ranks_give_no_value_more_weight_than_its_rank() -> None:
    values = [0.1, 0.2, -0.05, 0.3, 0.15, 0.25]
    assert signed_rank_test(values) == pytest.approx(2 / 64 * 2)  # of 64 signs, two sums are as far from the middle
    assert signed_rank_test([*values[:-2], 0.15, 99.0]) == signed_rank_test([*values[:-2], 0.15, 0.35])
    assert signed_rank_test([0.0, 0.0]) == 1.0
