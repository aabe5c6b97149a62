"""Results of runs that nobody ran, for tests of the plan and of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from research.catalog import EXPERIMENTS
from research.runs.analysis import WARPS_LOG2
from research.runs.plan import BASE, Cell, ChosenSettings, Experiment, final_run, searched_as
from research.runs.results import RunResult
from research.runs.run import NeuronModel, RunSpec


class Group(NamedTuple):
    """Runs of the plan that differ in their seed alone."""

    experiment: str
    condition: str
    model: NeuronModel
    recurrent: bool = True


ANALYSIS: dict[str, Any] = {
    "deletion": [[0.0, 0.9], [0.32, 0.8], [0.64, 0.7]],
    "warp": [[log2, 0.9 - 0.5 * abs(log2)] for log2 in WARPS_LOG2],
    "forms": {"bank": 0.9, "exact": 0.895},
    "long": {"share": 0.1, "reset": 0.7},
    "time_constants": {
        group: {
            when: {"counts": [1] * 22, "median": tau, "log_mean": tau}
            for when, tau in (("before", 8.0), ("after", after))
        }
        for group, after in (("cue", 30.0), ("noise", 4.0))
    },
}


def searches(experiment: Experiment, cell: Cell) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The searches that a cell's runs use, by name: the condition that is searched, and the seeds of the search."""
    return {
        searched_as(experiment, condition.searched_on, index): (condition.searched_on, seeds)
        for condition in experiment.conditions
        if condition.has(cell) and condition.searched_on is not None
        for index, seeds in enumerate(experiment.search.seeds)
    }


def final_runs(experiment: Experiment, cell: Cell, settings: ChosenSettings) -> list[RunSpec]:
    """All runs of a cell, with settings that every search found."""
    chosen = dict.fromkeys(searches(experiment, cell), settings)
    return [
        final_run(experiment, condition, cell, seed, chosen)
        for condition in experiment.conditions
        if condition.has(cell)
        for seed in range(condition.seeds)
    ]


def runs_of(group: Group, figures: Sequence[float], **changes: Any) -> list[RunResult]:
    """One finished run a figure, with seeds from 0.

    Args:
        group: of the plan.
        figures: on test data.
        changes: of every result.
    """
    experiment = EXPERIMENTS[group.experiment]()
    condition = experiment.condition(group.condition)
    cell = Cell(group.model, group.recurrent)
    chosen = dict.fromkeys(searches(experiment, cell), ChosenSettings(5e-3, 8.0))
    like = made_up("hetsyn", 0.9)[0]
    metric = "mse" if group.experiment == "pattern-generation" else "accuracy"
    return [
        replace(like, run=run.to_dict(), metric=metric, figure=figure, **changes)
        for seed, figure in enumerate(figures)
        for run in [final_run(experiment, condition, cell, seed, chosen)]
    ]


def made_up(model: NeuronModel, mean: float, seeds: int = 3, condition: str = BASE) -> list[RunResult]:
    """Recurrent runs of delayed match whose figure is 0.001 higher from seed to seed."""
    experiment = EXPERIMENTS["delayed-match"]()
    runs = final_runs(experiment, Cell(model, True), ChosenSettings(5e-3, 8.0))
    return [
        RunResult(
            *(run.to_dict(), "accuracy", mean + 0.001 * run.seed, 0.1, mean, 0.1, 900, 4.0, 8000),
            bank_sizes={"hidden1": 8, "readout": 8},
            kernel_error=1e-2,
            state_bytes={"exact": 5000, "bank": 500},
            seconds=60.0,
            machine="a test",
            curve=[[50, 0.7, 0.5], [100, 0.1, mean]],
            analysis=ANALYSIS,
        )
        for run in runs
        if run.condition == condition and run.seed < seeds
    ]
