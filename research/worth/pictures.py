"""The pictures of the page; opaque, so that they read on a dark page as well."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from statsmodels.stats.proportion import proportion_confint

from research.catalog.equal import COMPARED
from research.catalog.paper_tasks import EVERY_TAU_MS
from research.runs.names import NAMES
from research.worth.judge import SUCCESS, Groups, interval
from research.worth.measures import MEANS, TAU_EDGES_STEPS, Run, tau_change

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

COLOURS = {"hetsyn": "#c1272d", "hetneu": "#0000a7", "alif": "#008176", "homneu": "#777777"}
OTHER_COLOURS = {"dh-snn-4": "#9b59b6", "free-bank-2": "#e67e22", "free-bank-4": "#f5b041"}
EQUAL_COLOURS = COLOURS | OTHER_COLOURS | {"lstm": "#111111", "gru": "#5d7b3a"}
PG, DM, PAPER = "pattern-generation", "delayed-match", "paper-settings"
BASE, TAUS_MS = "base", (100, 200, 400)
OTHERS = ("hetneu", "alif", "homneu")
MODELS = ("hetsyn", *OTHERS)
EQUAL_TASKS = {task: f"equal-{task}" for task in ("trace", "cue", "series", "clothes", "motion", "commands")}
LSTM_RUNS = {"series": "mnist1d", "motion": "motion"}
EQUAL_MODELS = {f"{model}-{filters}" if filters else str(model): str(model) for model, filters in COMPARED}
EQUAL_NAMES = {label: NAMES[model] for label, model in EQUAL_MODELS.items()} | {
    "free-bank-2": "free bank of 2",
    "free-bank-4": "free bank of 4",
}
TRACE_EVERY_S = 0.02
PAPER_CHANGES = {"cue": (1.54, 1.26, 1.08), "noise": (0.86, 0.91, 0.96)}  # Table 4, from 100, 200, 400 ms


def trace_errors(groups: Groups, path: Path) -> None:
    """Draw the error of pattern generation: a dot a seed, a bar at the geometric mean."""
    figure, panels = plt.subplots(1, 3, figsize=(8, 3), layout="constrained", sharey=True)
    shown = ("recurrent", PAPER, True), ("feedforward", PAPER, False), ("recurrent, searched", BASE, True)
    for panel, (title, condition, recurrent) in zip(panels, shown, strict=True):
        names = []
        for place, model in enumerate(MODELS):
            errors = [run["figure"] for run in groups[(PG, condition, model, recurrent)].values()]
            beside = place + np.linspace(-0.25, 0.25, len(errors))
            panel.plot(beside, errors, "o", color=COLOURS[model], alpha=0.5, markersize=3, markeredgewidth=0)
            mean = math.exp(fmean(map(math.log, errors)))
            panel.plot([place - 0.35, place + 0.35], [mean, mean], color=COLOURS[model], linewidth=2)
            names.append(f"{NAMES[model]}\n{mean:.2g}")
        panel.set(title=title, yscale="log")
        panel.set_xticks(range(len(MODELS)), names)
    panels[0].set_ylabel("mean squared error")
    save(figure, panels, path)


def traces(groups: Groups, path: Path) -> None:
    """Draw the target and what each model draws, in two trials of the first seed."""
    figure, panels = plt.subplots(len(MODELS), 1, figsize=(8, 5), layout="constrained", sharex=True, sharey=True)
    for panel, model in zip(panels, MODELS, strict=True):
        run = groups[(PG, PAPER, model, True)][0]
        (trace,) = run["analysis"]["traces"]
        time_s = np.arange(len(trace["target"])) * TRACE_EVERY_S
        panel.plot(time_s, trace["target"], color="black", linewidth=1)
        for output in trace["outputs"]:
            panel.plot(time_s, output, color=COLOURS[model], linewidth=1, alpha=0.7)
        panel.set_title(f"{NAMES[model]}, error {run['figure']:.2g}", fontsize=9, loc="left")
        for start in (0.5, 1.25):
            panel.axvspan(start, start + 0.25, color="#000000", alpha=0.08, linewidth=0)
    panels[-1].set_xlabel("time, s; black: target; grey: no input but noise")
    save(figure, panels, path)


def cue_success(groups: Groups, path: Path) -> None:
    """Draw the share of runs that solve delayed match, with Wilson's intervals."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
    for panel, recurrent in zip(panels, (True, False), strict=True):
        for place, size in enumerate((5, 20, 50, 100)):
            condition = PAPER if size == 100 else f"{PAPER}-hidden-{size}"
            for index, model in enumerate(MODELS):
                rate, low, high = _share(list(groups[(DM, condition, model, recurrent)].values()))
                x = place + 0.2 * (index - 1.5)
                panel.bar(x, rate, 0.2, color=COLOURS[model], label=NAMES[model] if place == 0 else None)
                panel.errorbar([x], [rate], [[rate - low], [high - rate]], color="black", capsize=2, linewidth=1)
        panel.set(title="recurrent" if recurrent else "feedforward", xlabel="hidden neurons", ylim=(0, 105))
        panel.set_xticks(range(4), ["5", "20", "50", "100"])
    panels[0].set_ylabel("successful runs, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    save(figure, panels, path)


def cue_time_constants(groups: Groups, path: Path) -> None:
    """Draw how often five neurons solve delayed match, by time constant, with Wilson's intervals."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
    conditions = {40: f"{PAPER}-hidden-5"} | {ms: f"tau-{ms}-hidden-5" for ms in EVERY_TAU_MS}
    for panel, recurrent in zip(panels, (True, False), strict=True):
        for index, model in enumerate(MODELS):
            shares = [
                _share(list(groups[(DM, conditions[ms], model, recurrent)].values())) for ms in sorted(conditions)
            ]
            x = np.array(sorted(conditions)) * 1.03 ** (index - 1.5)  # side by side
            rate, low, high = np.array(shares).T
            panel.errorbar(
                *(x, rate, [rate - low, high - rate]),
                color=COLOURS[model],
                label=NAMES[model],
                marker="o",
                markersize=4,
                capsize=2,
            )
        panel.set(
            title="recurrent" if recurrent else "feedforward", xlabel="time constant, ms", xscale="log", ylim=(-3, 103)
        )
        panel.set_xticks([], minor=True)
        panel.set_xticks((20, 50, 100, 200, 400, 800), ["20", "50", "100", "200", "400", "800"])
    panels[0].set_ylabel("successful runs, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    save(figure, panels, path)


def trained_values(groups: Groups, path: Path) -> None:
    """Draw networks with as many trained values as HetSyn, and with half of them, on six tasks."""
    labels = EQUAL_MODELS | {"lstm": "lstm", "gru": "gru"}
    known = {task: name for task, name in EQUAL_TASKS.items() if (name, "hetsyn-whole", "hetsyn", True) in groups}
    rows = -(-len(known) // 3)
    figure, grid = plt.subplots(rows, 3, figsize=(10, 3 * rows), layout="constrained", squeeze=False)
    for panel in grid.flat[len(known) :]:
        panel.set_visible(False)
    for panel, (task, experiment) in zip(grid.flat, known.items(), strict=False):
        ticks: dict[int, str] = {}
        for place, size in enumerate(("half", "whole")):
            for index, (label, model) in enumerate(labels.items()):
                runs = list(groups.get((experiment, f"{label}-{size}", model, True), {}).values())
                if label == "lstm" and size == "whole" and task in LSTM_RUNS:
                    runs = list(groups[(LSTM_RUNS[task], BASE, "lstm", True)].values())
                if runs:
                    middle, low, high = _share(runs) if task == "cue" else _mean(runs)
                    ends = [[middle - low], [high - middle]]
                    x = [place + 0.1 * (index - 4)]
                    panel.errorbar(x, [middle], ends, fmt="o", color=EQUAL_COLOURS[label], capsize=3)
                    ticks.setdefault(place, f"{runs[0]['parameters']:,} values")
        panel.set_title(task)
        panel.set_xticks(list(ticks), list(ticks.values()))
        panel.set_yscale("log" if task == "trace" else "linear")
        panel.set_ylabel({"trace": "mean squared error", "cue": "successful runs, %"}.get(task, "accuracy, %"))
    handles = [Line2D([], [], color=EQUAL_COLOURS[label], marker="o", linestyle="") for label in labels]
    names = [EQUAL_NAMES.get(label, NAMES[model]) for label, model in labels.items()]
    figure.legend(handles, names, loc="outside upper center", ncols=5, frameon=False)
    save(figure, grid.flat, path)


def _mean(runs: Sequence[Run]) -> tuple[float, float, float]:
    """Compute the mean figure with Student's interval. Errors have a geometric mean."""
    is_error = runs[0]["metric"] == "mse"
    scores = [math.log(run["figure"]) if is_error else 100 * run["figure"] for run in runs]
    ends = fmean(scores), *interval(scores)
    low, middle, high = sorted(math.exp(end) if is_error else end for end in ends)
    return middle, low, high


def _share(runs: Sequence[Run]) -> tuple[float, float, float]:
    """Compute the share of successful runs in percent, with Wilson's interval."""
    won = sum(run["figure"] >= SUCCESS for run in runs)
    low, high = proportion_confint(won, len(runs), method="wilson")
    rate = 100 * won / len(runs)
    return rate, min(rate, 100 * low), max(rate, 100 * high)


def time_constants(groups: Groups, path: Path) -> None:
    """Draw Table 4: the changes of time constants by four means and the paper's, and one histogram."""
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    histogram, *changes = panels
    runs = groups[(DM, f"{PAPER}-tau-100", "hetsyn", True)].values()
    middle = 5 * np.sqrt(TAU_EDGES_STEPS[:-1] * TAU_EDGES_STEPS[1:])
    for group, when, colour in (
        ("cue", "before", "#999999"),
        ("cue", "after", "#c1272d"),
        ("noise", "after", "#0000a7"),
    ):
        counts = np.sum([run["analysis"]["time_constants"][group][when]["counts"] for run in runs], axis=0)
        label = "before" if when == "before" else f"{group} synapses, after"
        histogram.step(middle, 100 * counts / counts.sum(), where="mid", color=colour, label=label)
    histogram.set(xscale="log", xlabel="time constant, ms", ylabel="synapses, %", title="from 100 ms", ylim=(0, 40))
    histogram.legend(frameon=False, fontsize=8)
    for panel, group in zip(changes, ("cue", "noise"), strict=True):
        panel.plot(TAUS_MS, PAPER_CHANGES[group], "k*--", markersize=9, label="the paper")
        for mean, marker in zip(MEANS, "osv^", strict=True):
            factors = [
                math.exp(fmean(math.log(tau_change(run, group, mean)) for run in found.values()))
                for ms in TAUS_MS
                for found in [groups[(DM, f"{PAPER}-tau-{ms}", "hetsyn", True)]]
            ]
            panel.plot(TAUS_MS, factors, f"{marker}-", label=f"mean: {mean}", linewidth=1)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set(title=f"{group} synapses", xlabel="initial time constant, ms", yscale="log", ylim=(0.2, 10))
        panel.set_xticks([], minor=True)
        panel.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["¼", "½", "1", "2", "4", "8"])
        panel.set_xticks(TAUS_MS)
    changes[0].set_ylabel("after training, over before")
    figure.legend(*changes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    save(figure, panels, path)


def cost(groups: Groups, path: Path) -> None:
    """Draw the error of pattern generation against the state of a stream."""
    figure, panel = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for label, condition, model, form in (
        ("HetSyn, a current a synapse", BASE, "hetsyn", "exact"),
        ("HetSyn, bank", BASE, "hetsyn", "bank"),
        ("HetSyn, bank, 27 neurons", "same-state", "hetsyn", "bank"),
        *((NAMES[model], BASE, model, "exact") for model in OTHERS),
    ):
        runs = list(groups[(PG, condition, model, True)].values())
        forms = [math.log(run["analysis"]["forms"][form]) for run in runs]
        x, y = runs[0]["state_bytes"][form], math.exp(fmean(forms))
        panel.plot(x, y, "o", color=COLOURS[model])
        panel.annotate(label, (x, y), (6, 3), textcoords="offset points", fontsize=8)
    panel.set(xscale="log", yscale="log", xlabel="state of a stream, bytes", ylabel="mean squared error")
    panel.set_xlim(right=1e6)
    panel.set_ylim(top=0.4)
    save(figure, [panel], path)


def save(figure: Any, panels: Iterable[Any], path: Path) -> None:
    """Write a figure, the same bytes for the same lines."""
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


PICTURES: dict[str, Callable[[Groups, Path], None]] = {
    "trace-errors.png": trace_errors,
    "traces.png": traces,
    "cue-success.png": cue_success,
    "cue-time-constants.png": cue_time_constants,
    "trained-values.png": trained_values,
    "time-constants.png": time_constants,
    "cost.png": cost,
}
