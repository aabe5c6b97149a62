"""Judge sentences: differences seed by seed, Student's intervals, Fisher's test, one p a sentence, Holm over a page.

A sentence holds if each of its comparisons does, so its p is the largest of theirs. It falls if one comparison shows no
advantage, so that p is the smallest, times their number. No result depends on the order of the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from research.worth.measures import MEASURES, Groups, scored

ALPHA, POWER = 0.05, 0.8
LEAST_SEEDS = 3
SUCCESS = 0.9  # accuracy of a successful run, as in the paper
CEILING = 0.99  # where two sides are at least as accurate, a task cannot tell them apart
RUNS_AT_CEILING = 35  # all successful: Wilson's interval of their rate begins above 90%
MARGINS = {"points": 1.0, "error": math.log(1.1), "factor": math.log(1.1)}  # less is no advantage worth naming
SILENT = math.log(2)  # score of an output in the gaps below half of the target's
UNDEFINED, BEYOND = "undefined in the paper", "better than the paper"


class Side(NamedTuple):
    """Runs that differ in their seed alone, their measure, and a condition if the change since its runs is meant.

    The first four are the key of the runs' group.
    """

    experiment: str
    condition: str
    model: str
    recurrent: bool = True
    measure: str = "figure"
    since: str = ""


class Comparison(NamedTuple):
    """The side that a sentence favours, and another one, or a goal (``low``), or a range (``low`` to ``high``).

    With another side a range is of the difference of the scores. Comparisons of one label are of definitions of one
    measure.
    """

    label: str
    side: Side
    other: Side | None = None
    low: float = 0.0
    high: float = math.inf
    by_successes: bool = False

    @property
    def sides(self) -> tuple[Side, ...]:
        return (self.side,) if self.other is None else (self.side, self.other)


class Sentence(NamedTuple):
    """What the results judge; ``sentences.toml`` explains the options. ``place`` is the paper's, or empty."""

    id: str
    text: str
    comparisons: tuple[Comparison, ...]
    place: str = ""
    paper: str = ""
    has_floor: bool = False
    may_exceed: bool = False
    superseded: bool = False


class Found(NamedTuple):
    """The result of a comparison: the mean difference of the scores, with its 95% interval.

    Attributes:
        figure: the mean of the side.
        p: of the verdict that the difference points to: that the comparison holds, or that it does not.
        holds: "ceiling" or "floor" if the runs cannot tell.
        detectable: the smallest difference that this number of seeds finds with 80% power.
    """

    comparison: Comparison
    seeds: int
    figure: float
    other_figure: float
    unit: str
    difference: float
    low: float
    high: float
    detectable: float
    p: float
    holds: bool | str


class Judged(NamedTuple):
    """A sentence, the comparison that decides, and p: that of the sentence, after :func:`judge` Holm's."""

    sentence: Sentence
    found: Sequence[Found]
    weakest: Found
    p: float

    @property
    def verdict(self) -> str:
        if turning(self.found):
            return UNDEFINED
        falls = self.weakest.holds is False
        if isinstance(self.weakest.holds, str):
            return self.weakest.holds
        if self.p > ALPHA:
            return "inconclusive"
        if not falls:
            return "supported"
        exceeds = self.sentence.may_exceed and all(one.holds or one.difference > 0 for one in self.found)
        return BEYOND if exceeds else "contradicted"


def judge(sentences: Sequence[Sentence], groups: Groups) -> list[Judged]:
    """Judge all sentences of a page that have runs; they share an error of 5% by Holm's procedure."""
    judged = []
    for sentence in sentences:
        found = [compare(one, groups, sentence.has_floor) for one in sentence.comparisons]
        known = [one for one in found if one is not None]
        if len(known) == len(found):
            judged.append(Judged(sentence, known, *decisive(known)))
    adjusted = multipletests([one.p for one in judged], ALPHA, "holm")[1] if judged else []
    return [one._replace(p=float(p)) for one, p in zip(judged, adjusted, strict=True)]


def decisive(found: Sequence[Found]) -> tuple[Found, float]:
    """Choose the comparison that decides a sentence, and the sentence's p."""
    against = [one for one in found if one.holds is False]
    if against:
        weakest = min(against, key=lambda one: one.p)
        return weakest, min(1.0, len(found) * weakest.p)
    for one in found:
        if isinstance(one.holds, str):
            return one, 1.0  # neither supported nor contradicted
    weakest = max(found, key=lambda one: one.p)
    return weakest, weakest.p


def turning(found: Sequence[Found]) -> list[str]:
    """List the labels that one definition of the measure decides for a sentence, and another against it."""
    decided = {(one.comparison.label, one.holds) for one in found if one.p <= ALPHA / len(found)}
    return [label for label, holds in decided if holds and (label, False) in decided]


