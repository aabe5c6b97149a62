"""Runs an experiment: the searches, then every condition and seed. Finished runs are not repeated."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hetsyn_model.network import Network
from hetsyn_model.run_folder import record_configuration
from hetsyn_model.state import FORMS, state_bytes
from hetsyn_model.training.history import History, ValidationResult
from research.runs import results
from research.runs.analysis import analyse
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
    search_name,
)
from research.runs.planned import final_run, search_runs, searched_as
from research.runs.results import RunResult, read_result, write_result
from research.runs.run import AnyNetwork, RunSpec, evaluate, open_task
from research.runs.train import learning_curve, load_best, tested_curve, train
from research.tasks.dendrites import branch_values
from research.tasks.free_bank import FreeBank
from research.tasks.neurons import filters_of
from research.tasks.task import Task

SEEDS_A_ROUND = 10


@dataclass(frozen=True)
class Selection:
    """A part of an experiment to run; None means all.

    Attributes:
        models: neuron models.
        recurrent: architecture.
        seeds: of the final runs.
        conditions: names.
        share: (index from 0, of how many). Of conditions with settings of their own, shares take runs in turns. Of
            those that are searched they take cells, in turns there and back, so that no share has all the expensive
            ones (HetSyn, recurrent).
    """

    models: tuple[str, ...] | None = None
    recurrent: bool | None = None
    seeds: tuple[int, ...] | None = None
    conditions: tuple[str, ...] | None = None
    share: tuple[int, int] = (0, 1)

    def wanted(self, experiment: Experiment) -> list[Cell]:
        """The cells of all shares."""
        return [
            cell
            for cell in cells(experiment)
            if (self.models is None or cell.model in self.models)
            and (self.recurrent is None or cell.recurrent == self.recurrent)
        ]

    def missing(self, experiment: Experiment) -> str:
        """What is selected but not in the plan, and what is there instead; empty where there is something to run."""
        names = [condition.name for condition in experiment.conditions]
        for name in self.conditions or ():
            if name not in names:
                return f"the condition {name!r}: choose one of {', '.join(names)}"
        conditions = [c for c in experiment.conditions if self.conditions is None or c.name in self.conditions]
        if not any(condition.has(cell) for condition in conditions for cell in self.wanted(experiment)):
            models = dict.fromkeys(cell.model for cell in cells(experiment) if any(c.has(cell) for c in conditions))
            return f"this model or architecture: choose one of the models {', '.join(models)}"
        most = max(
            condition.seeds_of(cell)
            for condition in conditions
            for cell in self.wanted(experiment)
            if condition.has(cell)
        )
        for seed in self.seeds or ():
            if not 0 <= seed < most:
                return f"the seed {seed}: choose one of 0 to {most - 1}"
        return ""

    def cells(self, experiment: Experiment) -> list[Cell]:
        """The cells that this share searches."""
        wanted = self.wanted(experiment)
        index, count = self.share
        turns = [position % (2 * count) for position in range(len(wanted))]
        return [cell for cell, turn in zip(wanted, turns, strict=True) if min(turn, 2 * count - 1 - turn) == index]

    def has(self, experiment: Experiment, condition: Condition, cell: Cell, seed: int) -> bool:
        """Whether this share has a final run."""
        if seed >= condition.seeds_of(cell) or (self.seeds is not None and seed not in self.seeds):
            return False
        if condition.searched_on is not None:  # where its cell was searched
            return cell in self.cells(experiment)
        index, count = self.share
        wanted = self.wanted(experiment)
        return cell in wanted and (wanted.index(cell) + seed) % count == index


@dataclass(frozen=True)
class Listener:
    """Called as an experiment goes on; ``on_result`` also hears whether a run was trained now."""

    on_evaluation: Callable[[RunSpec, History], None] | None = None
    on_result: Callable[[RunSpec, RunResult, bool], None] | None = None


def run_experiment(
    experiment: Experiment,
    out: Path,
    results_file: Path,
    choice: Selection,
    data: Path | None = None,
    listener: Listener | None = None,
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
    work = Work(out / experiment.name, results_file, data, listener or Listener())
    wanted = [c for c in experiment.conditions if choice.conditions is None or c.name in choice.conditions]
    chosen: dict[Cell, dict[str, ChosenSettings]] = {cell: {} for cell in cells(experiment)}
    finished: list[RunResult] = []
    # some seeds of every condition before any has more: an interruption leaves an answer to every question
    for first in range(0, max((condition.most_seeds for condition in wanted), default=0), SEEDS_A_ROUND):
        for condition in wanted:
            # every model's first seed before anyone's second: an interruption leaves something to compare
            for seed in range(first, min(first + SEEDS_A_ROUND, condition.most_seeds)):
                for cell in filter(condition.has, cells(experiment)):
                    if not choice.has(experiment, condition, cell, seed):
                        continue
                    searched = condition.searched_on
                    if searched is not None and searched_as(experiment, searched, seed) not in chosen[cell]:
                        chosen[cell] |= search(experiment, cell, searched, work)
                    run = final_run(experiment, condition, cell, seed, chosen[cell])
                    finished.append(finish(run, work, is_analysed=condition.analyses(run)))
    return finished


@dataclass(frozen=True)
class Work:
    """Where an experiment's runs, its results and its task's data are, and who listens."""

    folder: Path
    results_file: Path
    data: Path | None
    listener: Listener

    def before(self, run: RunSpec) -> RunResult | None:
        """The result of a finished run, from its folder or from the file of results; None for an unfinished run."""
        folder = self.folder / run.name
        result = read_result(folder)
        if result is not None:
            record_configuration(folder, run.to_dict())
            results.add_to_file([result], self.results_file)
            return result
        return next((one for one in results.read_file(self.results_file) if one.is_of(run)), None)


def search(experiment: Experiment, cell: Cell, condition: str, work: Work) -> dict[str, ChosenSettings]:
    """Find by ``searched_as`` the candidate with the best validation figure, ties by its loss."""
    candidates = [finish(run, work) for run in search_runs(experiment, cell, condition)]
    found = {}
    for index, seed in enumerate(experiment.search.seeds):
        best = chosen_by_search(candidates, cell, condition, seed)[0].run
        found[searched_as(experiment, condition, index)] = ChosenSettings(best["learning_rate"], best["tau_steps"])
    return found


def finish(run: RunSpec, work: Work, *, is_analysed: bool = False) -> RunResult:
    """Train and judge a run unless that was done before."""
    result = work.before(run)
    if result is not None:
        if work.listener.on_result is not None:
            work.listener.on_result(run, result, False)
        return result
    folder = work.folder / run.name
    task = open_task(run, work.data)
    history = train(run, task, folder, work.listener.on_evaluation)
    network = load_best(run, task, folder)
    at = history.chosen
    validation = ValidationResult(history.validation[at], history.validation_loss[at])
    # the search is judged on validation data alone
    exact: dict[str, float] = {}
    judged = validation
    if not run.searching:
        test = task.test()
        if isinstance(network, Network):
            keep_test_streams(folder, network, test)
        judged = evaluate(network, task, test)
        if isinstance(network, Network) and run.task not in EXACT_STREAMS:  # paper_figures judges on fewer streams
            form = evaluate(network, task, test, "exact")
            streams_judged = sum(len(batch.steps) for batch in test)
            exact = {"figure": form.figure, "loss": form.loss, "streams": streams_judged}
    result = RunResult(
        run=run.to_dict(),
        metric=task.figure,
        figure=judged.figure,
        loss=judged.loss,
        validation=validation.figure,
        validation_loss=validation.loss,
        chosen_update=history.update[at],
        firing_hz=history.measures["firing_rate"][at] / task.shape.step_s,
        seconds=sum(history.processor_seconds),
        machine=_machine(),
        curve=learning_curve(history),
        analysis=_analysis(run, task, network, history, is_analysed=is_analysed),
        exact=exact,
        **_sizes(network, run),
    )
    result = write_result(folder, result)
    results.add_to_file([result], work.results_file)
    if work.listener.on_result is not None:
        work.listener.on_result(run, result, True)
    return result


def _analysis(run: RunSpec, task: Task, network: AnyNetwork, history: History, *, is_analysed: bool) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if isinstance(network, Network) and not run.searching:
        figures = paper_figures(run, task, network)
        if is_analysed:
            figures |= analyse(run, task, network)
    by_epoch = tested_curve(history)
    return figures | ({"test_by_epoch": by_epoch} if by_epoch else {})


def _sizes(network: AnyNetwork, run: RunSpec) -> dict[str, Any]:
    learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if isinstance(network, FreeBank):
        return {
            "parameters": learned,
            "bank_sizes": {},
            "kernel_error": 0.0,
            "state_bytes": {"bank": network.state_bytes},
        }
    decays = sum(decay.numel() for decay in network.decays().values())
    if run.model == "dh-snn":
        learned = branch_values(network.spec, filters_of(run.kernel))
    return {
        "parameters": round(learned - run.masked_share * decays),
        "bank_sizes": {name: bank.size for name, bank in network.banks.items()},
        "kernel_error": max(network.kernel_errors().values(), default=0.0),
        "state_bytes": {
            form: state_bytes(network.compile(form).layout) for form in FORMS if form == "exact" or network.banks
        },
    }


def chosen_by_search(
    searched: Sequence[RunResult], cell: Cell, condition: str = BASE, seed: int = SEARCH_SEED
) -> list[RunResult]:
    """Sort a cell's candidates of one search on a condition, best first."""
    wanted = (search_name(condition), cell.model, cell.recurrent, seed)
    mine = [result for result in searched if (*result.key[1:4], result.run["seed"]) == wanted]
    sign = -1.0 if mine and mine[0].metric == "accuracy" else 1.0
    return sorted(mine, key=lambda r: (sign * r.validation, r.validation_loss))


def _machine() -> str:
    return f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
