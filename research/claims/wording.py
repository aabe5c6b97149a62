"""Numbers of the report as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from research.claims.measures import Unit, scored, unscored
from research.claims.statistics import Interval

DIGITS: dict[Unit, int] = {"updates": 0, "mse": 4}  # after the point; of others one


def interval_text(interval: Interval, unit: Unit) -> str:
    """A difference with its interval; of logarithms as a factor."""
    if math.isinf(interval.low):
        return "no spread between seeds"
    ends = (interval.estimate, interval.low, interval.high)
    if unit in ("error", "factor"):
        middle, low, high = (three_digits(math.exp(end)) for end in ends)
        return f"x {middle} ({low} to {high})"
    middle, low, high = (f"{end:+.{DIGITS.get(unit, 1)}f}" for end in ends)
    return f"{middle} ({low} to {high})"


def found_text(difference: float, unit: Unit) -> str:
    """The smallest difference that is found; of logarithms as a factor."""
    if math.isinf(difference):
        return "unknown"
    if unit in ("error", "factor"):
        return f"x {three_digits(math.exp(difference))}"
    digits = DIGITS.get(unit, 1)
    text = f"{difference:.{digits}f}"
    return text if float(text) else f"below {10**-digits:g}"


def mean_text(over: Interval, goal: float, unit: Unit) -> str:
    """A mean with its interval; of logarithms it is the geometric mean.

    Args:
        over: the interval of the score over the goal's.
        goal: of the rule.
        unit: of the score.
    """
    if math.isinf(over.low):
        return "no spread between seeds"
    ends = sorted(unscored(end + scored(goal, unit), unit) for end in (over.low, over.high))
    if unit in ("points", "share"):  # Student's interval does not know that there is no more than all
        ends = [min(max(end, 0.0), 100.0) for end in ends]
    numbers = (unscored(over.estimate + scored(goal, unit), unit), *ends)
    middle, low, high = (f"{value:.1f}%" if unit in ("points", "share") else three_digits(value) for value in numbers)
    return f"{middle} ({low} to {high})"


def odds_text(interval: Interval) -> str:
    """An odds ratio with its interval."""
    return f"{three_digits(interval.estimate)} ({three_digits(interval.low)} to {three_digits(interval.high)})"


def three_digits(value: float) -> str:
    """Three digits, without an exponent for what people can read."""
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(metric: str, values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds, or the one seed's value.

    Args:
        metric: accuracy is shown in percent, a factor with two digits, an error with four.
        values: of the seeds.
    """
    factor, digits, unit = {"accuracy": (100, 1, "%"), "factor": (1, 2, "")}.get(metric, (1, 4, ""))
    deviation = f" ± {factor * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{factor * fmean(values):.{digits}f}{deviation}{unit}"


def number(metric: str, value: float) -> str:
    """A figure as text: accuracy, in [0, 1], in percent; an error as it is."""
    return f"{100 * value:.1f}%" if metric == "accuracy" else f"{value:.4f}"
