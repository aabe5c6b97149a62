"""The report's pictures, from results alone; the same results give the same files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np

from research.claims.measures import bank_row
from research.claims.rules import SUCCESS
from research.claims.statistics import rate_interval
from research.runs.names import NAMES
from research.runs.paper_figures import TRACE_EVERY
from research.runs.results import RunResult

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {
    "hetsyn": "#c1272d",
    "hetneu": "#0000a7",
    "alif": "#008176",
    "homneu": "#777777",
    "lstm": "#eecc16",
    "se-adlif": "#7b3294",
    "hetsyn-resonance": "#e66101",
}


MOST_IN_A_ROW = 5  # models of a legend that seven inches hold


def conditions(
    results: Sequence[RunResult],
    numbers: dict[str, float],
    axis: str,
    path: Path,
    *,
    of: Callable[[RunResult], float] | None = None,
    logarithmic: bool = False,
) -> None:
    """A number over conditions that lie on a line (delay, noise): means as lines, each seed as a dot.

    Args:
        results: of these conditions and one architecture.
        numbers: place of each condition on the line.
        axis: label of the line.
        path: of the PNG file.
        of: the number of a result; None: its figure.
        logarithmic: whether the line is.
    """
    figure, plot = plt.subplots(figsize=(6, 4), layout="constrained")
    metric = results[0].metric
    factor = 100.0 if metric == "accuracy" else 1.0
    for model in _models(results):
        by_number: dict[float, list[float]] = {}
        for result in results:
            if result.run["model"] == model and result.run["condition"] in numbers:
                value = result.figure if of is None else of(result)
                by_number.setdefault(numbers[result.run["condition"]], []).append(factor * value)
        number = sorted(by_number)
        plot.plot(number, [fmean(by_number[n]) for n in number], color=COLOURS[model], label=NAMES[model])
        beside = number if logarithmic else _beside(number, model, _models(results))
        _dots(plot, [(x, value) for x, n in zip(beside, number, strict=True) for value in by_number[n]], COLOURS[model])
    plot.set(xlabel=axis, ylabel=_unit(metric))
    if metric == "mse":
        plot.set_yscale("log")
    if logarithmic:
        plot.set_xscale("log")
    _finish(figure, plot, path)


def learning(results: Sequence[RunResult], path: Path) -> None:
    """Validation figure by update: the mean as a thick line, each seed as a thin one, one colour a neuron model."""
    figure, plot = plt.subplots(figsize=(6, 4), layout="constrained")
    metric = results[0].metric
    factor = 100.0 if metric == "accuracy" else 1.0
    for model in _models(results):
        lines = [result.curve for result in results if result.run["model"] == model]
        points = min(len(line) for line in lines)
        for line in lines:
            updates, figures = [point[0] for point in line], [factor * point[2] for point in line]
            plot.plot(updates, figures, color=COLOURS[model], alpha=min(0.35, 8 / len(lines)), linewidth=0.7)
        mean = [factor * fmean(line[i][2] for line in lines) for i in range(points)]
        steps = [lines[0][i][0] for i in range(points)]
        plot.plot(steps, mean, color=COLOURS[model], label=NAMES[model], linewidth=2, zorder=3)  # before all seeds
    plot.set(xlabel="update", ylabel=f"validation, {_unit(metric)}")
    if metric == "mse":
        plot.set_yscale("log")
    _finish(figure, plot, path)


def trained_and_judged(
    trained: Mapping[float, Mapping[int, Sequence[RunResult]]], judged: Sequence[int | None], path: Path
) -> None:
    """Accuracy by the bank that judges; a panel for each factor on the decays' rate, a line for each size in training.

    Args:
        trained: results by factor, then by size in training (0: the exact form).
        judged: sizes of the banks that judge (None: the exact form).
        path: of the PNG file.
    """
    size = (1.5 + 3.75 * len(trained), 3.8)
    figure, grid = plt.subplots(1, len(trained), figsize=size, layout="constrained", sharey=True, squeeze=False)
    panels, labels = grid[0], dict[str, Any]()
    names = ["exact" if size is None else str(size) for size in judged]
    for panel, (factor, by_size) in zip(panels, trained.items(), strict=True):
        for index, (trained_size, results) in enumerate(by_size.items()):
            if not results:
                continue
            values = [[100 * bank_row(result, k)["figure"] for k in judged] for result in results]
            colour = plt.colormaps["viridis"](0.95 * index / len(by_size)) if trained_size else "black"
            (line,) = panel.plot(range(len(judged)), np.mean(values, 0), color=colour)
            labels[f"K = {trained_size}" if trained_size else "exact"] = line
            _dots(panel, [point for row in values for point in enumerate(row)], colour)
        panel.set_xticks(range(len(judged)), names)
        panel.set(xlabel="judged at K", title=f"decays' learning rate x {factor:g}")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy, %")
    figure.legend(labels.values(), labels.keys(), loc="outside right upper", title="trained at", frameon=False)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def traces(results: Sequence[RunResult], path: Path) -> None:
    """The targets of pattern generation, and the traces of each neuron model in two trials; the first seed."""
    models, targets = _models(results), len(results[0].analysis["traces"])
    figure, panels = plt.subplots(
        *(len(models), targets),
        figsize=(max(7, 4 * targets), 1.6 * len(models)),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for row, model in zip(panels, models, strict=True):
        first = next(result for result in results if result.run["model"] == model)
        for panel, trace in zip(row, first.analysis["traces"], strict=True):
            time_s = np.arange(len(trace["target"])) * TRACE_EVERY * 1e-3
            panel.plot(time_s, trace["target"], color="black", linewidth=1, label="target")
            for output in trace["outputs"]:
                panel.plot(time_s, output, color=COLOURS[model], alpha=0.7, linewidth=1)
            panel.grid(alpha=0.3)
        row[0].set_title(f"{NAMES[model]}, mean squared error {first.figure:.4f}", fontsize=9)
    for panel in panels[-1]:
        panel.set_xlabel("time, s")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def successes(by_size: dict[int, list[RunResult]], path: Path) -> None:
    """Success rates with their intervals: a group of bars for each number of hidden neurons, one bar a neuron model."""
    figure, plot = plt.subplots(figsize=(6, 3.6), layout="constrained")
    models = _models([result for results in by_size.values() for result in results])
    width = 0.8 / len(models)
    for index, model in enumerate(models):
        for position, results in enumerate(by_size.values()):
            figures = [result.figure for result in results if result.run["model"] == model]
            if not figures:
                continue
            rate = rate_interval(sum(value >= SUCCESS for value in figures), len(figures))
            x = position + width * (index - (len(models) - 1) / 2)
            ends = [[100 * max(0.0, rate.estimate - rate.low)], [100 * max(0.0, rate.high - rate.estimate)]]
            plot.bar(x, 100 * rate.estimate, width, color=COLOURS[model], alpha=0.7)
            plot.errorbar([x], [100 * rate.estimate], ends, color=COLOURS[model], capsize=3, linewidth=1)
        plot.bar(0, 0, 0, color=COLOURS[model], alpha=0.7, label=NAMES[model])
    plot.set_xticks(range(len(by_size)), [str(size) for size in by_size])
    plot.set(xlabel="hidden neurons", ylabel="successful runs, %", xlim=(-0.5, len(by_size) - 0.5), ylim=(0, 105))
    _finish(figure, plot, path)


def _legend_above(figure: Any, entries: int) -> None:
    figure.legend(loc="outside upper right", ncols=min(entries, MOST_IN_A_ROW), frameon=False)


def _beside(positions: Sequence[float], model: str, models: Sequence[str]) -> list[float]:
    """The positions of a model's dots, so that dots of several models lie side by side."""
    width = 0.008 * (max(positions) - min(positions))
    return [position + width * (models.index(model) - (len(models) - 1) / 2) for position in positions]


def _dots(plot: Any, points: Sequence[tuple[float, float]], colour: Any) -> None:
    """One dot a seed; where several coincide, it is darker."""
    x, y = zip(*points, strict=True)
    plot.plot(x, y, "o", color=colour, alpha=0.5, markersize=4, markeredgewidth=0)


def _models(results: Sequence[RunResult]) -> list[str]:
    present = {result.run["model"] for result in results}
    return [model for model in NAMES if model in present]


def _unit(metric: str) -> str:
    return "accuracy, %" if metric == "accuracy" else "mean squared error"


def _finish(figure: Any, plot: Any, path: Path) -> None:
    plot.grid(alpha=0.3)
    _legend_above(figure, len(plot.get_legend_handles_labels()[0]))
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
