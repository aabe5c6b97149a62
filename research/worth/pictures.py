"""The pictures of the page; opaque, so that they read on a dark page as well."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from statistics import fmean, geometric_mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from statsmodels.stats.proportion import proportion_confint

from research.catalog.equal import COMPARED
from research.catalog.paper_tasks import EVERY_TAU_MS, PG_TAU_STEPS
from research.runs.names import NAMES
from research.worth.judge import SUCCESS, interval
from research.worth.measures import MEANS, TAUS_STEPS, Groups, Run, tau_change

COLOURS = {"hetsyn": "#c1272d", "hetneu": "#0000a7", "alif": "#008176", "homneu": "#777777"}
OTHER_COLOURS = {"dh-snn-4": "#9b59b6", "free-bank-2": "#e67e22", "free-bank-4": "#f5b041"}
EQUAL_COLOURS = COLOURS | OTHER_COLOURS | {"lstm": "#111111", "gru": "#5d7b3a"}
PG, DM, PAPER = "pattern-generation", "delayed-match", "paper-settings"
BASE, TAUS_MS = "base", (100, 200, 400)
MODELS = ("hetsyn", "hetneu", "alif", "homneu")
EQUAL_TASKS = ("trace", "cue", "series", "clothes", "motion", "commands")
LSTM_RUNS = {"series": "mnist1d", "motion": "motion"}
EQUAL_MODELS = {f"{model}-{filters}" if filters else str(model): str(model) for model, filters in COMPARED}
EQUAL_NAMES = NAMES | {"dh-snn-4": "DH-SNN", "free-bank-2": "free bank of 2", "free-bank-4": "free bank of 4"}
TRACE_EVERY_S = 0.02
Summary = Callable[[Collection[Run]], tuple[float, float, float]]  # a middle; how far its interval goes down, and up
PAPER_CHANGES = {"cue": (1.54, 1.26, 1.08), "noise": (0.86, 0.91, 0.96)}  # Table 4, from 100, 200, 400 ms


def traces(groups: Groups, figure: Figure) -> None:
    """Draw the target and what each model draws, in two trials of the first seed."""
    panels = figure.subplots(len(MODELS), 1, sharex=True, sharey=True)
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


def cue_success(groups: Groups, figure: Figure) -> None:
    """Draw the share of runs that solve delayed match, with Wilson's intervals."""
    sizes = (5, 20, 50, 100)
    conditions = {place: PAPER if size == 100 else f"{PAPER}-hidden-{size}" for place, size in enumerate(sizes)}
    panels = figure.subplots(1, 2, sharey=True)
    for panel, recurrent in zip(panels, (True, False), strict=True):
        for index, model in enumerate(MODELS):
            place, rate, *ends = _summarised(groups, DM, conditions, model, recurrent, _share)
            x = place + 0.2 * (index - 1.5)
            panel.bar(x, rate, 0.2, color=COLOURS[model], label=NAMES[model])
            panel.errorbar(x, rate, ends, color="black", linestyle="", capsize=2, elinewidth=1)
        panel.set(title="recurrent" if recurrent else "feedforward", xlabel="hidden neurons", ylim=(0, 105))
        panel.set_xticks(range(4), map(str, sizes))
    panels[0].set_ylabel("successful runs, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)


def trace_time_constants(groups: Groups, figure: Figure) -> None:
    """Draw the error of pattern generation by time constant, with Student's intervals."""
    conditions = {int(PG_TAU_STEPS): PAPER} | {ms: f"tau-{ms}" for ms in EVERY_TAU_MS if ms != PG_TAU_STEPS}
    panels = figure.subplots(1, 2, sharey=True)
    _by_time_constant(groups, panels, PG, conditions, _mean)
    panels[0].set(ylabel="mean squared error", yscale="log")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)


def cue_time_constants(groups: Groups, figure: Figure) -> None:
    """Draw how often 5 and 100 neurons solve delayed match, by time constant, with Wilson's intervals."""
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for panels, size, paper in zip(grid, (5, 100), (f"{PAPER}-hidden-5", PAPER), strict=True):
        conditions = {40: paper} | {ms: f"tau-{ms}-hidden-{size}" for ms in EVERY_TAU_MS}
        _by_time_constant(groups, panels, DM, conditions, _share)
        panels[0].set(ylabel=f"{size} neurons: successful runs, %", ylim=(-3, 103))
    for panel in (*grid[0], *grid[1]):
        panel.label_outer()
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside right upper", frameon=False)


