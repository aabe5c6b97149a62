"""``python -m research``: the paper's experiments, one command each."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Annotated, NoReturn

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from hetsyn_client import HetsynError
from hetsyn_model.training.history import History
from hetsyn_model.training.loop import keep_freed_memory
from research.catalog import EARLIER, EXPERIMENTS, smoke
from research.runs.checkpoint import judge_checkpoint
from research.runs.results import RESULTS, TABLE, RunResult
from research.runs.run import RunSpec
from research.runs.runner import Listener, Selection, run_experiment

experiment = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, help="Run one of the paper's experiments."
)
console = Console()


@experiment.command("research")
def run(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(EXPERIMENTS)}.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="hetsyn, hetneu, homneu (LIF), alif, dh-snn or free-bank; may be repeated. Default: all."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of the final runs; may be repeated. Default: all.")
    ] = None,
    condition: Annotated[
        list[str] | None, typer.Option(help="Condition to run; may be repeated. Default: all.")
    ] = None,
    recurrent: Annotated[
        bool | None, typer.Option("--recurrent/--feedforward", help="Default: as in the experiment's plan.")
    ] = None,
    small: Annotated[
        bool, typer.Option("--smoke", help="A short test run of a few seconds; its figures mean nothing.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the runs. Unfinished runs continue.")] = Path("runs/experiments"),
    results: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: the repository's; with --smoke, a folder in --out."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of SHD, of Fashion-MNIST or of the watch's file.")] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="shd-recorded: in place of runs, judge a checkpoint of the paper's code (FILE.pth) on SHD's test file."
        ),
    ] = None,
) -> None:
    """Search, train and test every neuron model of an experiment. `make report` writes the report."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if name in EARLIER:
        _fail(f"{name!r} is over: research/results/ has its runs, commit {EARLIER[name]} its code")
    if name not in EXPERIMENTS:
        _fail(f"{name!r} is not an experiment: choose one of {', '.join(EXPERIMENTS)}")
    choice = Selection(model, recurrent, seed, condition)
    if checkpoint is not None:
        if name != "shd-recorded" or data is None:
            _fail("--checkpoint: write shd-recorded --checkpoint FILE.pth --data DIR, with shd_test.h5 in DIR")
        try:
            for line in judge_checkpoint(checkpoint, data):
                console.print(line, highlight=False)
        except HetsynError as error:
            _fail(str(error))
        return
    out = out / "smoke" if small else out
    results_file = (results or (out / "results" if small else RESULTS)) / f"{name}{TABLE}"
    planned = EXPERIMENTS[name]()
    if small:
        planned = smoke(planned, has_data=data is not None)
    if missing := choice.missing(planned):
        _fail(f"{name}{' with --smoke' if small else ''} does not have {missing}")
    console.print(f"{name}: folder: {out / name}")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        with Bars(*columns, console=console) as bars:
            run_experiment(planned, out, results_file, choice, data, _shown(bars))
    except HetsynError as error:
        _fail(str(error))
    report = "" if small else "   report: make report"  # which has no figures of smoke runs
    console.print(f"results: {results_file}{report}")


def _shown(bars: Bars) -> Listener:
    task = bars.add_task("")

    def on_evaluation(run: RunSpec, history: History) -> None:
        bars.update(
            task,
            completed=history.update[-1],
            total=run.training.updates,
            description=f"{run.name}: loss {history.loss[-1]:.3f}, validation {history.validation[-1]:.4g}",
        )

    def on_result(run: RunSpec, result: RunResult, fresh: bool) -> None:
        note = "" if fresh else " (finished before)"
        bars.console.print(
            f"{run.name}: {result.metric} {result.figure:.4g}, update {result.chosen_update} of "
            f"{run.training.updates}, {result.seconds:.0f} s{note}",
            highlight=False,
        )
        if text := by_epoch(result):
            bars.console.print(text, highlight=False)

    return Listener(on_evaluation, on_result)


def by_epoch(result: RunResult) -> str:
    """Say what the best epoch by test flatters, and what nobody chose; empty where epochs were not tested."""
    tested = [figure for _, figure in result.analysis.get("test_by_epoch", [])]
    if not tested:
        return ""
    late = fmean(tested[round(0.4 * len(tested)) :])  # epochs 40 to 99 of 100
    return (
        f"tested at each epoch: best {max(tested):.2%} (chosen by the test), mean of the last 60% {late:.2%}, "
        f"last {tested[-1]:.2%}; kept {result.figure:.2%}"
    )


def _fail(message: str) -> NoReturn:
    console.print(f"[red]{escape(message)}[/red]")
    raise typer.Exit(2)
