"""Judge sentences: differences seed by seed, Student's intervals, Fisher's test, one p a sentence, Holm over a page.

A sentence holds if each of its comparisons does, so its p is the largest of theirs. It falls if one comparison shows no
advantage, so that p is the smallest, times their number. No result depends on the order of the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from research.worth.measures import MEASURES, Run, scored

ALPHA, POWER = 0.05, 0.8
LEAST_SEEDS = 3
SUCCESS = 0.9  # accuracy of a successful run, as in the paper
CEILING = 0.99  # where two sides are at least as accurate, a task cannot tell them apart
RUNS_AT_CEILING = 35  # all successful: Wilson's interval of their rate begins above 90%
MARGINS = {"points": 1.0, "error": math.log(1.1), "factor": math.log(1.1)}  # less is no advantage worth naming
SILENT = math.log(2)  # score of an output in the gaps below half of the target's
Groups = dict[tuple[str, str, str, bool], dict[int, Run]]
UNDEFINED, BEYOND = "undefined in the paper", "better than the paper"


class NoRuns(Exception):
    """A comparison has fewer than LEAST_SEEDS seeds that both sides share."""


class Side(NamedTuple):
    """Runs that differ in their seed alone, their measure, and a condition if the change since its runs is meant."""

    experiment: str
    condition: str
    model: str
    recurrent: bool = True
    measure: str = "figure"
    since: str = ""


@dataclass(frozen=True)
class Comparison:
    """The side that a sentence favours, and another one, or a goal (``low``), or a range (``low`` to ``high``).

    With another side a range is of the difference of the scores. ``definition`` is one of several of the measure.
    """

    label: str
    side: Side
    other: Side | None = None
    low: float = 0.0
    high: float | None = None
    by_successes: bool = False
    definition: str = ""


@dataclass(frozen=True)
class Sentence:
    """What the results judge; ``sentences.toml`` explains the options. ``place`` is the paper's, or empty."""

    id: str
    text: str
    comparisons: tuple[Comparison, ...]
    place: str = ""
    paper: str = ""
    has_floor: bool = False
    may_exceed: bool = False


@dataclass(frozen=True)
class Found:
    """The result of a comparison: the mean difference of the scores, with its 95% interval.

    Attributes:
        figures: the mean of each side.
        p: of the verdict that the difference points to: that the comparison holds, or that it does not.
        special: "ceiling", "floor" or empty.
        detectable: the smallest difference that this number of seeds finds with 80% power.
    """

    comparison: Comparison
    seeds: int
    figures: tuple[float, ...]
    unit: str
    difference: float
    low: float
    high: float
    p: float
    holds: bool
    special: str = ""
    detectable: float = math.nan


@dataclass(frozen=True)
class Judged:
    """A sentence with its verdict; ``p`` is Holm's."""

    sentence: Sentence
    found: tuple[Found, ...]
    p: float
    verdict: str

    @property
    def weakest(self) -> Found:
        """The comparison that decides: the largest p of those that hold, else the smallest of the others."""
        against = [one for one in self.found if not one.holds and not one.special]
        if against:
            return min(against, key=lambda one: one.p)
        return max([one for one in self.found if not one.special] or self.found, key=lambda one: one.p)


def grouped(results: pd.DataFrame) -> Groups:
    """Group runs that differ in their seed alone."""
    names = ["experiment", "condition", "model", "recurrent"]
    return {key: dict(group.droplevel(names).iterrows()) for key, group in results.groupby(level=names)}


def judge(sentences: Sequence[Sentence], groups: Groups) -> list[Judged]:
    """Judge all sentences of a page that have runs; they share an error of 5% by Holm's procedure."""
    found = []
    for sentence in sentences:
        try:
            found.append((sentence, tuple(compare(one, groups, sentence.has_floor) for one in sentence.comparisons)))
        except NoRuns:
            continue
    if not found:
        return []
    p_values = [sentence_p(each) for _, each in found]
    adjusted = multipletests(p_values, ALPHA, "holm")[1]
    return [
        Judged(sentence, each, float(p), verdict_of(sentence, each, float(p)))
        for (sentence, each), p in zip(found, adjusted, strict=True)
    ]


