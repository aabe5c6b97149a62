"""Runs an experiment: the searches, then every condition and seed. Finished runs are not repeated."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from hetsyn_model.network import Network
from hetsyn_model.state import FORMS, state_bytes
from hetsyn_model.training.history import History
from research.runs import results
from research.runs.for_export import keep_test_streams
from research.runs.paper_figures import EXACT_STREAMS, paper_figures
from research.runs.plan import (
    BASE,
    SEARCH_SEED,
    Cell,
    ChosenSettings,
    Condition,
    Experiment,
    cells,
    final_run,
    search_name,
    search_runs,
    searched_as,
)
from research.runs.results import RunResult
from research.runs.run import AnyNetwork, RunSpec, evaluate, open_task
from research.runs.train import learning_curve, load_best, tested_curve, train
from research.tasks.free_bank import FreeBank
from research.tasks.neurons import trained_values

SEEDS_A_ROUND = 10


@dataclass(frozen=True)
class Selection:
    """A part of an experiment to run; None or nothing means all.

    Attributes:
        models: neuron models.
        recurrent: architecture.
        seeds: of the final runs. Conditions with settings of their own have also seeds beyond the plan's.
        conditions: names.
    """

    models: Sequence[str] | None = None
    recurrent: bool | None = None
    seeds: Sequence[int] | None = None
    conditions: Sequence[str] | None = None

    def has(self, condition: Condition, cell: Cell) -> bool:
        """Return whether a cell runs in a condition."""
        return (
            condition.has(cell)
            and (not self.conditions or condition.name in self.conditions)
            and (not self.models or cell.model in self.models)
            and (self.recurrent is None or cell.recurrent == self.recurrent)
        )

    def seeds_of(self, condition: Condition) -> list[int]:
        """List the seeds to run in a condition."""
        planned = range(condition.seeds)
        if not self.seeds:
            return list(planned)
        return [seed for seed in self.seeds if seed in planned or (seed >= 0 and condition.settings is not None)]

    def missing(self, experiment: Experiment) -> str:
        """Say what is selected but not in the plan, and what is there instead; empty if there is something to run."""
        names = [condition.name for condition in experiment.conditions]
        for name in self.conditions or ():
            if name not in names:
                return f"the condition {name!r}: choose one of {', '.join(names)}"
        conditions = [c for c in experiment.conditions if any(self.has(c, cell) for cell in cells(experiment))]
        if not conditions:
            models = dict.fromkeys(cell.model for cell in cells(experiment))
            return f"this model or architecture: choose one of the models {', '.join(models)}"
        for seed in self.seeds or ():
            if not any(seed in self.seeds_of(condition) for condition in conditions):
                return f"the seed {seed}: choose one of 0 to {max(condition.seeds for condition in conditions) - 1}"
        return ""


def _nothing(*_: object) -> None:
    """Hear and do nothing."""


@dataclass(frozen=True)
class Listener:
    """Called as an experiment goes on; ``on_result`` also hears whether a run was trained now."""

    on_evaluation: Callable[[RunSpec, History], None] = _nothing
    on_result: Callable[[RunSpec, RunResult, bool], None] = _nothing


def run_experiment(
    experiment: Experiment,
    out: Path,
    results_file: Path,
    choice: Selection,
    data: Path | None = None,
    listener: Listener = Listener(),
) -> list[RunResult]:
    """Run the selected runs that are not finished.

    Args:
        experiment: the experiment.
        out: folder of the runs; the experiment gets one of its name.
        results_file: for all its results; a run of the same description there is finished, whoever trained it.
        choice: the part to run.
        data: folder of the task's data.
        listener: called as the experiment goes on.

    Returns:
        The results of the final runs.

    Raises:
        MissingData: the task's data is not on this machine.
        RunError: ``out`` contains a run with another configuration.
    """
    work = Work(out / experiment.name, results_file, data, listener)
    chosen: dict[Cell, dict[str, ChosenSettings]] = {cell: {} for cell in cells(experiment)}
    # some seeds of every condition before any has more, and every model's first seed before anyone's second: an
    # interruption leaves an answer to every question, and something to compare
    planned = [
        ((seed // SEEDS_A_ROUND, place, seed), condition, cell)
        for place, condition in enumerate(experiment.conditions)
        for seed in choice.seeds_of(condition)
        for cell in cells(experiment)
        if choice.has(condition, cell)
    ]
    finished: list[RunResult] = []
    for (_, _, seed), condition, cell in sorted(planned, key=lambda each: each[0]):
        searched = condition.searched_on
        if searched is not None and searched_as(experiment, searched, seed) not in chosen[cell]:
            chosen[cell] |= search(experiment, cell, searched, work)
        finished.append(finish(final_run(experiment, condition, cell, seed, chosen[cell]), work))
    return finished


@dataclass(frozen=True)
class Work:
    """Where an experiment's runs, its results and its task's data are, and who listens."""

    folder: Path
    results_file: Path
    data: Path | None
    listener: Listener


def search(experiment: Experiment, cell: Cell, condition: str, work: Work) -> dict[str, ChosenSettings]:
    """Find the settings of each search, by ``searched_as``."""
    candidates = [finish(run, work) for run in search_runs(experiment, cell, condition)]
    return {
        searched_as(experiment, condition, index): chosen_by_search(candidates, cell, condition, seeds)
        for index, seeds in enumerate(experiment.search.seeds)
    }


def finish(run: RunSpec, work: Work) -> RunResult:
    """Train and judge a run unless that was done before."""
    known = next((one for one in results.read_file(work.results_file) if one.is_of(run)), None)
    if known is not None:
        work.listener.on_result(run, known, False)
        return known
    folder = work.folder / run.name
    task = open_task(run, work.data)
    history = train(run, task, folder, work.listener.on_evaluation)
    network = load_best(run, task, folder)
    judged = validation = history.best
    assert judged is not None
    assert validation is not None
    exact: dict[str, float] = {}
    analysis: dict[str, Any] = {}
    if not run.searching:  # the search is judged on validation data alone
        test = task.test()
        judged = evaluate(network, task, test)
        if isinstance(network, Network):
            keep_test_streams(folder, network, test)
            analysis = paper_figures(run, task, network)
            if run.task not in EXACT_STREAMS:  # paper_figures judges on fewer streams
                form = evaluate(network, task, test, "exact")
                exact = {"figure": form.figure, "loss": form.loss, "streams": sum(len(batch.steps) for batch in test)}
    if by_epoch := tested_curve(history):
        analysis["test_by_epoch"] = by_epoch
    result = RunResult(
        run=run.to_dict(),
        metric=task.figure,
        figure=judged.figure,
        loss=judged.loss,
        validation=validation.figure,
        validation_loss=validation.loss,
        chosen_update=history.update[history.chosen],
        firing_hz=history.measures["firing_rate"][history.chosen] / task.shape.step_s,
        seconds=sum(history.processor_seconds),
        machine=f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        curve=learning_curve(history),
        analysis=analysis,
        exact=exact,
        **_sizes(network, run),
    )
    result = RunResult(**results.rounded(vars(result)))  # as it will be read again
    results.add_to_file([result], work.results_file)
    work.listener.on_result(run, result, True)
    return result


def _sizes(network: AnyNetwork, run: RunSpec) -> dict[str, Any]:
    learned = trained_values(network.spec, run.model, run.filters)
    if isinstance(network, FreeBank):
        state = {"bank": network.state_bytes}
        return {"parameters": learned, "bank_sizes": {}, "kernel_error": 0.0, "state_bytes": state}
    decays = sum(decay.numel() for decay in network.decays().values())
    return {
        "parameters": round(learned - run.masked_share * decays),
        "bank_sizes": {name: bank.size for name, bank in network.banks.items()},
        "kernel_error": max(network.kernel_errors().values()),
        "state_bytes": {form: state_bytes(network.compile(form).layout) for form in FORMS},
    }


def chosen_by_search(
    searched: Sequence[RunResult], cell: Cell, condition: str = BASE, seeds: Sequence[int] = (SEARCH_SEED,)
) -> ChosenSettings:
    """Choose a cell's candidate of the best mean validation figure over a search's seeds, ties by the loss.

    Errors have a geometric mean: they are judged as factors, and one hard trace would outweigh all others.
    """
    wanted = (search_name(condition), cell.model, cell.recurrent)
    candidates: dict[ChosenSettings, list[RunResult]] = {}
    for one in searched:
        if one.key[1:4] == wanted and one.run["seed"] in seeds:
            settings = ChosenSettings(one.run["learning_rate"], one.run["tau_steps"])
            candidates.setdefault(settings, []).append(one)

    def badness(settings: ChosenSettings) -> tuple[float, float]:
        runs = candidates[settings]
        figures = [-one.validation if one.metric == "accuracy" else math.log(one.validation) for one in runs]
        return fmean(figures), fmean(one.validation_loss for one in runs)

    return min(candidates, key=badness)