def _by_time_constant(
    groups: Groups, panels: Sequence[Axes], experiment: str, conditions: dict[int, str], summary: Summary
) -> None:
    """Draw a summary of each model's runs by time constant in ms: recurrent networks, then feedforward ones."""
    for panel, recurrent in zip(panels, (True, False), strict=True):
        for index, model in enumerate(MODELS):
            at_ms, middle, *ends = _summarised(groups, experiment, conditions, model, recurrent, summary)
            x = at_ms * 1.03 ** (index - 1.5)  # side by side
            panel.errorbar(x, middle, ends, color=COLOURS[model], label=NAMES[model], fmt="o-", markersize=4, capsize=2)
        panel.set(title="recurrent" if recurrent else "feedforward", xlabel="time constant, ms", xscale="log")
        panel.set_xticks([], minor=True)
        panel.set_xticks(EVERY_TAU_MS, map(str, EVERY_TAU_MS))


def _summarised(
    groups: Groups, experiment: str, conditions: dict[int, str], model: str, recurrent: bool, summary: Summary
) -> np.ndarray:
    """Summarise a model's runs by condition: a row of the conditions' numbers, and three of values."""
    found = [
        (number, *summary(groups[(experiment, condition, model, recurrent)].values()))
        for number, condition in sorted(conditions.items())
    ]
    return np.array(found).reshape(-1, 4).T


def _mean(runs: Collection[Run]) -> tuple[float, float, float]:
    """Compute the mean figure with Student's interval. Errors have a geometric mean."""
    is_error = any(run["metric"] == "mse" for run in runs)
    scores = [math.log(run["figure"]) if is_error else 100 * run["figure"] for run in runs]
    ends = fmean(scores), *interval(scores)
    low, middle, high = sorted(math.exp(end) if is_error else end for end in ends)
    return middle, middle - low, high - middle


def _share(runs: Collection[Run]) -> tuple[float, float, float]:
    """Compute the share of successful runs in percent, with Wilson's interval."""
    won = sum(run["figure"] >= SUCCESS for run in runs)
    low, high = proportion_confint(won, len(runs), method="wilson")
    rate = 100 * won / len(runs)
    return rate, max(0.0, rate - 100 * low), max(0.0, 100 * high - rate)


def trained_values(groups: Groups, figure: Figure) -> None:
    """Draw networks with as many trained values as HetSyn, and with half of them, on six tasks."""
    labels = EQUAL_MODELS | {"lstm": "lstm", "gru": "gru"}
    tasks = [task for task in EQUAL_TASKS if (f"equal-{task}", "hetsyn-whole", "hetsyn", True) in groups]
    for task, experiment in LSTM_RUNS.items():
        groups = groups | {(f"equal-{task}", "lstm-whole", "lstm", True): groups[(experiment, BASE, "lstm", True)]}
    for number, task in enumerate(tasks, 1):
        panel = figure.add_subplot(2, 3, number)
        summary = _share if task == "cue" else _mean
        for index, (label, model) in enumerate(labels.items()):
            conditions = {0: f"{label}-half", 1: f"{label}-whole"}
            known = {at: name for at, name in conditions.items() if (f"equal-{task}", name, model, True) in groups}
            place, middle, *ends = _summarised(groups, f"equal-{task}", known, model, True, summary)
            x = place + 0.1 * (index - 4)
            panel.errorbar(x, middle, ends, fmt="o", color=EQUAL_COLOURS[label], capsize=3)
        own = [groups.get((f"equal-{task}", f"hetsyn-{size}", "hetsyn", True)) for size in ("half", "whole")]
        ticks = {place: f"{runs[0]['parameters']:,} values" for place, runs in enumerate(own) if runs}
        panel.set(title=task, yscale="log" if task == "trace" else "linear")
        panel.set(xticks=list(ticks), xticklabels=list(ticks.values()))
        panel.set_ylabel({"trace": "mean squared error", "cue": "successful runs, %"}.get(task, "accuracy, %"))
    handles = [Line2D([], [], color=EQUAL_COLOURS[label], marker="o", linestyle="") for label in labels]
    names = [EQUAL_NAMES[label] for label in labels]
    figure.legend(handles, names, loc="outside upper center", ncols=5, frameon=False)


