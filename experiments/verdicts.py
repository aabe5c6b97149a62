"""The verdict on each claim, computed from the results by rules that the report states.

A group (condition, neuron model, architecture) counts once it has MIN_SEEDS finished runs; before that a claim that
needs it is "not yet run". Groups are compared seed by seed, over the seeds that all of them have: models of one seed
had the same task (the same trace to draw, the same speaker left out). "Better" means that the mean of those differences
is more than twice its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any, Literal

from experiments.plan import PAPER
from experiments.results import RunResult

ClaimVerdict = Literal["reproduced", "not reproduced", "not testable here", "not yet run"]
MIN_SEEDS = 3
NAMES = {"hetsyn": "HetSyn", "hetneu": "HetNeu", "alif": "ALIF", "homneu": "LIF", "lstm": "LSTM"}
OTHERS = ("hetneu", "alif", "homneu")


@dataclass(frozen=True)
class Group:
    """Finished runs of one condition, model and architecture, by seed."""

    results: tuple[RunResult, ...]

    @property
    def metric(self) -> str:
        return self.results[0].metric

    def values(self, of: Callable[[RunResult], float] = lambda result: result.figure) -> list[float]:
        return [of(result) for result in self.results]


@dataclass(frozen=True)
class Finding:
    """A row of the table of claims.

    Attributes:
        claim: in words.
        source: the paper, or this project's own question.
        rule: when the claim counts as reproduced.
        numbers: that the rule is applied to, or why it is not.
        verdict: the outcome.
    """

    claim: str
    source: Literal["paper", "ours"]
    rule: str
    numbers: str
    verdict: ClaimVerdict


class NotYetRun(Exception):
    """A group that a claim needs has too few finished runs."""


class Groups:
    """The results by experiment, condition, model and architecture."""

    def __init__(self, results: Sequence[RunResult]) -> None:
        self.results = sorted(results, key=lambda result: result.key)

    def get(self, experiment: str, condition: str, model: str, recurrent: bool = True) -> Group:
        """The finished runs of one group.

        Raises:
            NotYetRun: fewer than MIN_SEEDS runs.
        """
        wanted = (experiment, condition, model, recurrent)
        finished = tuple(r for r in self.results if r.key[:4] == wanted)
        if len(finished) < MIN_SEEDS:
            raise NotYetRun(f"{condition}, {NAMES[model]}: {len(finished)} of {MIN_SEEDS} seeds")
        return Group(finished)

    def four(self, experiment: str, condition: str, recurrent: bool = True) -> dict[str, Group]:
        """The four neuron models on the seeds that all of them have.

        Raises:
            NotYetRun: fewer than MIN_SEEDS such seeds.
        """
        models = ("hetsyn", *OTHERS)
        shared = on_the_same_seeds([self.get(experiment, condition, model, recurrent) for model in models])
        return dict(zip(models, shared, strict=True))


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and its standard error."""
    return fmean(values), stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def clearly_above(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether a is above b, seed by seed, by more than twice the standard error of the mean difference."""
    mean, error = mean_and_error([x - y for x, y in zip(a, b, strict=True)])
    return mean > 2 * error


def on_the_same_seeds(groups: Sequence[Group]) -> list[Group]:
    """The groups' runs of the seeds that all of them have.

    Raises:
        NotYetRun: fewer than MIN_SEEDS such seeds.
    """
    seeds = set.intersection(*({result.run["seed"] for result in group.results} for group in groups))
    if len(seeds) < MIN_SEEDS:
        raise NotYetRun(f"{len(seeds)} of {MIN_SEEDS} seeds that all models have")
    return [Group(tuple(r for r in group.results if r.run["seed"] in seeds)) for group in groups]


def number(metric: str, value: float) -> str:
    """A figure as text: accuracy, in [0, 1], in percent; an error as it is."""
    return f"{100 * value:.1f}%" if metric == "accuracy" else f"{value:.4f}"


def spread(metric: str, values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    if metric == "accuracy":
        return f"{100 * fmean(values):.1f} ± {100 * deviation:.1f}%"
    return f"{fmean(values):.4f} ± {deviation:.4f}"


def mean_of_curve(name: str) -> Callable[[RunResult], float]:
    """Mean figure over a test-time curve, the point of no change left out."""

    def mean(result: RunResult) -> float:
        unchanged = result.run["task_spec"]["noise_hz"] if name == "noise" else 0.0
        return fmean(figure for point, figure in result.analysis[name] if point != unchanged)

    return mean


def findings(results: Sequence[RunResult]) -> list[Finding]:
    """Every claim with its verdict."""
    groups = Groups(results)
    return [
        *(_best_of_four(groups, "pattern-generation", recurrent) for recurrent in (True, False)),
        _best_of_four(groups, "pattern-generation", True, PAPER),
        _reaches(groups, PAPER, 0.995, "HetSyn solves delayed match-to-sample (paper: 100%)"),
        *(_best_of_four(groups, "delayed-match", recurrent, PAPER) for recurrent in (True, False)),
        *(_best_of_four(groups, "delayed-match", recurrent) for recurrent in (True, False)),
        *(
            _reaches(groups, f"{PAPER}-hidden-5", 0.9, "Five hidden neurons are enough for HetSyn", recurrent)
            for recurrent in (True, False)
        ),
        *(_best_of_four(groups, "delayed-match", recurrent, "hidden-5") for recurrent in (True, False)),
        _reaches(groups, f"{PAPER}-delay-2500", 0.99, "HetSyn bridges a delay of 2,500 ms (paper: 100%)"),
        _reaches(
            groups, "masked-0.8", 0.99, "HetSyn still solves it with 80% of the time constants masked (paper: 100%)"
        ),
        _cue_and_noise(groups),
        *(
            _robust(groups, experiment, curve)
            for experiment in ("delayed-match", "speech", "shd", "vision-rows")
            for curve in ("deletion", "warp")
        ),
        _robust(groups, "delayed-match", "noise"),
        _best_of_four(groups, "delayed-match", True, "noise-channels-90"),
        _ordering(groups, "speech", ("hetsyn", "hetneu", "alif", "homneu")),
        _best_of_four(groups, "shd", True),
        _best_of_four(groups, "vision-rows", True),
        _best_of_four(groups, "vision-pixels", True),
        _shd(groups),
        *(
            _untestable(claim, why)
            for claim, why in (
                ("TiDigits: HetSyn 99.0%", "licensed data"),
                ("Ti46-Alpha: HetSyn 96.5%", "licensed data"),
                (
                    "Sequential MNIST, 60,000 images: HetSyn 98.9%",
                    "5,000 images are freely available: see vision-pixels",
                ),
            )
        ),
        _lesion(groups),
        *(_matched(groups, experiment, "same-parameters") for experiment in _MATCHED),
        *(_matched(groups, experiment, "same-state") for experiment in _MATCHED),
        *(_bank_costs_little(groups, experiment, 8) for experiment in _JUDGED_EXACT),
        *(_int8_costs_little(groups, experiment) for experiment in _JUDGED_EXACT),
    ]


_JUDGED_EXACT = ("delayed-match", "vision-rows", "speech", "shd")
_MATCHED = ("pattern-generation", "delayed-match", "vision-rows")


def _finding(claim: str, source: Literal["paper", "ours"], rule: str, judge: Callable[[], tuple[str, bool]]) -> Finding:
    try:
        numbers, holds = judge()
    except NotYetRun as error:
        return Finding(claim, source, rule, str(error), "not yet run")
    return Finding(claim, source, rule, numbers, "reproduced" if holds else "not reproduced")


def _shd(groups: Groups) -> Finding:
    """From runs on SHD itself alone; the synthesised set decides nothing about it."""
    if any(result.run["experiment"] == "shd-recorded" for result in groups.results):
        return _ordering(groups, "shd-recorded", ("hetsyn", "hetneu", "alif", "homneu"))
    why = "the data set is not on the project's machines; with its files, run `hetsyn experiment shd-recorded`"
    return _untestable("SHD: HetSyn 92.4%, ordering of the four", why)


def _where(experiment: str) -> str:
    return "shd (synthesised voices, not SHD)" if experiment == "shd" else experiment


def _untestable(claim: str, why: str) -> Finding:
    return Finding(claim, "paper", "", why, "not testable here")


def _towards_better(metric: str, values: Sequence[float]) -> list[float]:
    return [value if metric == "accuracy" else -value for value in values]


def _kind(recurrent: bool) -> str:
    return "recurrent" if recurrent else "feedforward"


def _best_of_four(groups: Groups, experiment: str, recurrent: bool, condition: str = "base") -> Finding:
    def judge() -> tuple[str, bool]:
        four = groups.four(experiment, condition, recurrent)
        metric = four["hetsyn"].metric
        ours = _towards_better(metric, four["hetsyn"].values())
        holds = all(clearly_above(ours, _towards_better(metric, four[model].values())) for model in OTHERS)
        return ", ".join(f"{NAMES[m]} {spread(metric, g.values())}" for m, g in four.items()), holds

    where = f"{_where(experiment)}, {_kind(recurrent)}, {'equal search' if condition == 'base' else condition}"
    source: Literal["paper", "ours"] = "ours" if experiment == "shd" else "paper"
    return _finding(f"HetSyn is the best of the four: {where}", source, "better than each of the others", judge)


def _ordering(groups: Groups, experiment: str, order: tuple[str, ...]) -> Finding:
    def judge() -> tuple[str, bool]:
        four = groups.four(experiment, "base")
        ordered = [four[model] for model in order]
        metric = ordered[0].metric
        ranked = [_towards_better(metric, group.values()) for group in ordered]
        holds = all(clearly_above(a, b) for a, b in pairwise(ranked))
        numbers = (f"{NAMES[m]} {spread(metric, g.values())}" for m, g in zip(order, ordered, strict=True))
        return ", ".join(numbers), holds

    ranking = " > ".join(NAMES[model] for model in order)
    return _finding(f"{experiment}: {ranking}", "paper", "each better than the next", judge)


def _reaches(groups: Groups, condition: str, goal: float, claim: str, recurrent: bool = True) -> Finding:
    def judge() -> tuple[str, bool]:
        group = groups.get("delayed-match", condition, "hetsyn", recurrent)
        return spread(group.metric, group.values()), fmean(group.values()) >= goal

    return _finding(f"{claim}: {condition}, {_kind(recurrent)}", "paper", f"mean at least {100 * goal:g}%", judge)


def _cue_and_noise(groups: Groups) -> Finding:
    def judge() -> tuple[str, bool]:
        group = groups.get("delayed-match", PAPER, "hetsyn")

        def ratio(name: str) -> list[float]:
            return group.values(lambda r: _change(r.analysis["time_constants"][name]))

        cue, noise = ratio("cue"), ratio("noise")
        numbers = f"geometric mean of tau, after / before: cue {fmean(cue):.2f}, noise {fmean(noise):.2f}"
        unchanged = [1.0] * len(cue)
        return numbers, clearly_above(cue, unchanged) and clearly_above(unchanged, noise)

    return _finding(
        "Time constants of cue channels grow, those of noise channels shrink (delayed match)",
        "paper",
        "ratio clearly above 1 for cues, clearly below 1 for noise",
        judge,
    )


def _change(group: dict[str, Any]) -> float:
    return float(group["after"]["log_mean"] / group["before"]["log_mean"])


def _robust(groups: Groups, experiment: str, curve: str) -> Finding:
    def judge() -> tuple[str, bool]:
        four = groups.four(experiment, "base")
        means = {model: group.values(mean_of_curve(curve)) for model, group in four.items()}
        metric = four["hetsyn"].metric
        ours = _towards_better(metric, means["hetsyn"])
        holds = all(clearly_above(ours, _towards_better(metric, means[model])) for model in OTHERS)
        return ", ".join(f"{NAMES[m]} {spread(metric, v)}" for m, v in means.items()), holds

    what = {"deletion": "deleted spikes", "warp": "warped time", "noise": "louder and quieter noise channels"}[curve]
    return _finding(
        f"HetSyn is the most robust to {what} at test time: {_where(experiment)}",
        "ours" if experiment == "shd" else "paper",
        "mean over the curve better than each of the others'",
        judge,
    )


def _lesion(groups: Groups) -> Finding:
    def judge() -> tuple[str, bool]:
        group = groups.get("delayed-match", PAPER, "hetsyn")

        def without(which: str) -> list[float]:
            return group.values(
                lambda r: next(
                    row["figure"] for row in r.analysis["lesion"] if row["which"] == which and row["share"] == 0.1
                )
            )

        longest, random = without("longest"), without("random")
        numbers = f"without the longest tenth {spread(group.metric, longest)}"
        numbers += f", without a random tenth {spread(group.metric, random)}"
        return numbers, clearly_above(random, longest)

    return _finding(
        "The long time constants carry the memory (delayed match)",
        "ours",
        "cutting the longest tenth is worse than cutting a random tenth",
        judge,
    )


def _matched(groups: Groups, experiment: str, condition: str) -> Finding:
    def judge() -> tuple[str, bool]:
        pair = groups.get(experiment, condition, "hetsyn"), groups.get(experiment, "base", "hetneu")
        ours, theirs = on_the_same_seeds(pair)
        metric = ours.metric
        small, large = ours.results[0], theirs.results[0]
        numbers = (
            f"HetSyn {_layers(small)} {spread(metric, ours.values())} ({small.parameters:,} values, "
            f"{small.state_bytes['bank']:,} bytes as a bank), HetNeu {_layers(large)} "
            f"{spread(metric, theirs.values())} ({large.parameters:,} values, {large.state_bytes['exact']:,} bytes)"
        )
        holds = clearly_above(_towards_better(metric, ours.values()), _towards_better(metric, theirs.values()))
        return numbers, holds

    what = "trained values" if condition == "same-parameters" else "bytes of state"
    return _finding(f"HetSyn beats HetNeu with as many {what}: {experiment}", "ours", "better", judge)


def _layers(result: RunResult) -> str:
    return "-".join(str(size) for size in result.run["task_spec"]["hidden"])


def _bank_costs_little(groups: Groups, experiment: str, size: int) -> Finding:
    def judge() -> tuple[str, bool]:
        group = groups.get(experiment, "base", "hetsyn")

        def row(result: RunResult, form: str) -> dict[str, Any]:
            rows: list[dict[str, Any]] = result.analysis["bank"]
            return next(r for r in rows if r["form"] == form and r.get("size", size) == size)

        exact, bank = (group.values(lambda r, f=form: row(r, f)["figure"]) for form in ("exact", "bank"))  # type: ignore[misc]
        first = group.results[0]
        numbers = (
            f"exact {spread(group.metric, exact)} in {row(first, 'exact')['state_bytes']:,} bytes, "
            f"bank {spread(group.metric, bank)} in {row(first, 'bank')['state_bytes']:,}"
        )
        return numbers, fmean(exact) - fmean(bank) <= 0.01

    return _finding(
        f"A bank of {size} decays is as good as a current a synapse: {_where(experiment)}",
        "ours",
        "mean accuracy at most a point below the exact form's",
        judge,
    )


def _int8_costs_little(groups: Groups, experiment: str) -> Finding:
    def judge() -> tuple[str, bool]:
        group = groups.get(experiment, "base", "hetsyn")

        def row(result: RunResult, weights: str) -> dict[str, Any]:
            rows: list[dict[str, Any]] = result.analysis["weights"]
            return next(r for r in rows if r["form"] == "bank" and r["weights"] == weights)

        wide, narrow = (group.values(lambda r, w=w: row(r, w)["figure"]) for w in ("float32", "int8"))  # type: ignore[misc]
        numbers = f"float32 {spread(group.metric, wide)}, int8 {spread(group.metric, narrow)}"
        return numbers, fmean(wide) - fmean(narrow) <= 0.01

    return _finding(
        f"The bank's weights fit in 8 bits: {_where(experiment)}",
        "ours",
        "mean accuracy at most a point below that of float32",
        judge,
    )
