"""What the rules compare: one number of a finished run, on a scale on which more is better and differences add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

import numpy as np

from experiments.analysis import DELETED, TAU_EDGES_STEPS
from experiments.catalog import EXPERIMENTS
from experiments.plan import Experiment
from experiments.results import RunResult

Unit = Literal["points", "error", "factor", "updates"]
LEAST = 1e-6  # of what has a logarithm: a silent network's distance is 0, and so is the share of what nobody has


@dataclass(frozen=True)
class Measure:
    """A number of a run.

    Attributes:
        name: in the report.
        of: the number itself.
        unit: how numbers are compared. "points": accuracy, in points of a hundred. "error": the logarithm, less is
            better; differences are factors. "factor": the logarithm, more is more. "updates": of training, less is
            better. None: points or error, by the metric of the run.
        streams: that an accuracy was tested on.
    """

    name: str
    of: Callable[[RunResult], float]
    unit: Unit | None = None
    streams: Callable[[RunResult], int] = lambda result: changed_streams(result)

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
        return float(result.run["training"]["evaluate_every"]) if unit == "updates" else 0.0


def scored(value: float, unit: Unit) -> float:
    """A number on the scale of a unit, on which more is better."""
    if unit == "points":
        return 100.0 * value
    if unit == "updates":
        return -value
    logarithm = math.log(max(value, LEAST))
    return logarithm if unit == "factor" else -logarithm


def unscored(score: float, unit: Unit) -> float:
    """The number of a score; of accuracy, in percent."""
    if unit == "points":
        return score
    if unit == "updates":
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
    """Of the whole test, where the task says it; else at least as many as changed inputs had."""
    return int(result.run["task_spec"].get("test_trials", changed_streams(result)))


FIGURE = Measure("figure", lambda result: result.figure, streams=test_streams)


def curve_mean(name: str) -> Measure:
    """Mean figure over a test-time curve, the point of no change left out."""

    def mean(result: RunResult) -> float:
        unchanged = result.run["task_spec"]["noise_hz"] if name == "noise" else 0.0
        return fmean(figure for point, figure in result.analysis[name] if point != unchanged)

    return Measure("mean over the curve", mean)


def _lost(result: RunResult) -> float:
    kept = dict(result.analysis["deletion"])
    return float(kept[DELETED[-1]] - kept[DELETED[-2]])


DELETION_LOSS = Measure(f"change from {DELETED[-2]:.0%} to {DELETED[-1]:.0%} deleted", _lost, "points")


def bank_row(result: RunResult, size: int | None) -> dict[str, Any]:
    """The row of the bank with so many decays; None is the exact form."""
    rows: list[dict[str, Any]] = result.analysis["bank"]
    return next(row for row in rows if (row["form"] == "exact") == (size is None) and row.get("size") == size)


def bank_figure(size: int | None) -> Measure:
    """The figure of a trained network whose banks are refitted, on the streams of the exact form."""
    name = "exact" if size is None else f"bank of {size}"
    return Measure(name, lambda result: float(bank_row(result, size)["figure"]), streams=analysis_streams)


def weight_figure(weights: str) -> Measure:
    """The figure of the bank form with rounded weights."""

    def figure(result: RunResult) -> float:
        rows: list[dict[str, Any]] = result.analysis["weights"]
        return float(next(row["figure"] for row in rows if row["form"] == "bank" and row["weights"] == weights))

    return Measure(weights, figure, streams=analysis_streams)


def lesion_figure(which: str, share: float) -> Measure:
    """The figure without a share of the synapses: those with the longest time constants, or random ones."""

    def figure(result: RunResult) -> float:
        rows: list[dict[str, Any]] = result.analysis["lesion"]
        return float(next(row["figure"] for row in rows if row["which"] == which and row["share"] == share))

    return Measure(
        f"without the {which} {share:.0%}" if which == "longest" else f"without {share:.0%} at random", figure
    )


def _change(group: dict[str, Any], mean: str) -> float:
    return float(group["after"][mean] / group["before"][mean])


CUE_OVER_NOISE = Measure(
    "change of tau, cue over noise (geometric means)",
    lambda result: (
        _change(result.analysis["time_constants"]["cue"], "log_mean")
        / _change(result.analysis["time_constants"]["noise"], "log_mean")
    ),
    "factor",
)


def _medians_fall(result: RunResult) -> float:
    return max(_change(group, "median") for group in result.analysis["time_constants"].values())


MEDIANS_FALL = Measure("median of tau, after over before, of the layer where it falls least", _medians_fall, "error")


def share_above(result: RunResult, steps: float) -> float:
    """Share of all trained synapses whose tau is above so many steps; histograms are read evenly within a bin."""
    edges = np.array(TAU_EDGES_STEPS)
    above = total = 0.0
    for group in result.analysis["time_constants"].values():
        counts = np.array(group["after"]["counts"], float)
        inside = np.clip((np.log(edges[1:]) - math.log(steps)) / np.diff(np.log(edges)), 0.0, 1.0)
        above, total = above + float(counts @ inside), total + float(counts.sum())
    return above / total


TAIL = Measure("share of time constants above 20 steps", lambda result: share_above(result, 20.0), "error")


def updates_until(goal: float) -> Measure:
    """Updates until the validation accuracy reaches a goal; one evaluation more than the run had if it never does."""

    def updates(result: RunResult) -> float:
        training = result.run["training"]
        reached = [update for update, _, figure in result.curve if figure >= goal]
        return float(reached[0]) if reached else float(training["updates"] + training["evaluate_every"])

    return Measure(f"updates to {goal:.0%}", updates, "updates")


LEARNING_CURVE = Measure(
    "geometric mean of the validation error over training",
    lambda result: math.exp(fmean(math.log(error) for _, _, error in result.curve)),
    "error",
)


def normalised_distance(result: RunResult) -> float:
    """Mean squared difference of the output between two occurrences of the template, over that of the target.

    First and second occurrence, second and third, in both kept trials. Traces are kept every 20 ms; between them the
    output is taken as straight.
    """
    spec, trace = result.run["task_spec"], result.analysis["trace"]
    length, period = spec["template_ms"], spec["template_ms"] + spec["gap_ms"]
    time_ms = np.arange(len(trace["target"])) * 20.0
    inside = np.arange(0.0, length, 20.0)

    def apart(values: Sequence[float]) -> float:
        pieces = [np.interp(inside + start * period, time_ms, values) for start in range(spec["repeats"])]
        return fmean(float(np.mean((a - b) ** 2)) for a, b in pairwise(pieces))

    return fmean(apart(output) for output in trace["outputs"]) / apart(trace["target"])


NORMALISED_DISTANCE = Measure("normalised distance of two occurrences", normalised_distance, "factor")
