"""Intervals, tests and power: pure functions of numbers; ``verdicts.py`` applies them to results.

A difference is taken seed by seed, and its interval is Student's. Success rates have Fisher's exact test, with the odds
ratio's interval that belongs to it. Several comparisons of one claim share their error by Holm's procedure. No result
depends on the order of the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev

import numpy as np
from scipy import optimize, stats

ALPHA = 0.05
POWER = 0.8
MOST_RUNS = 1000  # the search for a power stops here
MOST_FISHER_RUNS = 200  # each number of runs has a table of its square
RUNS_AT_CEILING = 35  # all successful: Wilson's interval of their rate begins above 90%


@dataclass(frozen=True)
class Interval:
    """An interval of confidence.

    Attributes:
        estimate: mean difference, or odds ratio.
        low: lower end.
        high: upper end.
        level: of confidence, in [0, 1].
    """

    estimate: float
    low: float
    high: float
    level: float

    def above(self, value: float) -> bool:
        return self.low > value

    def below(self, value: float) -> bool:
        return self.high < value

    def within(self, margin: float) -> bool:
        return -margin < self.low and self.high < margin


def deviation(values: Sequence[float], resolution: float = 0.0) -> float:
    """Standard deviation of the values, and at least the resolution of one value."""
    return max(stdev(values), resolution)


def t_interval(values: Sequence[float], level: float = 1 - ALPHA, resolution: float = 0.0) -> Interval:
    """Student's interval of the mean.

    Args:
        values: one a seed, at least two.
        level: of confidence.
        resolution: the smallest standard deviation to believe. Three runs of 100% differ by nothing, but each was
            tested on so many streams only.

    Returns:
        The interval; without ends if neither the values nor the resolution say how much seeds differ.
    """
    mean, spread = fmean(values), deviation(values, resolution)
    if not spread > 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, -math.inf, math.inf, level)
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half, level)


def t_test(values: Sequence[float], resolution: float = 0.0) -> float:
    """Two-sided p of a mean of zero; 1 if nothing says how much seeds differ. Arguments as of :func:`t_interval`."""
    mean, spread = fmean(values), deviation(values, resolution)
    if not spread > 1e-12 * max(1.0, abs(mean)):
        return 1.0
    return float(2 * stats.t.sf(abs(mean) / spread * math.sqrt(len(values)), len(values) - 1))


def signed_rank_test(values: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed ranks: no value weighs more than its rank; 1 if all are zero."""
    return float(stats.wilcoxon(values).pvalue) if any(values) else 1.0


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> list[float]:
    """The alpha at which Holm's procedure judges each comparison.

    The smallest p is compared with alpha / m, the next with alpha / (m - 1), and so on. After the first that fails,
    the rest is judged at its alpha and fails too. So p <= alpha of a comparison means that Holm rejects, and an
    interval of level 1 - alpha shows the same.
    """
    alphas = [0.0] * len(p_values)
    left, stopped = len(p_values), False
    for index in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        alphas[index] = alpha / left
        stopped = stopped or p_values[index] > alpha / left
        left -= not stopped
    return alphas


def fisher_test(successes: int, runs: int, other_successes: int, other_runs: int) -> float:
    """Two-sided p of equal success rates: twice the smaller one-sided p of Fisher's exact test."""
    table = [[successes, runs - successes], [other_successes, other_runs - other_successes]]
    sides = (float(stats.fisher_exact(table, alternative).pvalue) for alternative in ("less", "greater"))
    return min(1.0, 2 * min(sides))


def odds_interval(
    successes: int, runs: int, other_successes: int, other_runs: int, level: float = 1 - ALPHA
) -> Interval:
    """The exact conditional interval of the odds ratio; it excludes 1 where :func:`fisher_test` is below 1 - level."""
    table = [[successes, runs - successes], [other_successes, other_runs - other_successes]]
    if successes + other_successes in (0, runs + other_runs):
        return Interval(1.0, 0.0, math.inf, level)
    ratio = stats.contingency.odds_ratio(table, kind="conditional")
    ends = ratio.confidence_interval(level)
    return Interval(float(ratio.statistic), float(ends.low), float(ends.high), level)


