"""What the rules compare: one number of a finished run, on a scale on which more is better and differences add up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

import numpy as np

from research.catalog import EXPERIMENTS
from research.runs.analysis import DELETED, TAU_EDGES_STEPS
from research.runs.names import NAMES
from research.runs.paper_figures import EXACT_STREAMS
from research.runs.plan import Experiment
from research.runs.results import RunResult

Unit = Literal["points", "error", "mse", "factor", "updates", "share"]
LEAST = 1e-6  # of what has a logarithm: a silent network's distance is 0, and so is the share of what nobody has


class NotMeasured(Exception):
    """A finished run is older than a measure that a claim needs."""


@dataclass(frozen=True)
class Measure:
    """A number of a run.

    Attributes:
        name: in the report.
        of: the number itself.
        unit: how numbers are compared. "points": accuracy, in points of a hundred. "share": likewise, of something
            that is no accuracy. "error": the logarithm, less is better; differences are factors. "mse": an error as it
            is. "factor": the logarithm, more is more. "updates": of training, less is better. None: points or error,
            by the metric of the run.
        streams: that an accuracy was tested on.
        is_reached: whether the number is one that the run had, and not one that stands for "never".
    """

    name: str
    of: Callable[[RunResult], float]
    unit: Unit | None = None
    streams: Callable[[RunResult], int] = lambda result: changed_streams(result)
    is_reached: Callable[[RunResult], bool] = lambda result: True  # noqa: ARG005

    def unit_of(self, result: RunResult) -> Unit:
        return self.unit or ("points" if result.metric == "accuracy" else "error")

    def score(self, result: RunResult) -> float:
        """The run's number, on the scale of its unit."""
        return scored(self.of(result), self.unit_of(result))

    def resolution(self, result: RunResult) -> float:
        """The smallest deviation between runs to believe: one stream, or the updates between two evaluations."""
        unit = self.unit_of(result)
        if unit == "points":
            return 100.0 / self.streams(result)
        if unit != "updates":
            return 0.0
        # of a long history the result keeps some evaluations only
        apart = [later[0] - earlier[0] for earlier, later in pairwise(result.curve)]
        return float(max([result.run["training"]["evaluate_every"], *apart]))


def scored(value: float, unit: Unit) -> float:
    """A number on the scale of a unit, on which more is better."""
    if unit in ("points", "share"):
        return 100.0 * value
    if unit in ("updates", "mse"):
        return -value
    logarithm = math.log(max(value, LEAST))
    return logarithm if unit == "factor" else -logarithm


def unscored(score: float, unit: Unit) -> float:
    """The number of a score; of accuracy and shares, in percent."""
    if unit in ("points", "share"):
        return score
    if unit in ("updates", "mse"):
        return -score
    return math.exp(score) if unit == "factor" else math.exp(-score)


@lru_cache
def plan_of(name: str) -> Experiment:
    return EXPERIMENTS[name]()


def changed_streams(result: RunResult) -> int:
    return plan_of(result.run["experiment"]).changed_streams


def analysis_streams(result: RunResult) -> int:
    return plan_of(result.run["experiment"]).analysis_streams


def test_streams(result: RunResult) -> int:
    """Of the whole test, where result or task say it; else at least as many as changed inputs had."""
    if result.exact:
        return int(result.exact["streams"])
    return int(result.run["task_spec"].get("test_trials", changed_streams(result)))


FIGURE = Measure("figure", lambda result: result.figure, streams=test_streams)
ERROR_ITSELF = Measure("error", lambda result: result.figure, "mse")


def curve_mean(name: str) -> Measure:
    """Mean figure over a test-time curve, the point of no change left out."""

    def mean(result: RunResult) -> float:
        return fmean(figure for point, figure in result.analysis[name] if point != 0.0)

    return Measure("mean over the curve", mean)


def curve_point(name: str, point: float) -> Measure:
    """Figure at a point of a test-time curve."""
    return Measure(f"{name} {point:g}", lambda result: float(dict(result.analysis[name])[point]))


def _lost(result: RunResult) -> float:
    kept = dict(result.analysis["deletion"])
    return float(kept[DELETED[-1]] - kept[DELETED[-2]])


MOST_DELETED = Measure(
    f"{DELETED[-1]:.0%} deleted", lambda result: float(dict(result.analysis["deletion"])[DELETED[-1]]), "points"
)
DELETION_LOSS = Measure(f"change from {DELETED[-2]:.0%} to {DELETED[-1]:.0%} deleted", _lost, "points")


def bank_row(result: RunResult, size: int | None) -> dict[str, Any]:
    """The row of the bank with so many decays; None is the exact form."""
    rows: list[dict[str, Any]] = result.analysis["bank"]
    return next(row for row in rows if (row["form"] == "exact") == (size is None) and row.get("size") == size)


def bank_figure(size: int | None) -> Measure:
    """The figure of a trained network whose banks are refitted, on the streams of the exact form."""
    name = "exact" if size is None else f"bank of {size}"
    return Measure(name, lambda result: float(bank_row(result, size)["figure"]), streams=analysis_streams)


