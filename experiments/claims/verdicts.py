"""The verdict on each claim: the rules of ``rules.py`` applied to the kept results.

A group counts once it has MIN_SEEDS finished runs; before that a claim that needs it is "not yet run". Two groups are
compared seed by seed, over the seeds that both have: a seed gives every model the same task (the same trace to draw,
the same speaker left out).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from experiments.claims import statistics
from experiments.claims.groups import NotYetRun, Results
from experiments.claims.measures import Measure, NotMeasured, Unit, plan_of, scored
from experiments.claims.relations import ClaimVerdict, Relation, all_better, relation, same_within
from experiments.claims.rules import (
    CEILING,
    MOST_SEEDS,
    SAME_FACTOR,
    SAME_POINTS,
    SUCCESS,
    Better,
    Beyond,
    Claim,
    Group,
    MoreSuccesses,
    Same,
    Side,
    TrainedValues,
    Within,
    WithoutData,
    groups_of,
)
from experiments.claims.statistics import ALPHA, Interval
from experiments.claims.wording import interval_text, mean_text, odds_text, spread
from experiments.runs.names import NAMES
from experiments.runs.results import RunResult
from experiments.runs.run import open_task_shape

MARGIN: dict[Unit, float] = {"points": SAME_POINTS, "error": math.log(SAME_FACTOR), "factor": math.log(SAME_FACTOR)}


@dataclass(frozen=True)
class Finding:
    """A claim and its verdict.

    Attributes:
        claim: the claim.
        seeds: of each group; empty where nothing was judged.
        figures: of the groups, as mean and standard deviation over seeds; or why nothing was judged.
        intervals: of the differences.
        verdict: the outcome.
        needed: seeds for 80% power at the effect seen; empty where the verdict stands.
        hours: core hours of these seeds, or of runs that are planned; 0 where they are not known.
    """

    claim: Claim
    seeds: str
    figures: str
    intervals: str
    verdict: ClaimVerdict
    needed: str = ""
    hours: float = 0.0


def findings(results: Iterable[RunResult], claims: Sequence[Claim]) -> list[Finding]:
    """Every claim with its verdict."""
    kept = Results(results)
    return [_judged(claim, kept) for claim in claims]


def _seeds(count: int, groups: Iterable[Group]) -> str:
    """A number of seeds, and how many are planned where some of them are still to come."""
    planned = min(map(_planned, groups))
    return f"{count} of {planned}" if count < planned else str(count)


def _planned(group: Group) -> int:
    return plan_of(group.experiment).condition(group.condition).seeds_of(group.cell)


def _judged(claim: Claim, results: Results) -> Finding:
    rule = claim.rule
    if isinstance(rule, WithoutData):
        return Finding(claim, "", rule.why, "", "not testable here")
    if claim.without and not results.has(groups_of(rule)[0].experiment):
        return Finding(claim, "", claim.without, "", "not testable here")
    try:
        if isinstance(rule, Better):
            return _better(claim, rule, results)
        if isinstance(rule, MoreSuccesses):
            return _more_successes(claim, rule, results)
        if isinstance(rule, Beyond):
            return _beyond(claim, rule, results)
        if isinstance(rule, Within):
            return _within(claim, rule, results)
        if isinstance(rule, Same):
            return _same(claim, rule, results)
        return _trained_values(claim, rule, results)
    except (NotYetRun, NotMeasured) as error:
        groups = groups_of(rule)
        short = [_planned(group) for group in groups if results.count(group) < _planned(group)]
        hours = sum(results.hours([group], _planned(group)) for group in groups)
        return Finding(claim, "", str(error), "", "not yet run", str(max(short, default="")), hours)


def _better(claim: Claim, rule: Better, results: Results) -> Finding:
    pairs = [_Pair.of(a, b, results) for a, b in rule.comparisons]
    alphas = statistics.holm([statistics.t_test(pair.differences, pair.resolution) for pair in pairs])
    relations = [pair.relation(alpha, ALPHA / len(pairs)) for pair, alpha in zip(pairs, alphas, strict=True)]
    verdict = all_better(relations)
    undecided = [pair for pair, said in zip(pairs, relations, strict=True) if said == "undecided"]
    needed = [pair.seeds_to_decide(ALPHA / len(pairs)) for pair in undecided]
    sides = _widest(pairs)
    seeds = [_seeds(len(pair.runs_a), (*pair.a.groups, *pair.b.groups)) for pair in pairs]
    is_one_against_all = len({a for a, _ in rule.comparisons}) == 1
    return Finding(
        claim,
        seeds[0] if len(set(seeds)) == 1 else ", ".join(seeds),
        ", ".join(_spread(side, *runs) for side, runs in sides.items()),
        "; ".join(
            (_name(pair.b) if is_one_against_all else f"{_name(pair.a)} over {_name(pair.b)}")
            + f" {pair.interval_text(1 - alpha)}"
            + (f", {said}" if said in ("same", "ceiling") else "")
            for pair, alpha, said in zip(pairs, alphas, relations, strict=True)
        ),
        verdict,
        *_needed(verdict, needed, statistics.MOST_RUNS, groups_of(rule), results),
    )


@dataclass(frozen=True)
class _Pair:
    """Two sides on the same seeds."""

    a: Side
    b: Side
    runs_a: list[RunResult]
    runs_b: list[RunResult]
    since_a: list[RunResult] | None = None
    since_b: list[RunResult] | None = None

    @classmethod
    def of(cls, a: Side, b: Side, results: Results) -> _Pair:
        """The pair on the seeds that all groups of both sides have.

        Raises:
            NotYetRun: there are too few.
        """
        runs = results.on_shared_seeds(dict.fromkeys((*a.groups, *b.groups)))
        since_a, since_b = (None if side.since is None else runs[side.since] for side in (a, b))
        return cls(a, b, runs[a.group], runs[b.group], since_a, since_b)

    @property
    def unit(self) -> Unit:
        return self.a.measure.unit_of(self.runs_a[0])

    @property
    def differences(self) -> list[float]:
        """Of the first side over the second, more is better."""
        scores_a, scores_b = (
            _scores(self.a.measure, self.runs_a, self.since_a),
            _scores(self.b.measure, self.runs_b, self.since_b),
        )
        return [a - b for a, b in zip(scores_a, scores_b, strict=True)]

    @property
    def resolution(self) -> float:
        return max(self.a.measure.resolution(self.runs_a[0]), self.b.measure.resolution(self.runs_b[0]))

    @property
    def at_ceiling(self) -> bool:
        means = (_mean(self.a.measure, self.runs_a), _mean(self.b.measure, self.runs_b))
        is_accuracy = self.a.measure.unit is None and self.unit == "points" and self.since_a is None
        return is_accuracy and min(means) >= CEILING

    @property
    def has_seeds_without_either(self) -> bool:
        """Whether there is a seed on which neither side has a number of its own."""
        reached_a, reached_b = self.a.measure.is_reached, self.b.measure.is_reached
        return any(not (reached_a(a) or reached_b(b)) for a, b in zip(self.runs_a, self.runs_b, strict=True))

    def relation(self, alpha: float, same_alpha: float) -> Relation:
        return relation(
            self.differences,
            alpha,
            margin=MARGIN.get(self.unit, 0.0),
            same_alpha=same_alpha,
            resolution=self.resolution,
            at_ceiling=self.at_ceiling,
        )

    def interval_text(self, level: float) -> str:
        return interval_text(statistics.t_interval(self.differences, level, self.resolution), self.unit)

    def seeds_to_decide(self, alpha: float) -> int | None:
        """Seeds that show a difference, or that there is none to speak of, whichever are fewer."""
        effect, spread = fmean(self.differences), statistics.deviation(self.differences, self.resolution)
        possible = (
            statistics.seeds_for_difference(effect, spread, alpha),
            statistics.seeds_for_equivalence(effect, spread, MARGIN.get(self.unit, 0.0), alpha),
        )
        return min((seeds for seeds in possible if seeds is not None), default=None)

    def seeds_for_margin(self, margin: float) -> int | None:
        """Seeds that show what was seen: the same within the margin, or a difference beyond it."""
        effect, spread = fmean(self.differences), statistics.deviation(self.differences, self.resolution)
        if abs(effect) < margin:
            return statistics.seeds_for_equivalence(effect, spread, margin)
        return statistics.seeds_for_difference(abs(effect) - margin, spread, 2 * ALPHA)


def _more_successes(claim: Claim, rule: MoreSuccesses, results: Results) -> Finding:
    runs = {group: results.of(group) for group in groups_of(rule)}
    counts = {group: (sum(r.figure >= SUCCESS for r in found), len(found)) for group, found in runs.items()}
    tables = [(*counts[a], *counts[b]) for a, b in rule.comparisons]
    alphas = statistics.holm([statistics.fisher_test(*table) for table in tables])
    intervals = [statistics.odds_interval(*table, level=1 - alpha) for table, alpha in zip(tables, alphas, strict=True)]
    relations = [
        _success_relation(interval, won == of and other_won == other_of)
        for interval, (won, of, other_won, other_of) in zip(intervals, tables, strict=True)
    ]
    verdict = all_better(relations)
    rates = [
        (won / of, other_won / other_of)
        for said, (won, of, other_won, other_of) in zip(relations, tables, strict=True)
        if said == "undecided"
    ]
    needed = [statistics.runs_for_rates(*pair, ALPHA / len(tables)) for pair in rates]
    return Finding(
        claim,
        _seeds(min(len(found) for found in runs.values()), runs),
        ", ".join(_successes(group, *counted) for group, counted in counts.items()),
        "odds ratio: "
        + "; ".join(
            f"{NAMES[other.model]} {odds_text(interval)}"
            for (_, other), interval in zip(rule.comparisons, intervals, strict=True)
        ),
        verdict,
        *_needed(verdict, needed, statistics.MOST_FISHER_RUNS, groups_of(rule), results),
    )


def _success_relation(odds: Interval, is_ceiling: bool) -> Relation:
    if odds.above(1):
        return "better"
    if odds.below(1):
        return "worse"
    return "ceiling" if is_ceiling else "undecided"


def _successes(group: Group, successes: int, runs: int) -> str:
    rate = statistics.rate_interval(successes, runs)
    return f"{NAMES[group.model]} {successes} of {runs} ({100 * rate.low:.0f} to {100 * rate.high:.0f}%)"


def _beyond(claim: Claim, rule: Beyond, results: Results) -> Finding:
    side = rule.side
    found = results.of(side.group)
    unit, resolution = side.measure.unit_of(found[0]), side.measure.resolution(found[0])
    over = [side.measure.score(result) - scored(rule.goal, unit) for result in found]
    interval = statistics.t_interval(over, resolution=resolution)
    verdict: ClaimVerdict = "inconclusive"
    if interval.above(0) or interval.below(0):
        verdict = "supported" if interval.above(0) else "contradicted"
    needed = statistics.seeds_for_difference(fmean(over), statistics.deviation(over, resolution), ALPHA)
    return Finding(
        claim,
        _seeds(len(found), groups_of(rule)),
        _spread(side, found),
        mean_text(interval, rule.goal, unit),
        verdict,
        *_needed(verdict, [needed], statistics.MOST_RUNS, groups_of(rule), results),
    )


def _within(claim: Claim, rule: Within, results: Results) -> Finding:
    side = rule.side
    found = results.of(side.group)
    unit, resolution = side.measure.unit_of(found[0]), side.measure.resolution(found[0])
    low, high = scored(rule.low, unit), scored(rule.high, unit)
    middle, margin = (low + high) / 2, abs(high - low) / 2
    over = [side.measure.score(result) - middle for result in found]
    verdict = same_within(over, margin, resolution)
    spread = statistics.deviation(over, resolution)
    needed = (
        statistics.seeds_for_equivalence(fmean(over), spread, margin)
        if abs(fmean(over)) < margin
        else statistics.seeds_for_difference(abs(fmean(over)) - margin, spread, 2 * ALPHA)
    )
    interval = statistics.t_interval(over, 1 - 2 * ALPHA, resolution)
    return Finding(
        claim,
        _seeds(len(found), groups_of(rule)),
        _spread(side, found),
        mean_text(interval, (rule.low + rule.high) / 2, unit),
        verdict,
        *_needed(verdict, [needed], statistics.MOST_RUNS, groups_of(rule), results),
    )


def _same(claim: Claim, rule: Same, results: Results) -> Finding:
    pair = _Pair.of(*rule.sides, results)
    verdict = same_within(pair.differences, rule.margin, pair.resolution, pair.at_ceiling)
    needed = pair.seeds_for_margin(rule.margin)
    if verdict == "supported" and pair.has_seeds_without_either:  # two that never got there are not equally fast
        verdict, needed = "inconclusive", None
    return Finding(
        claim,
        _seeds(len(pair.runs_a), groups_of(rule)),
        f"{_spread(pair.a, pair.runs_a)}, {_spread(pair.b, pair.runs_b)}",
        pair.interval_text(1 - 2 * ALPHA),
        verdict,
        *_needed(verdict, [needed], statistics.MOST_RUNS, groups_of(rule), results),
    )


def _trained_values(claim: Claim, rule: TrainedValues, results: Results) -> Finding:
    numbers, holds = [], True
    for group in rule.groups:
        first = results.of(group)[0]
        expected = trained_values(first)
        holds = holds and first.parameters == expected
        numbers.append(f"{NAMES[group.model]} {first.parameters:,} (formula: {expected:,})")
    return Finding(claim, "", ", ".join(numbers), "none needed: arithmetic", "supported" if holds else "contradicted")


def trained_values(result: RunResult) -> int:
    """Values that training changes, by the formulas of Table 3 for each layer, the readout among them."""
    shape, model = open_task_shape(result.run), result.run["model"]
    total, inputs = 0, shape.channels
    for neurons, is_recurrent in (*((n, result.run["recurrent"]) for n in shape.hidden), (shape.outputs, False)):
        synapses = inputs * neurons + (neurons * neurons if is_recurrent else 0)
        total += {"hetsyn": 2 * synapses, "hetneu": synapses + neurons}.get(model, synapses)
        inputs = neurons
    return total


def _needed(
    verdict: ClaimVerdict, needed: Sequence[int | None], most: int, groups: Iterable[Group], results: Results
) -> tuple[str, float]:
    """Seeds that an open verdict needs, and their core hours."""
    if verdict != "inconclusive":
        return "", 0.0
    known = [count for count in needed if count is not None]
    if len(known) < len(needed):
        return f"above {most:,}", 0.0
    possible = min(MOST_SEEDS.get(group.experiment, max(known)) for group in groups)
    if possible < max(known):
        return f"{max(known)}, and there are {possible}", 0.0
    return str(max(known)), results.hours(groups, max(known))


def _widest(pairs: Sequence[_Pair]) -> dict[Side, tuple[list[RunResult], list[RunResult] | None]]:
    """Every side with its runs, and those that its change starts from, of the comparison with the most seeds."""
    found: dict[Side, tuple[list[RunResult], list[RunResult] | None]] = {}
    for pair in pairs:
        for side, runs, since in ((pair.a, pair.runs_a, pair.since_a), (pair.b, pair.runs_b, pair.since_b)):
            if side not in found or len(runs) > len(found[side][0]):
                found[side] = runs, since
    return found


def _scores(measure: Measure, runs: Sequence[RunResult], since: Sequence[RunResult] | None) -> list[float]:
    """The score of each run, or its change since the run of the same seed."""
    scores = [measure.score(result) for result in runs]
    if since is None:
        return scores
    return [score - measure.score(before) for score, before in zip(scores, since, strict=True)]


def _mean(measure: Measure, runs: Sequence[RunResult]) -> float:
    return fmean(measure.of(result) for result in runs)


def _name(side: Side) -> str:
    return side.label or NAMES[side.group.model]


def _spread(side: Side, runs: Sequence[RunResult], since: Sequence[RunResult] | None = None) -> str:
    values, unit = [side.measure.of(result) for result in runs], side.measure.unit_of(runs[0])
    if since is not None:  # of errors: the factor by which they grow, or how much
        changes = _scores(side.measure, runs, since)
        if unit == "mse":
            return f"{_name(side)} {-fmean(changes):+.4f} ± {stdev(changes):.4f}"
        grown = [math.exp(-change) for change in changes]
        return f"{_name(side)} x {fmean(grown):.2f} ± {stdev(grown):.2f}"
    if unit in ("points", "share"):
        return f"{_name(side)} {spread('accuracy', values)}"
    if unit == "updates":
        return f"{_name(side)} {fmean(values):.0f} ± {stdev(values):.0f}"
    return f"{_name(side)} {spread('factor' if unit == 'factor' else 'mse', values)}"