def sentence_p(found: Sequence[Found]) -> float:
    against = [one.p for one in found if not one.holds and not one.special]
    if against:
        return min(1.0, len(found) * min(against))
    if any(one.special for one in found):
        return 1.0  # neither supported nor contradicted
    return max(one.p for one in found)


def verdict_of(sentence: Sentence, found: Sequence[Found], p: float) -> str:
    """Choose the verdict on a sentence; ``p`` is that after Holm's procedure."""
    if turning(found):
        return UNDEFINED
    if any(not one.holds and not one.special for one in found):
        if p > ALPHA:
            return "inconclusive"
        exceeds = sentence.may_exceed and all(one.holds or one.difference > 0 for one in found)
        return BEYOND if exceeds else "contradicted"
    for special in ("floor", "ceiling"):
        if any(one.special == special for one in found):
            return special
    return "supported" if p <= ALPHA else "inconclusive"


def turning(found: Sequence[Found]) -> list[str]:
    """List the comparisons that one definition of the measure decides for a sentence, and another against it."""
    decided: dict[str, set[bool]] = {}
    for one in found:
        if one.comparison.definition and one.p <= ALPHA / len(found):
            decided.setdefault(one.comparison.label, set()).add(one.holds)
    return [label for label, ways in decided.items() if len(ways) == 2]


def compare(comparison: Comparison, groups: Groups, has_floor: bool = False) -> Found:
    """Compare two sides, or one with a goal.

    Raises:
        NoRuns: too few.
    """
    if comparison.by_successes:
        return _compare_successes(comparison, groups)
    sides = [side for side in (comparison.side, comparison.other) if side is not None]
    runs, scores, resolution = _shared(sides, groups, comparison.label)
    measure = MEASURES[comparison.side.measure]
    unit = measure.unit_of(runs[0][0])
    if comparison.other is None:
        low, high = scored(comparison.low, unit), comparison.high
        over = [value - low for value in scores[0]]
        room = None if high is None else scored(high, unit) - low
    else:
        over = [one - other - comparison.low for one, other in zip(*scores, strict=True)]
        room = None if comparison.high is None else comparison.high - comparison.low
    margin = 0.0 if comparison.other is None or comparison.side.since else MARGINS.get(unit, 0.0)
    holds, p_value = _outcome(over, room, margin, resolution)
    if room is not None and unit == "updates" and any(all(map(_is_never, pair)) for pair in zip(*runs, strict=True)):
        p_value = 1.0  # two that never get there are not equally fast
    low_end, high_end = interval(over, resolution)
    figures = tuple(fmean(map(MEASURES[side.measure].of, own)) for side, own in zip(sides, runs, strict=True))
    special = ""
    if measure.unit is None and unit == "points" and len(sides) == 2 and min(figures) >= CEILING:
        special = "ceiling" if room is not None or low_end <= 0 <= high_end else ""
    if has_floor and comparison.other is not None and _is_silent(comparison.other, groups):
        special = "floor"
    spread = max(stdev(over), resolution)
    effect = TTestPower().solve_power(nobs=len(over), alpha=ALPHA, power=POWER) if spread else math.nan
    shift = 0.0 if comparison.other is None else comparison.low
    return Found(
        *(comparison, len(over), figures, unit, fmean(over) + shift, low_end + shift, high_end + shift),
        *(p_value, holds, special, float(effect) * spread),
    )