def time_constants(groups: Groups, figure: Figure) -> None:
    """Draw Table 4: the changes of time constants by four means and the paper's, and one histogram."""
    histogram, *changes = figure.subplots(1, 3)
    starts = from_each_start(groups)
    shown = ("cue", "before", "#999999"), ("cue", "after", "#c1272d"), ("noise", "after", "#0000a7")
    for group, when, colour in shown:
        counts = np.sum([run["analysis"]["time_constants"][group][when]["counts"] for run in starts[0]], axis=0)
        label = "before" if when == "before" else f"{group} synapses, after"
        histogram.step(5 * TAUS_STEPS, 100 * counts / counts.sum(), where="mid", color=colour, label=label)
    histogram.set(xscale="log", xlabel="time constant, ms", ylabel="synapses, %", title="from 100 ms", ylim=(0, 40))
    histogram.legend(frameon=False, fontsize=8)
    for panel, group in zip(changes, ("cue", "noise"), strict=True):
        panel.plot(TAUS_MS, PAPER_CHANGES[group], "k*--", markersize=9, label="the paper")
        for mean, marker in zip(MEANS, "osv^", strict=True):
            factors = [geometric_mean(tau_change(run, group, mean) for run in runs) for runs in starts]
            panel.plot(TAUS_MS, factors, f"{marker}-", label=f"mean: {mean}", linewidth=1)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set(title=f"{group} synapses", xlabel="initial time constant, ms", yscale="log", ylim=(0.2, 10))
        panel.set_xticks([], minor=True)
        panel.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["¼", "½", "1", "2", "4", "8"])
        panel.set_xticks(TAUS_MS)
    changes[0].set_ylabel("after training, over before")
    figure.legend(*changes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)


def from_each_start(groups: Groups) -> list[Collection[Run]]:
    """List HetSyn's runs of delayed match from each of Table 4's time constants."""
    return [groups[(DM, f"{PAPER}-tau-{ms}", "hetsyn", True)].values() for ms in TAUS_MS]


def cost(groups: Groups, figure: Figure) -> None:
    """Draw the error of pattern generation against the state of a stream."""
    panel = figure.subplots()
    for label, condition, model, form in (
        ("HetSyn, a current a synapse", BASE, "hetsyn", "exact"),
        ("HetSyn, bank", BASE, "hetsyn", "bank"),
        ("HetSyn, bank, 27 neurons", "same-state", "hetsyn", "bank"),
        *((NAMES[model], BASE, model, "exact") for model in MODELS[1:]),
    ):
        runs = list(groups[(PG, condition, model, True)].values())
        x, y = runs[0]["state_bytes"][form], geometric_mean(run["analysis"]["forms"][form] for run in runs)
        panel.plot(x, y, "o", color=COLOURS[model])
        panel.annotate(label, (x, y), (6, 3), textcoords="offset points", fontsize=8)
    panel.set(xlabel="state of a stream, bytes", ylabel="mean squared error")
    panel.set(xscale="log", yscale="log", xlim=(None, 1e6), ylim=(None, 0.4))


PICTURES: dict[str, tuple[Callable[[Groups, Figure], None], tuple[float, float]]] = {  # what draws it, and its inches
    "traces.png": (traces, (8, 5)),
    "trace-time-constants.png": (trace_time_constants, (8, 3)),
    "cue-success.png": (cue_success, (8, 3)),
    "cue-time-constants.png": (cue_time_constants, (8, 5.4)),
    "trained-values.png": (trained_values, (10, 6)),
    "time-constants.png": (time_constants, (10, 3.2)),
    "cost.png": (cost, (6, 3.2)),
}


def write_pictures(groups: Groups, folder: Path) -> None:
    """Draw all pictures into a folder."""
    for name, (draw, inches) in PICTURES.items():
        figure = Figure(inches, layout="constrained")
        draw(groups, figure)
        save(figure, folder / name)


def save(figure: Figure, path: Path) -> None:
    """Write a figure with its grids, the same bytes for the same lines."""
    for panel in figure.axes:
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
