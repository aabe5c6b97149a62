"""Runs an experiment: the searches, then every condition and seed. Finished runs are not repeated."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments import results
from experiments.analysis import analyse
from experiments.lstm import SequenceLSTM
from experiments.plan import BASE, Cell, ChosenSettings, Experiment, cells, final_run, search_name, search_runs
from experiments.results import RunResult, read_result, write_result
from experiments.run import RunSpec, evaluate, open_task
from experiments.task import Task
from experiments.train import learning_curve, load_best, tested_curve, train
from hetsyn_model.network import Network
from hetsyn_model.run_folder import record_configuration
from hetsyn_model.state import state_bytes
from hetsyn_model.training.history import History, ValidationResult


@dataclass(frozen=True)
class Selection:
    """A part of an experiment to run; None means all.

    Attributes:
        models: neuron models.
        recurrent: architecture.
        seeds: of the final runs.
        conditions: names.
        share: (index from 0, of how many). Shares take cells in turns there and back, so that no share has all the
            expensive ones (HetSyn, recurrent).
    """

    models: tuple[str, ...] | None = None
    recurrent: bool | None = None
    seeds: tuple[int, ...] | None = None
    conditions: tuple[str, ...] | None = None
    share: tuple[int, int] = (0, 1)

    def cells(self, experiment: Experiment) -> list[Cell]:
        wanted = [
            cell
            for cell in cells(experiment)
            if (self.models is None or cell.model in self.models)
            and (self.recurrent is None or cell.recurrent == self.recurrent)
        ]
        index, count = self.share
        turns = [position % (2 * count) for position in range(len(wanted))]
        return [cell for cell, turn in zip(wanted, turns, strict=True) if min(turn, 2 * count - 1 - turn) == index]


@dataclass(frozen=True)
class Listener:
    """Called as an experiment goes on.

    Attributes:
        on_evaluation: with a run and its history.
        on_result: with a run, its result, and whether it was trained now.
    """

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
        results_file: for all its results; a run whose exact description has a result there is finished, even if it
            was trained on another machine.
        choice: the part to run.
        data: folder of the task's data, see :func:`experiments.run.open_task`.
        listener: called as the experiment goes on.

    Returns:
        The results of the final runs.

    Raises:
        MissingData: the task's data is not on this machine.
        RunError: ``out`` contains a run with another configuration.
    """
    work = _Work(out / experiment.name, results_file, data, listener or Listener())
    mine = choice.cells(experiment)
    wanted = [c for c in experiment.conditions if choice.conditions is None or c.name in choice.conditions]
    chosen: dict[Cell, dict[str, ChosenSettings]] = {cell: {} for cell in mine}
    for cell in mine:
        if any(condition.has(cell) and condition.searched_on == BASE for condition in wanted):
            chosen[cell][BASE] = search(experiment, cell, BASE, work)
    finished: list[RunResult] = []
    for condition in wanted:
        having = [cell for cell in mine if condition.has(cell)]
        if condition.own_search:
            for cell in having:
                chosen[cell][condition.name] = search(experiment, cell, condition.name, work)
        # every model's first seed before anyone's second: an interruption leaves something to compare
        for seed in range(condition.seeds):
            for cell in having if choice.seeds is None or seed in choice.seeds else ():
                run = final_run(experiment, condition, cell, seed, chosen[cell])
                finished.append(finish(run, work, streams_for(experiment, run)))
    return finished


@dataclass(frozen=True)
class AnalysisStreams:
    """Numbers of test streams for the analysis of a trained network; 0 for none.

    Attributes:
        exact: in the exact form.
        changed: with a changed input.
        judged_exact: whether the whole test is made in the exact form too.
    """

    exact: int = 0
    changed: int = 0
    judged_exact: bool = False


def streams_for(experiment: Experiment, run: RunSpec) -> AnalysisStreams:
    """The streams for a run's analysis; no streams where its condition is not analysed."""
    condition = experiment.condition(run.condition)
    if not condition.analyses(run):
        return AnalysisStreams(judged_exact=condition.judged_exact)
    return AnalysisStreams(experiment.analysis_streams, experiment.changed_streams, condition.judged_exact)


@dataclass(frozen=True)
class _Work:
    """Where runs, results and data are.

    Attributes:
        folder: of the experiment's runs.
        results_file: of the experiment.
        data: folder of the task's data.
        listener: called as the experiment goes on.
    """

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
        wanted = results.identity(run.to_dict())
        return next((one for one in results.read_file(self.results_file) if one.identity == wanted), None)


def search(experiment: Experiment, cell: Cell, condition: str, work: _Work) -> ChosenSettings:
    """The candidate with the best validation figure, ties by validation loss."""
    candidates = [finish(run, work, AnalysisStreams()) for run in search_runs(experiment, cell, condition)]
    best = chosen_by_search(candidates, cell, condition)[0].run
    return ChosenSettings(best["learning_rate"], best["tau_steps"])


def finish(run: RunSpec, work: _Work, streams: AnalysisStreams) -> RunResult:
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
    judged = validation if run.searching else evaluate(network, task, task.test())
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
        analysis=_analysed(run, task, network, history, streams),
        **_sizes(network, run),
    )
    result = write_result(folder, result)
    results.add_to_file([result], work.results_file)
    if work.listener.on_result is not None:
        work.listener.on_result(run, result, True)
    return result


def _analysed(
    run: RunSpec, task: Task, network: Network | SequenceLSTM, history: History, streams: AnalysisStreams
) -> dict[str, Any]:
    figures = analyse(run, task, network, streams.exact, streams.changed) if streams.exact else {}
    if streams.judged_exact and isinstance(network, Network):
        figures["exact_test"] = evaluate(network, task, task.test(), "exact").figure
    by_epoch = tested_curve(history)
    return figures | ({"test_by_epoch": by_epoch} if by_epoch else {})


def _sizes(network: Network | SequenceLSTM, run: RunSpec) -> dict[str, Any]:
    learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if isinstance(network, SequenceLSTM):
        return {"parameters": learned, "bank_sizes": {}, "kernel_error": 0.0} | {
            "state_bytes": {"exact": 8 * sum(network.sizes[1])}  # h and c, float32
        }
    decays = sum(decay.numel() for decay in network.decays().values())
    return {
        "parameters": round(learned - run.masked_share * decays),
        "bank_sizes": {name: bank.size for name, bank in network.banks.items()},
        "kernel_error": max(network.kernel_errors().values()),
        "state_bytes": {
            "exact": state_bytes(network.compile("exact").layout),
            "bank": state_bytes(network.compile("bank").layout),
        },
    }


def chosen_by_search(searched: Sequence[RunResult], cell: Cell, condition: str = BASE) -> list[RunResult]:
    """A cell's search results on a condition, best first."""
    wanted = (search_name(condition), cell.model, cell.recurrent)
    mine = [r for r in searched if r.key[1:4] == wanted]
    sign = -1.0 if mine and mine[0].metric == "accuracy" else 1.0
    return sorted(mine, key=lambda r: (sign * r.validation, r.validation_loss))


def _machine() -> str:
    return f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
