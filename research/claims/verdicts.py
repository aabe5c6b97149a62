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

from research.claims import statistics
from research.claims.groups import NotYetRun, Results
from research.claims.measures import NotMeasured, plan_of, scored
from research.claims.needed import Open, needed
from research.claims.pairs import Pair, found_text, scores
from research.claims.relations import ClaimVerdict, Relation, all_better, same_within
from research.claims.rules import (
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
from research.claims.statistics import ALPHA, Interval
from research.claims.wording import mean_text, odds_text, spread
from research.runs.names import NAMES
from research.runs.results import RunResult
from research.runs.run import open_task_shape


@dataclass(frozen=True)
class Finding:
    """A claim and its verdict.

    Attributes:
        claim: the claim.
        seeds: of each group; empty where nothing was judged.
        figures: of the groups, as mean and standard deviation over seeds; or why nothing was judged.
        intervals: of the differences.
        verdict: the outcome.
        found: the smallest differences that are found with 80% power.
        needed: seeds for 80% power at the effect seen; empty where the verdict stands.
        hours: core hours of those of these seeds, or of the planned ones, that have not run; 0 where nobody knows.
    """

    claim: Claim
    seeds: str
    figures: str
    intervals: str
    verdict: ClaimVerdict
    found: str = ""
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


def _one_or_each(seeds: Sequence[str]) -> str:
    """The seeds of all comparisons, once where they are the same."""
    return seeds[0] if len(set(seeds)) == 1 else ", ".join(seeds)


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
        hours = sum(results.hours_to(group, _planned(group)) for group in groups)
        return Finding(claim, "", str(error), "", "not yet run", "", str(max(short, default="")), hours)


def _better(claim: Claim, rule: Better, results: Results) -> Finding:
    pairs = [Pair.of(a, b, results) for a, b in rule.comparisons]
    alphas = statistics.holm([statistics.t_test(pair.differences, pair.resolution) for pair in pairs])
    relations = [pair.relation(alpha, ALPHA / len(pairs)) for pair, alpha in zip(pairs, alphas, strict=True)]
    verdict = all_better(relations)
    undecided = [pair for pair, said in zip(pairs, relations, strict=True) if said == "undecided"]
    still = [pair.to_decide(ALPHA / len(pairs)) for pair in undecided]
    sides = _widest(pairs)
    seeds = [_seeds(len(pair.runs_a), (*pair.a.groups, *pair.b.groups)) for pair in pairs]
    is_one_against_all = len({a for a, _ in rule.comparisons}) == 1
    names = [_name(pair.b) if is_one_against_all else f"{_name(pair.a)} over {_name(pair.b)}" for pair in pairs]
    return Finding(
        claim,
        _one_or_each(seeds),
        ", ".join(_spread(side, *runs) for side, runs in sides.items()),
        "; ".join(
            f"{name} {pair.interval_text(1 - alpha)}" + (f", {said}" if said in ("same", "ceiling") else "")
            for name, pair, alpha, said in zip(names, pairs, alphas, relations, strict=True)
        ),
        verdict,
        "; ".join(f"{name} {pair.found_text(ALPHA / len(pairs))}" for name, pair in zip(names, pairs, strict=True)),
        *needed(verdict, still, statistics.MOST_RUNS, results),
    )


def _more_successes(claim: Claim, rule: MoreSuccesses, results: Results) -> Finding:
    runs = {group: results.of(group) for group in groups_of(rule)}
    counts = {group: (sum(r.figure >= SUCCESS for r in found), len(found)) for group, found in runs.items()}
    tables = [(*counts[a], *counts[b]) for a, b in rule.comparisons]
    alphas = statistics.holm([statistics.fisher_test(*table) for table in tables])
    intervals = [statistics.odds_interval(*table, level=1 - alpha) for table, alpha in zip(tables, alphas, strict=True)]
    relations = [_success_relation(interval, *table) for interval, table in zip(intervals, tables, strict=True)]
    verdict = all_better(relations)
    still = [
        _rates_to_decide(pair, table, ALPHA / len(tables))
        for said, pair, table in zip(relations, rule.comparisons, tables, strict=True)
        if said == "undecided"
    ]
    seeds = [_seeds(min(len(runs[group]) for group in pair), pair) for pair in rule.comparisons]
    return Finding(
        claim,
        _one_or_each(seeds),
        ", ".join(_successes(group, *counted) for group, counted in counts.items()),
        "odds ratio: "
        + "; ".join(
            f"{NAMES[other.model]} {odds_text(interval)}"
            for (_, other), interval in zip(rule.comparisons, intervals, strict=True)
        ),
        verdict,
        "; ".join(
            f"{NAMES[other.model]} {_found_rate(table, ALPHA / len(tables))}"
            for (_, other), table in zip(rule.comparisons, tables, strict=True)
        ),
        *needed(verdict, still, statistics.MOST_FISHER_RUNS, results),
    )


def _success_relation(odds: Interval, won: int, runs: int, other_won: int, other_runs: int) -> Relation:
    if odds.above(1):
        return "better"
    if odds.below(1):
        return "worse"
    always = won == runs and other_won == other_runs
    return "ceiling" if always and min(runs, other_runs) >= statistics.RUNS_AT_CEILING else "undecided"


def _rates_to_decide(groups: tuple[Group, Group], table: tuple[int, int, int, int], alpha: float) -> Open:
    won, runs, other_won, other_runs = table
    if won == runs and other_won == other_runs:
        return Open(statistics.RUNS_AT_CEILING, groups, ends_claim=True)
    rates = won / runs, other_won / other_runs
    return Open(statistics.runs_for_rates(*rates, alpha), groups, ends_claim=rates[0] < rates[1])


def _found_rate(table: tuple[int, int, int, int], alpha: float) -> str:
    won, runs, _, other_runs = table
    rate = statistics.found_rate(won / runs, runs, other_runs, alpha)
    return "none" if rate is None else f"{rate:.0%}"


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
    seeds = statistics.seeds_for_difference(fmean(over), statistics.deviation(over, resolution), ALPHA)
    return Finding(
        claim,
        _seeds(len(found), groups_of(rule)),
        _spread(side, found),
        mean_text(interval, rule.goal, unit),
        verdict,
        found_text(over, ALPHA, unit, resolution),
        *needed(verdict, [Open(seeds, tuple(groups_of(rule)))], statistics.MOST_RUNS, results),
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
    seeds = (
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
        found_text(over, 2 * ALPHA, unit, resolution, margin),
        *needed(verdict, [Open(seeds, tuple(groups_of(rule)))], statistics.MOST_RUNS, results),
    )


def _same(claim: Claim, rule: Same, results: Results) -> Finding:
    pair = Pair.of(*rule.sides, results)
    verdict = same_within(pair.differences, rule.margin, pair.resolution, pair.at_ceiling)
    seeds = pair.seeds_for_margin(rule.margin)
    if verdict == "supported" and pair.has_seeds_without_either:  # two that never got there are not equally fast
        verdict, seeds = "inconclusive", None
    return Finding(
        claim,
        _seeds(len(pair.runs_a), groups_of(rule)),
        f"{_spread(pair.a, pair.runs_a)}, {_spread(pair.b, pair.runs_b)}",
        pair.interval_text(1 - 2 * ALPHA),
        verdict,
        pair.found_text(2 * ALPHA, rule.margin),
        *needed(verdict, [Open(seeds, tuple(groups_of(rule)))], statistics.MOST_RUNS, results),
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


def _widest(pairs: Sequence[Pair]) -> dict[Side, tuple[list[RunResult], list[RunResult] | None]]:
    """Every side with its runs, and those that its change starts from, of the comparison with the most seeds."""
    found: dict[Side, tuple[list[RunResult], list[RunResult] | None]] = {}
    for pair in pairs:
        for side, runs, since in ((pair.a, pair.runs_a, pair.since_a), (pair.b, pair.runs_b, pair.since_b)):
            if side not in found or len(runs) > len(found[side][0]):
                found[side] = runs, since
    return found


def _name(side: Side) -> str:
    return side.label or NAMES[side.group.model]


def _spread(side: Side, runs: Sequence[RunResult], since: Sequence[RunResult] | None = None) -> str:
    values, unit = [side.measure.of(result) for result in runs], side.measure.unit_of(runs[0])
    if since is not None:  # of errors: the factor by which they grow, or how much
        changes = scores(side.measure, runs, since)
        if unit == "mse":
            return f"{_name(side)} {-fmean(changes):+.4f} ± {stdev(changes):.4f}"
        grown = [math.exp(-change) for change in changes]
        return f"{_name(side)} x {fmean(grown):.2f} ± {stdev(grown):.2f}"
    if unit in ("points", "share"):
        return f"{_name(side)} {spread('accuracy', values)}"
    if unit == "updates":
        return f"{_name(side)} {fmean(values):.0f} ± {stdev(values):.0f}"
    return f"{_name(side)} {spread('factor' if unit == 'factor' else 'mse', values)}"