def compare(comparison: Comparison, groups: Groups, has_floor: bool = False) -> Found | None:
    """Compare two sides, or one with a goal; None if they share fewer than LEAST_SEEDS seeds."""
    if comparison.by_successes:
        return _compare_successes(comparison, groups)
    scores = [_scores(side, groups) for side in comparison.sides]
    seeds = sorted(set.intersection(*map(set, scores)))
    if len(seeds) < LEAST_SEEDS:
        return None
    measured = [(MEASURES[side.measure], [groups[side[:4]][seed] for seed in seeds]) for side in comparison.sides]
    unit = MEASURES[comparison.side.measure].unit_of(groups[comparison.side[:4]][seeds[0]])
    low, high, is_range = comparison.low, comparison.high, comparison.high < math.inf
    if comparison.other is None:
        goal, margin = scored(low, unit), 0.0
        values = [scores[0][seed] - goal for seed in seeds]
        low, high = 0.0, scored(high, unit) - goal if is_range else high
    else:
        values = [scores[0][seed] - scores[1][seed] for seed in seeds]
        margin = 0.0 if is_range or comparison.side.since else MARGINS.get(unit, 0.0)
    resolution = max(measure.resolution(runs[0]) for measure, runs in measured)
    is_ahead, p_value = _outcome(values, resolution, low, high, margin)
    if is_range and unit == "updates":
        never = [[measure.of(run) > run["training"]["updates"] for run in runs] for measure, runs in measured]
        if any(map(all, zip(*never, strict=True))):
            p_value = 1.0  # two that never get there are not equally fast
    figures = [fmean(map(measure.of, runs)) for measure, runs in measured]
    ends = interval(values, resolution)
    holds: bool | str = is_ahead
    if has_floor and comparison.other is not None and _is_silent(comparison.other, groups):
        holds = "floor"
    elif unit == "points" and len(figures) == 2 and min(figures) >= CEILING:
        holds = "ceiling" if is_range or ends[0] <= 0 <= ends[1] else holds
    effect = float(TTestPower().solve_power(nobs=len(seeds), alpha=ALPHA, power=POWER))
    detectable = effect * _spread(values, resolution)
    figure, other = figures[0], math.nan if comparison.other is None else figures[1]
    return Found(comparison, len(seeds), figure, other, unit, fmean(values), *ends, detectable, p_value, holds)


def _scores(side: Side, groups: Groups) -> dict[int, float]:
    """Score a side's runs by seed, or the change of the score since another condition's runs."""
    measure = MEASURES[side.measure]
    runs = groups.get(side[:4], {})
    scores = {seed: scored(measure.of(run), measure.unit_of(run)) for seed, run in runs.items()}
    if not side.since:
        return scores
    before = _scores(side._replace(condition=side.since, since=""), groups)
    return {seed: scores[seed] - before[seed] for seed in scores.keys() & before.keys()}


def _outcome(values: Sequence[float], resolution: float, low: float, high: float, margin: float) -> tuple[bool, float]:
    """Test whether a mean difference is above the lower end, or in a range; give p.

    Where it is not above, p is that of an advantage as large as the margin.
    """
    difference, mean = fmean(values), _mean(values, resolution)
    holds = low < difference < high
    if holds and high < math.inf:
        return True, float(max(mean.cdf(low), mean.sf(high)))  # two one-sided tests
    end = low if holds else low + margin
    if difference >= high:
        end = high
    return holds, float(2 * min(mean.cdf(end), mean.sf(end)))


def _compare_successes(comparison: Comparison, groups: Groups) -> Found | None:
    table = []
    for side in comparison.sides:
        solved = [run["figure"] >= SUCCESS for run in groups.get(side[:4], {}).values()]
        table.append((solved.count(True), solved.count(False)))
    seeds = min(map(sum, table))
    if seeds < LEAST_SEEDS:
        return None
    p_value = min(1.0, 2 * min(float(stats.fisher_exact(table, way).pvalue) for way in ("less", "greater")))
    rate, other = (won / (won + lost) for won, lost in table)
    holds = "ceiling" if rate == other == 1 and seeds >= RUNS_AT_CEILING else rate >= other
    low = high = detectable = math.nan
    return Found(comparison, seeds, rate, other, "rate", rate - other, low, high, detectable, p_value, holds)


def _is_silent(side: Side, groups: Groups) -> bool:
    """Tell whether a model gives less than half of the target's output in the gaps, before and after."""
    gaps = side._replace(measure="output in the gaps", since="")
    return all(
        fmean(_scores(gaps._replace(condition=condition), groups).values()) > SILENT
        for condition in (side.condition, side.since)
    )


def interval(values: Sequence[float], resolution: float = 0.0) -> tuple[float, float]:
    """Compute Student's 95% interval of the mean; a deviation below the resolution is not believed."""
    low, high = _mean(values, resolution).interval(1 - ALPHA)
    return float(low), float(high)


def _mean(values: Sequence[float], resolution: float) -> Any:
    """Place Student's distribution at the mean: it has the interval, and the p of any other mean."""
    return stats.t(len(values) - 1, fmean(values), _spread(values, resolution) / math.sqrt(len(values)))


def _spread(values: Sequence[float], resolution: float) -> float:
    """Compute the deviation to believe; it is infinite if nothing says how much seeds differ."""
    spread = max(stdev(values), resolution)
    return spread if spread > 1e-12 * max(1.0, abs(fmean(values))) else math.inf
