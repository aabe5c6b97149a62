"""The kept results as a table, and the numbers of a run that the page compares."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

RESULTS = Path(__file__).resolve().parents[1] / "results"
COMMANDS = RESULTS.parents[1] / "recipes/speech/results/test"
COMMANDS_POWER = "3"  # the decision as served: later steps count more
SPEECH_MODELS = {  # of the recipe; model and condition here
    **{model: (model, f"{model}-whole") for model in ("hetsyn", "hetneu", "alif", "gru")},
    "lif": ("homneu", "homneu-whole"),
    "dh-snn": ("dh-snn", "dh-snn-4-whole"),
    "free-bank": ("free-bank", "free-bank-2-whole"),
}
KEYS = ["experiment", "condition", "model", "recurrent", "seed"]
LEAST = 1e-6  # of what has a logarithm: a silent network's distance is 0
TAU_EDGES_STEPS = np.geomspace(1.0, 2048.0, 23)  # of the kept histograms
MEANS = ("geometric", "median", "arithmetic", "of decays")
LATE = 0.4  # share of the evaluations before the late ones: 40 of 100 epochs
Run = Any  # a row of the table


def read_results(folder: Path = RESULTS) -> pd.DataFrame:
    """Read the finished runs without those of searches, and the speech recipe's, one a row, by KEYS.

    Raises:
        ValueError: two runs have the same keys, so one of them is of an earlier plan.
    """
    tables = [pd.DataFrame(json.loads(gzip.decompress(path.read_bytes()))) for path in sorted(folder.glob("*.json.gz"))]
    if not tables:
        raise ValueError(f"{folder}: no results (*.json.gz)")
    results = pd.concat(tables, ignore_index=True)
    results = results.join(pd.DataFrame(results.pop("run").tolist()))
    results = pd.concat([results, read_commands()], ignore_index=True)
    results = results[~results["condition"].str.startswith("search")].set_index(KEYS).sort_index()
    if twice := results.index[results.index.duplicated()].tolist():
        raise ValueError(f"two runs of {twice[0]}: delete the one of the earlier plan from {folder}")
    return results


def read_commands(folder: Path = COMMANDS) -> pd.DataFrame:
    """Read the speech recipe's networks of equal numbers of trained values, as rows of the other table."""
    rows = []
    for path in sorted(folder.glob("commands-*-*.json")):
        label, seed = path.stem.removeprefix("commands-").rsplit("-", 1)
        if label not in SPEECH_MODELS:
            continue
        model, condition = SPEECH_MODELS[label]
        result = json.loads(path.read_text())
        closed = result["people"]["clean"][COMMANDS_POWER]["closed"]
        rows.append(
            dict(zip(KEYS, ("equal-commands", condition, model, True, int(seed)), strict=True))
            | {"figure": closed["right"] / closed["of"], "metric": "accuracy", "parameters": result["values"]}
            | {"task_spec": {"test_trials": closed["of"]}}
        )
    return pd.DataFrame(rows)


class Measure(NamedTuple):
    """A number of a run, and how two of them are compared.

    Units are "points" of accuracy, a "share", "error" and "factor" by their logarithms, "mse" as it is, "updates";
    None is points or error, by the metric of the run.
    """

    of: Callable[[Run], float]
    unit: str | None = None

    def unit_of(self, run: Run) -> str:
        return self.unit or ("points" if run["metric"] == "accuracy" else "error")

    def score(self, run: Run) -> float:
        """Give the number on a scale on which more is better and differences add up."""
        return scored(self.of(run), self.unit_of(run))

    def resolution(self, run: Run) -> float:
        """Give the smallest deviation between runs to believe: a test stream, or the updates between evaluations."""
        if self.unit_of(run) == "points":
            exact = run["exact"] if isinstance(run["exact"], dict) else {}
            streams = exact.get("streams") or run["task_spec"].get("test_trials")
            return 100.0 / streams if streams else 0.0
        if self.unit_of(run) == "updates":
            apart = [later[0] - earlier[0] for earlier, later in pairwise(run["curve"])]
            return float(max([run["training"]["evaluate_every"], *apart]))
        return 0.0


def scored(value: float, unit: str) -> float:
    if unit in ("points", "share"):
        return 100.0 * value
    if unit in ("mse", "updates"):
        return -value
    logarithm = math.log(max(value, LEAST))
    return logarithm if unit == "factor" else -logarithm


