"""Runs an experiment: the searches, then every condition and seed; what is finished is not done again."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hetsyn_model.experiments import results
from hetsyn_model.experiments.claims import analyse
from hetsyn_model.experiments.lstm import SequenceLSTM
from hetsyn_model.experiments.plan import (
    BASE,
    Cell,
    Chosen,
    Experiment,
    cells,
    final_runs,
    search_name,
    search_runs,
    searched_conditions,
)
from hetsyn_model.experiments.results import Result, read_result, write_result
from hetsyn_model.experiments.run import Progress, RunSpec, claim, evaluate, load_best, open_task, thinned, train
from hetsyn_model.experiments.task import better
from hetsyn_model.network import Network
from hetsyn_model.state import state_bytes


@dataclass(frozen=True)
class Choice:
    """Which part of an experiment to run; None means all. share: (index from 0, of how many), splits the cells there
    and back, so that what is dear (HetSyn, recurrent) does not fall to one share."""

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
        turns = [place % (2 * count) for place in range(len(wanted))]
        return [cell for cell, turn in zip(wanted, turns, strict=True) if min(turn, 2 * count - 1 - turn) == index]

    def takes(self, run: RunSpec) -> bool:
        return (self.seeds is None or run.seed in self.seeds) and (
            self.conditions is None or run.condition in self.conditions
        )


@dataclass(frozen=True)
class Listener:
    """Called as things happen: with a run's progress, and with its result (finished before: False)."""

    on_evaluation: Callable[[RunSpec, Progress], None] | None = None
    on_result: Callable[[RunSpec, Result, bool], None] | None = None


def run_experiment(
    experiment: Experiment,
    out: Path,
    kept: Path,
    choice: Choice,
    data: Path | None = None,
    listener: Listener | None = None,
) -> list[Result]:
    """Run what is chosen and not finished; the results of the final runs.

    Args:
        out: folder of the runs; the experiment gets one of its name. kept: file for all its results.

    Raises:
        MissingData: the task's data is not here. RunError: ``out`` holds a run with another configuration.
    """
    listener = listener or Listener()
    folder = out / experiment.name
    found: list[Result] = []
    for cell in choice.cells(experiment):
        chosen = {
            condition: search(experiment, cell, condition, folder, data, listener)
            for condition in searched_conditions(experiment, cell)
            if condition == BASE or choice.conditions is None or condition in choice.conditions
        }
        chosen = dict.fromkeys(searched_conditions(experiment, cell), chosen[BASE]) | chosen
        for run in final_runs(experiment, cell, chosen):
            if not choice.takes(run):
                continue
            analysed = experiment.condition(run.condition).analyses(run)
            streams = experiment.analysis_streams if analysed else 0
            found.append(finish(run, folder, data, listener, streams))
            results.keep(finished(folder), kept)
    return found


def search(
    experiment: Experiment, cell: Cell, condition: str, folder: Path, data: Path | None, listener: Listener
) -> Chosen:
    """The candidate with the best validation figure, ties by validation loss."""
    runs = search_runs(experiment, cell, condition)
    candidates = [(run, finish(run, folder, data, listener, 0)) for run in runs]
    best_run, best = candidates[0]
    for run, result in candidates[1:]:
        if better("accuracy" if result.metric == "accuracy" else "mse", result.validation, best.validation) or (
            result.validation == best.validation and result.validation_loss < best.validation_loss
        ):
            best_run, best = run, result
    return Chosen(best_run.learning_rate, best_run.tau_steps)


def finish(run: RunSpec, folder: Path, data: Path | None, listener: Listener, analysis_streams: int) -> Result:
    """Train and judge a run unless that was done before."""
    home = folder / run.name
    result = read_result(home)
    if result is not None:
        claim(home, run)
        if listener.on_result is not None:
            listener.on_result(run, result, False)
        return result
    task = open_task(run, data)
    progress = train(run, task, home, listener.on_evaluation)
    network = load_best(run, task, home)
    # the search is judged on validation data alone
    at = progress.chosen
    figure, loss = (
        (progress.validation[at], progress.validation_loss[at])
        if run.searching
        else evaluate(network, task, task.test())
    )
    result = Result(
        run=run.to_dict(),
        metric=task.figure,
        figure=figure,
        loss=loss,
        validation=progress.validation[at],
        validation_loss=progress.validation_loss[at],
        chosen_update=progress.update[at],
        firing_hz=progress.firing_hz[at],
        seconds=progress.seconds,
        machine=_machine(),
        curve=thinned(progress),
        analysis=analyse(run, task, network, analysis_streams) if analysis_streams else {},
        **_sizes(network, run),
    )
    result = write_result(home, result)
    if listener.on_result is not None:
        listener.on_result(run, result, True)
    return result


def _sizes(network: Network | SequenceLSTM, run: RunSpec) -> dict[str, Any]:
    learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if isinstance(network, SequenceLSTM):
        return {"parameters": learned, "bank_sizes": {}, "kernel_error": 0.0} | {
            "state_bytes": {"exact": 8 * sum(network.sizes[1])}  # h and c, float32
        }
    decays = sum(
        p.numel()
        for name, p in network.named_parameters()
        if name.rsplit(".", 1)[-1].startswith("r_") and p.requires_grad
    )
    return {
        "parameters": round(learned - run.masked_share * decays),
        "bank_sizes": {name: bank.size for name, bank in network.banks.items()},
        "kernel_error": max(network.kernel_errors().values()),
        "state_bytes": {
            "exact": state_bytes(network.state_layout("exact")),
            "bank": state_bytes(network.state_layout("bank")),
        },
    }


def finished(folder: Path) -> list[Result]:
    """Every finished run below an experiment's folder."""
    return [result for path in sorted(folder.rglob(results.RESULT)) if (result := read_result(path.parent)) is not None]


def chosen_by_search(found: Sequence[Result], cell: Cell, condition: str = BASE) -> list[Result]:
    """A cell's search results on a condition, best first."""
    wanted = (search_name(condition), cell.model, cell.recurrent)
    mine = [r for r in found if r.key[1:4] == wanted]
    sign = -1.0 if mine and mine[0].metric == "accuracy" else 1.0
    return sorted(mine, key=lambda r: (sign * r.validation, r.validation_loss))


def _machine() -> str:
    return f"{platform.machine()}, {torch.get_num_threads()} thread(s)"