def _shared(sides: Sequence[Side], groups: Groups, label: str) -> tuple[list[list[Run]], list[list[float]], float]:
    """Find each side's runs on the seeds that all have, their scores, and the smallest deviation to believe."""
    after = [_runs(side, side.condition, groups) for side in sides]
    before = [_runs(side, side.since, groups) if side.since else None for side in sides]
    seeds = sorted(set.intersection(*(set(runs) for runs in (*after, *before) if runs is not None)))
    if len(seeds) < LEAST_SEEDS:
        raise NoRuns(label)
    measures = [MEASURES[side.measure] for side in sides]
    scores = [
        [measure.score(runs[seed]) - (0.0 if since is None else measure.score(since[seed])) for seed in seeds]
        for measure, runs, since in zip(measures, after, before, strict=True)
    ]
    resolution = max(measure.resolution(runs[seeds[0]]) for measure, runs in zip(measures, after, strict=True))
    return [[runs[seed] for seed in seeds] for runs in after], scores, resolution


def _outcome(over: Sequence[float], room: float | None, margin: float, resolution: float) -> tuple[bool, float]:
    """Test whether the mean of values over 0, or over the lower end of a range with so much room, holds; give p."""
    mean = fmean(over)
    if room is None:
        return mean > 0, _p_value(over if mean > 0 else [value - margin for value in over], resolution)
    ends = over, [room - value for value in over]
    if 0 < mean < room:
        return True, max(_p_value(values, resolution) for values in ends) / 2  # two one-sided tests
    return False, min(_p_value(values, resolution) for values in ends if fmean(values) <= 0)


def _is_never(run: Run) -> bool:
    """Tell whether a run never reached the accuracy that is asked for."""
    return bool(MEASURES["updates to 95%"].of(run) > run["training"]["updates"])


def _compare_successes(comparison: Comparison, groups: Groups) -> Found:
    assert comparison.other is not None
    counts = []
    for side in (comparison.side, comparison.other):
        runs = _runs(side, side.condition, groups)
        if len(runs) < LEAST_SEEDS:
            raise NoRuns(comparison.label)
        counts.append((sum(run["figure"] >= SUCCESS for run in runs.values()), len(runs)))
    (won, runs_of), (lost, others) = counts
    table = [[won, runs_of - won], [lost, others - lost]]
    p_value = min(1.0, 2 * min(float(stats.fisher_exact(table, way).pvalue) for way in ("less", "greater")))
    always = won == runs_of and lost == others and min(runs_of, others) >= RUNS_AT_CEILING
    rates = won / runs_of, lost / others
    return Found(
        *(comparison, min(runs_of, others), rates, "rate", rates[0] - rates[1], math.nan, math.nan, p_value),
        *(rates[0] >= rates[1], "ceiling" if always else ""),
    )


def _runs(side: Side, condition: str, groups: Groups) -> dict[int, Run]:
    return groups.get((side.experiment, condition, side.model, side.recurrent), {})


def _is_silent(side: Side, groups: Groups) -> bool:
    """Tell whether a model gives less than half of the target's output in the gaps, before and after."""
    gaps = MEASURES["output in the gaps"]
    return all(
        fmean(gaps.score(run) for run in _runs(side, condition, groups).values()) > SILENT
        for condition in (side.condition, side.since)
    )


def interval(values: Sequence[float], resolution: float = 0.0) -> tuple[float, float]:
    """Compute Student's 95% interval of the mean; a deviation below the resolution is not believed."""
    spread = max(stdev(values), resolution)
    if not spread > 1e-12 * max(1.0, abs(fmean(values))):
        return -math.inf, math.inf
    half = float(stats.t.ppf(1 - ALPHA / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _p_value(values: Sequence[float], resolution: float) -> float:
    """Compute the two-sided p of a mean of zero; 1 if nothing says how much seeds differ."""
    spread = max(stdev(values), resolution)
    if not spread > 1e-12 * max(1.0, abs(fmean(values))):
        return 1.0
    return float(2 * stats.t.sf(abs(fmean(values)) / spread * math.sqrt(len(values)), len(values) - 1))
