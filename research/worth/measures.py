"""The kept results, and the numbers of a run that the page compares."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any, NamedTuple

import numpy as np

from research.runs.analysis import TAU_EDGES_STEPS, WARPS_LOG2
from research.runs.results import RESULTS, TABLE, read_file

COMMANDS = RESULTS.parents[1] / "recipes/speech/results/test"
COMMANDS_POWER = "3"  # the decision as served: later steps count more
SPEECH_MODELS = {  # of the recipe; model and condition here
    **{model: (model, f"{model}-whole") for model in ("hetsyn", "hetneu", "alif", "gru")},
    "lif": ("homneu", "homneu-whole"),
    "dh-snn": ("dh-snn", "dh-snn-4-whole"),
    "free-bank": ("free-bank", "free-bank-2-whole"),
}
LEAST = 1e-6  # of what has a logarithm: a silent network's distance is 0
TAUS_STEPS = np.sqrt(np.multiply(TAU_EDGES_STEPS[:-1], TAU_EDGES_STEPS[1:]))  # in the middle of the histograms' bins
MEANS: dict[str, Callable[[dict[str, Any]], float]] = {  # of time constants; the last two by their histogram
    "geometric": lambda taus: taus["log_mean"],
    "median": lambda taus: taus["median"],
    "arithmetic": lambda taus: np.average(TAUS_STEPS, weights=taus["counts"]),
    "of decays": lambda taus: -1 / np.log(np.average(np.exp(-1 / TAUS_STEPS), weights=taus["counts"])),
}
LATE = 0.4  # share of the evaluations before the late ones: 40 of 100 epochs
Run = dict[str, Any]  # a result and its description in one
Groups = dict[tuple[str, str, str, bool], dict[int, Run]]  # by experiment, condition, model and recurrence; by seed


def read_results(folder: Path = RESULTS) -> Groups:
    """Read the finished runs without those of searches, and the speech recipe's; group those that differ in their seed.

    Raises:
        ValueError: two runs differ in nothing, so one of them is of an earlier plan; or there are none.
    """
    runs = [result.run | vars(result) for path in sorted(folder.glob(f"*{TABLE}")) for result in read_file(path)]
    if not runs:
        raise ValueError(f"{folder}: no results (*{TABLE})")
    groups: Groups = {}
    for run in sorted([*runs, *read_commands()], key=lambda run: int(run["seed"])):
        if run["condition"].startswith("search"):
            continue
        key = run["experiment"], run["condition"], run["model"], run["recurrent"]
        group = groups.setdefault(key, {})
        if run["seed"] in group:
            raise ValueError(f"two runs of {key}, {run['seed']}: delete the one of the earlier plan from {folder}")
        group[run["seed"]] = run
    return groups


def read_commands() -> Iterator[Run]:
    """Read the speech recipe's networks of equal numbers of trained values."""
    for label, (model, condition) in SPEECH_MODELS.items():
        for path in COMMANDS.glob(f"commands-{label}-*.json"):
            result = json.loads(path.read_text())
            closed = result["people"]["clean"][COMMANDS_POWER]["closed"]
            yield (
                {"experiment": "equal-commands", "condition": condition, "model": model, "recurrent": True}
                | {"seed": int(path.stem.rsplit("-", 1)[1]), "parameters": result["values"], "metric": "accuracy"}
                | {"figure": closed["right"] / closed["of"], "task_spec": {"test_trials": closed["of"]}}
            )


class Measure(NamedTuple):
    """A number of a run, and how two of them are compared.

    Units are "points" of accuracy, a "share", "error" and "factor" by their logarithms, "mse" as it is, "updates";
    None is points or error, by the metric of the run.
    """

    of: Callable[[Run], float]
    unit: str | None = None

    def unit_of(self, run: Run) -> str:
        return self.unit or ("points" if run["metric"] == "accuracy" else "error")

    def resolution(self, run: Run) -> float:
        """Give the smallest deviation between runs to believe: a test stream, or the updates between evaluations."""
        if self.unit_of(run) == "points":
            streams = run.get("exact", {}).get("streams") or run["task_spec"].get("test_trials")
            return 100.0 / streams if streams else 0.0
        if self.unit_of(run) == "updates":
            apart = np.diff([update for update, _, _ in run["curve"]])
            return float(max(run["training"]["evaluate_every"], *apart))
        return 0.0