def _exact_figure(result: RunResult) -> float:
    return float(result.exact["figure"] if result.exact else bank_row(result, None)["figure"])


EXACT = Measure(
    "exact form",
    _exact_figure,
    streams=lambda result: test_streams(result) if result.exact else analysis_streams(result),
)


def _exact_whole(result: RunResult) -> float:
    if not result.exact:
        run = result.run
        raise NotMeasured(
            f"{run['condition']}, {NAMES[run['model']]}: seed {run['seed']} is older than the exact form on the whole "
            "test; delete it from the results to run it again"
        )
    return float(result.exact["figure"])


# beside a figure of the whole test: the first streams of an ordered test can lack a class
EXACT_WHOLE = Measure("exact form, whole test", _exact_whole, streams=test_streams)


def weight_figure(weights: str) -> Measure:
    """The figure of the bank form with rounded weights."""

    def figure(result: RunResult) -> float:
        rows: list[dict[str, Any]] = result.analysis["weights"]
        return float(next(row["figure"] for row in rows if row["form"] == "bank" and row["weights"] == weights))

    return Measure(weights, figure, streams=analysis_streams)


def _change(group: dict[str, Any], mean: str) -> float:
    return float(group["after"][mean] / group["before"][mean])


def tau_change(result: RunResult, channels: str, mean: str = "log_mean") -> float:
    """The mean time constant of the synapses of some channels, after training over before.

    Args:
        result: of a run whose time constants were analysed.
        channels: a group of the task's.
        mean: ``log_mean`` (geometric) or ``median``.
    """
    return _change(result.analysis["time_constants"][channels], mean)


CUE_CHANGE = Measure(
    "tau of cue synapses, after over before (geometric means)", lambda result: tau_change(result, "cue"), "factor"
)
NOISE_CHANGE = Measure(
    "tau of noise synapses, after over before (geometric means)", lambda result: tau_change(result, "noise"), "error"
)
CUE_OVER_NOISE = Measure(
    "change of tau, cue over noise (geometric means)",
    lambda result: tau_change(result, "cue") / tau_change(result, "noise"),
    "factor",
)


def _medians_fall(result: RunResult) -> float:
    return max(_change(group, "median") for group in result.analysis["time_constants"].values())


MEDIANS_FALL = Measure("median of tau, after over before, of the layer where it falls least", _medians_fall, "error")


def share_above(result: RunResult, steps: float, group: str | None = None) -> float:
    """Share of the synapses of a group, or of all that are trained, whose tau is above so many steps.

    Histograms are read evenly within a bin.
    """
    edges = np.array(TAU_EDGES_STEPS)
    above = total = 0.0
    groups = result.analysis["time_constants"]
    for change in groups.values() if group is None else [groups[group]]:
        counts = np.array(change["after"]["counts"], float)
        inside = np.clip((np.log(edges[1:]) - math.log(steps)) / np.diff(np.log(edges)), 0.0, 1.0)
        above, total = above + float(counts @ inside), total + float(counts.sum())
    return above / total


TAIL = Measure("share of time constants above 20 steps", lambda result: share_above(result, 20.0), "error")
READOUT_TAIL = Measure(
    "share of the readout's time constants above 20 steps",
    lambda result: share_above(result, 20.0, "readout input"),
    "share",
)


def updates_until(goal: float) -> Measure:
    """Updates until the validation accuracy reaches a goal; one evaluation more than the run had if it never does."""

    def reached(result: RunResult) -> list[float]:
        return [update for update, _, figure in result.curve if figure >= goal]

    def updates(result: RunResult) -> float:
        training, found = result.run["training"], reached(result)
        return float(found[0]) if found else float(training["updates"] + training["evaluate_every"])

    return Measure(f"updates to {goal:.0%}", updates, "updates", is_reached=lambda result: bool(reached(result)))


LEARNING_CURVE = Measure(
    "geometric mean of the validation error over training",
    lambda result: math.exp(fmean(math.log(error) for _, _, error in result.curve)),
    "error",
)


NORMALISED_DISTANCE = Measure(
    "normalised distance of two occurrences", lambda result: float(result.analysis["distance"]), "factor"
)
OUTPUT_IN_GAPS = Measure(
    "mean absolute output in the gaps, over the target's",
    lambda result: float(result.analysis["gaps"]["output"] / result.analysis["gaps"]["target"]),
    "error",
)
LONG_SHARE = Measure(
    "share of time constants above 700 ms", lambda result: float(result.analysis["long"]["share"]), "share"
)
LONG_RESET = Measure(
    "time constants above 700 ms reset", lambda result: float(result.analysis["long"]["reset"]), streams=test_streams
)


def form_figure(form: str, unit: Unit | None = None) -> Measure:
    """The figure of a trained network in one form, on the same part of the test; of the paper's own tasks."""
    streams = lambda result: EXACT_STREAMS[result.run["task"]]  # noqa: E731
    return Measure(form, lambda result: float(result.analysis["forms"][form]), unit, streams)