def _updates_to(goal: float) -> Measure:
    """Count updates until the validation accuracy reaches a goal; if it never does, one evaluation more."""

    def updates(run: Run) -> float:
        reached = [update for update, _, figure in run["curve"] if figure >= goal]
        return float(reached[0] if reached else run["training"]["updates"] + run["training"]["evaluate_every"])

    return Measure(updates, "updates")


def tau_change(run: Run, group: str, mean: str) -> float:
    """Compute a mean of a group's time constants, after training over before; the last two means are of histograms."""

    def of(side: dict[str, Any]) -> float:
        if mean in ("geometric", "median"):
            return float(side["log_mean" if mean == "geometric" else "median"])
        middle = np.sqrt(TAU_EDGES_STEPS[:-1] * TAU_EDGES_STEPS[1:])
        if mean == "arithmetic":
            return float(np.average(middle, weights=side["counts"]))
        return -1 / math.log(float(np.average(np.exp(-1 / middle), weights=side["counts"])))

    change = run["analysis"]["time_constants"][group]
    return of(change["after"]) / of(change["before"])


def share_above(run: Run, group: str, steps: float) -> float:
    """Compute the share of a group's time constants above some steps. Within a bin they count as spread evenly."""
    counts = np.array(run["analysis"]["time_constants"][group]["after"]["counts"], float)
    edges = np.log(TAU_EDGES_STEPS)
    inside = np.clip((edges[1:] - math.log(steps)) / np.diff(edges), 0.0, 1.0)
    return float(counts @ inside / counts.sum())


def _curve(run: Run, name: str) -> dict[float, float]:
    return dict(run["analysis"][name])


def _changed(name: str) -> Measure:
    return Measure(lambda run: fmean(value for point, value in _curve(run, name).items() if point))


def _warped(log2: float) -> Measure:
    return Measure(lambda run: _curve(run, "warp")[log2])


def _tested(run: Run) -> list[float]:
    return [figure for _, figure in run["analysis"]["test_by_epoch"]]


MEASURES: dict[str, Measure] = {
    "figure": Measure(lambda run: float(run["figure"])),
    "error itself": Measure(lambda run: float(run["figure"]), "mse"),
    "exact form": Measure(lambda run: float(run["exact"]["figure"])),
    "served form": Measure(lambda run: float(run["analysis"]["forms"]["bank"]), "error"),
    "served form, exact": Measure(lambda run: float(run["analysis"]["forms"]["exact"]), "error"),
    "updates to 95%": _updates_to(0.95),
    "updates to 80%": _updates_to(0.80),
    "error over training": Measure(lambda run: math.exp(fmean(math.log(e) for _, _, e in run["curve"])), "error"),
    "normalised distance": Measure(lambda run: float(run["analysis"]["distance"]), "factor"),
    "output in the gaps": Measure(
        lambda run: float(run["analysis"]["gaps"]["output"] / run["analysis"]["gaps"]["target"]), "error"
    ),
    "long reset": Measure(lambda run: float(run["analysis"]["long"]["reset"])),
    "whole recordings": Measure(lambda run: float(run["analysis"]["stream"]["whole"]), "share"),
    "deleted": _changed("deletion"),
    "64% deleted": Measure(lambda run: _curve(run, "deletion")[0.64], "points"),
    "loss from 32% to 64%": Measure(
        lambda run: _curve(run, "deletion")[0.64] - _curve(run, "deletion")[0.32], "points"
    ),
    **{f"warp {log2:g}": _warped(log2) for log2 in np.linspace(-0.5, 0.5, 9).tolist() if log2},
    "medians": Measure(
        lambda run: max(tau_change(run, group, "median") for group in run["analysis"]["time_constants"]), "error"
    ),
    "readout above 20": Measure(lambda run: share_above(run, "readout input", 20.0), "share"),
    "best by test": Measure(lambda run: max(_tested(run)), "points"),
    "late mean": Measure(lambda run: fmean(_tested(run)[round(LATE * len(_tested(run))) :]), "points"),
    **{f"cue, {mean}": Measure(lambda run, m=mean: tau_change(run, "cue", m), "factor") for mean in MEANS},  # type: ignore[misc]
    **{f"noise, {mean}": Measure(lambda run, m=mean: tau_change(run, "noise", m), "error") for mean in MEANS},  # type: ignore[misc]
    **{
        f"cue over noise, {mean}": Measure(
            lambda run, m=mean: tau_change(run, "cue", m) / tau_change(run, "noise", m),  # type: ignore[misc]
            "factor",
        )
        for mean in MEANS
    },
}