def scored(value: float, unit: str) -> float:
    """Give a number on a scale on which more is better and differences add up."""
    if unit in ("points", "share"):
        return 100.0 * value
    if unit in ("mse", "updates"):
        return -value
    logarithm = math.log(max(value, LEAST))
    return logarithm if unit == "factor" else -logarithm


def updates_to(run: Run, goal: float) -> float:
    """Count updates until the validation accuracy reaches a goal; if it never does, one evaluation more."""
    never = run["training"]["updates"] + run["training"]["evaluate_every"]
    return float(next((update for update, _, figure in run["curve"] if figure >= goal), never))


def tau_change(run: Run, group: str, mean: str) -> float:
    """Compute a mean of a group's time constants, after training over before."""
    change = run["analysis"]["time_constants"][group]
    return float(MEANS[mean](change["after"]) / MEANS[mean](change["before"]))


def cue_over_noise(run: Run, mean: str) -> float:
    return tau_change(run, "cue", mean) / tau_change(run, "noise", mean)


def share_above(run: Run, group: str, steps: float) -> float:
    """Compute the share of a group's time constants above some steps. Within a bin they count as spread evenly."""
    below = np.cumsum([0, *run["analysis"]["time_constants"][group]["after"]["counts"]])
    return float(below[-1] - np.interp(math.log(steps), np.log(TAU_EDGES_STEPS), below)) / float(below[-1])


def curve_at(run: Run, name: str, point: float) -> float:
    return float(dict(run["analysis"][name])[point])


def tested(run: Run) -> list[float]:
    return [figure for _, figure in run["analysis"]["test_by_epoch"]]


MEASURES: dict[str, Measure] = {
    "figure": Measure(lambda run: run["figure"]),
    "error itself": Measure(lambda run: run["figure"], "mse"),
    "exact form": Measure(lambda run: run["exact"]["figure"]),
    "served form": Measure(lambda run: run["analysis"]["forms"]["bank"], "error"),
    "served form, exact": Measure(lambda run: run["analysis"]["forms"]["exact"], "error"),
    "updates to 95%": Measure(partial(updates_to, goal=0.95), "updates"),
    "updates to 80%": Measure(partial(updates_to, goal=0.80), "updates"),
    "error over training": Measure(lambda run: geometric_mean(error for _, _, error in run["curve"]), "error"),
    "normalised distance": Measure(lambda run: run["analysis"]["distance"], "factor"),
    "output in the gaps": Measure(
        lambda run: run["analysis"]["gaps"]["output"] / run["analysis"]["gaps"]["target"], "error"
    ),
    "long reset": Measure(lambda run: run["analysis"]["long"]["reset"]),
    "whole recordings": Measure(lambda run: run["analysis"]["stream"]["whole"], "share"),
    "deleted": Measure(lambda run: fmean(figure for share, figure in run["analysis"]["deletion"] if share)),
    "64% deleted": Measure(partial(curve_at, name="deletion", point=0.64)),
    "loss from 32% to 64%": Measure(lambda run: curve_at(run, "deletion", 0.64) - curve_at(run, "deletion", 0.32)),
    **{f"warp {log2:g}": Measure(partial(curve_at, name="warp", point=log2)) for log2 in WARPS_LOG2},
    "medians": Measure(
        lambda run: max(tau_change(run, group, "median") for group in run["analysis"]["time_constants"]), "error"
    ),
    "readout above 20": Measure(partial(share_above, group="readout input", steps=20.0), "share"),
    "best by test": Measure(lambda run: max(tested(run))),
    "late mean": Measure(lambda run: fmean(tested(run)[round(LATE * len(tested(run))) :])),
    **{f"cue, {mean}": Measure(partial(tau_change, group="cue", mean=mean), "factor") for mean in MEANS},
    **{f"noise, {mean}": Measure(partial(tau_change, group="noise", mean=mean), "error") for mean in MEANS},
    **{f"cue over noise, {mean}": Measure(partial(cue_over_noise, mean=mean), "factor") for mean in MEANS},
}