def rate_interval(successes: int, runs: int) -> Interval:
    """Wilson's 95% interval of a success rate."""
    ends = stats.binomtest(successes, runs).proportion_ci(1 - ALPHA, "wilson")
    return Interval(successes / runs, float(ends.low), float(ends.high), 1 - ALPHA)


def seeds_for_difference(effect: float, spread: float, alpha: float) -> int | None:
    """Seeds with which a t test finds a mean difference, in its direction, with 80% power.

    Args:
        effect: the mean difference.
        spread: the standard deviation of the differences.
        alpha: of the two-sided test.

    Returns:
        The number; None above MOST_RUNS, or where there is no effect or no spread.
    """
    if effect == 0 or not spread > 0:
        return None
    return _fewest(lambda seeds: _t_power(abs(effect) / spread, seeds, alpha), MOST_RUNS)


def found_difference(seeds: int, spread: float, alpha: float) -> float:
    """The mean difference that a t test of so many seeds finds, in its direction, with 80% power.

    Args:
        seeds: at least two.
        spread: the standard deviation of the differences.
        alpha: of the two-sided test.

    Returns:
        The difference; infinite where nothing says how much seeds differ.
    """
    if not spread > 0:
        return math.inf
    high = 1.0
    while _t_power(high, seeds, alpha) < POWER:
        high *= 2
    return spread * float(optimize.brentq(lambda effect: _t_power(effect, seeds, alpha) - POWER, 0.0, high))


def _t_power(effect: float, seeds: int, alpha: float) -> float:
    """The power of a t test for an effect in standard deviations, in its direction."""
    critical = stats.t.ppf(1 - alpha / 2, seeds - 1)
    return float(stats.nct.sf(critical, seeds - 1, effect * math.sqrt(seeds)))


def seeds_for_equivalence(effect: float, spread: float, margin: float, alpha: float = ALPHA) -> int | None:
    """Seeds with which two one-sided t tests show equivalence with 80% power; arguments and None as above."""
    if abs(effect) >= margin or not spread > 0:
        return None

    def power(seeds: int) -> float:
        critical = stats.t.ppf(1 - alpha, seeds - 1)
        rejected = (
            float(stats.nct.sf(critical, seeds - 1, room / spread * math.sqrt(seeds)))
            for room in (margin - effect, margin + effect)
        )
        return sum(rejected) - 1  # Bonferroni's lower bound of both

    return _fewest(power, MOST_RUNS)


@lru_cache
def runs_for_rates(rate: float, other_rate: float, alpha: float) -> int | None:
    """Runs of each group with which Fisher's test finds two success rates different with 80% power; None as above."""
    if rate == other_rate:
        return None
    high, low = max(rate, other_rate), min(rate, other_rate)
    return _fewest(lambda runs: _fisher_power(high, low, runs, runs, alpha), MOST_FISHER_RUNS)


@lru_cache
def found_rate(rate: float, runs: int, other_runs: int, alpha: float) -> float | None:
    """The highest lower success rate that Fisher's test tells from a rate with 80% power, in whole percent.

    None where even a rate of 0 is not told from it.
    """
    below = range(math.ceil(100 * rate))
    return next(
        (low / 100 for low in reversed(below) if _fisher_power(rate, low / 100, runs, other_runs, alpha) >= POWER), None
    )


def _fisher_power(high: float, low: float, runs: int, other_runs: int, alpha: float) -> float:
    """The power of Fisher's test to find the higher rate higher."""
    counts, others = np.arange(runs + 1), np.arange(other_runs + 1)
    more, fewer = counts[:, None], others[None, :]
    p = stats.hypergeom.sf(more - 1, runs + other_runs, more + fewer, runs)
    likely = stats.binom.pmf(counts, runs, high)[:, None] * stats.binom.pmf(others, other_runs, low)[None, :]
    return float(likely[2 * p <= alpha].sum())


def _fewest(power: Callable[[int], float], most: int) -> int | None:
    """The fewest runs, at least two, whose power is enough; power grows with the runs."""
    low, high = 1, 2
    while power(high) < POWER:
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if power(middle) < POWER:
            low = middle
        else:
            high = middle
    return high
