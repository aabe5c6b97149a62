"""``hetsyn train``: trains networks on data. Imports torch when it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from hetsyn_model.training.fitting import TestResult
    from hetsyn_model.training.history import History
    from hetsyn_model.training.prepared import Prepared

UNWRAPPED = 100_000  # characters of a line without a terminal

train = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else UNWRAPPED)


class _Bars:
    """Progress bars of a run: epochs, and the batches of the epoch."""

    def __init__(self, bars: Progress, title: str, run: Path, epochs: int) -> None:
        self._bars, self._title, self._run = bars, title, run
        self._epochs: TaskID = bars.add_task(title, total=epochs)
        self._batches: TaskID = bars.add_task("  batches")

    def on_update(self, index: int, count: int, loss: float) -> None:
        self._bars.update(self._batches, completed=index + 1, total=count, description=f"  loss {loss:.3f}")

    def on_epoch(self, history: History) -> None:
        from hetsyn_model.training.plot import plot_curves

        epoch, measures = len(history.update), history.measures
        self._bars.update(self._epochs, completed=epoch)
        self._bars.console.print(
            f"{escape(self._title)} epoch {epoch}: loss {history.loss[-1]:.3f}, "
            f"training {measures['train_accuracy'][-1]:.1%}, "
            f"validation {history.validation[-1]:.1%} (chosen: {history.chosen + 1}), "
            f"{measures['firing_rate'][-1]:.1%} of neurons a step, {history.seconds[-1]:.0f} s"
        )
        plot_curves(history, self._run / "curves.png", self._title)


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _run(prepared: Prepared, out: Path, title: str, device: str) -> TestResult | None:
    from hetsyn_model.training.fitting import train_prepared
    from hetsyn_model.training.loop import Callbacks

    data = prepared.data
    console.print(
        f"{len(prepared.labels)} classes: {len(data.real)} examples train, {len(data.validation)} validate, "
        f"{len(prepared.test)} test, divided {'as the data say' if prepared.by == 'own' else f'by {prepared.by}'}",
        highlight=False,
    )
    guess = ": a guess, one more than the highest unit; network.channels in the configuration says it"
    console.print(f"{prepared.spec.channels} channels{guess if prepared.is_guess else ''}", highlight=False)
    with _bars() as bars:
        shown = _Bars(bars, title, out, prepared.config.training.epochs)
        callbacks = Callbacks(shown.on_update, shown.on_epoch)
        fitted = train_prepared(prepared, out, device=device, callbacks=callbacks)
    if (share := fitted.network.share_at_bounds()) is not None:
        console.print(f"{share:.1%} of the time constants lie at an end of their range", highlight=False)
    return fitted.test


@train.command()
def train_on_data(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder of class/*.wav or of label_speaker_take.wav; spikes in SHD's form (.h5); arrays (.npz); "
            "series (.csv); or a folder of SHD, SSC or MNIST."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, metrics and curves. An unfinished run continues.")],
    config: Annotated[
        str | None,
        typer.Option(
            help="TOML file of hyperparameters, or the name of a shipped one: audio, spikes, values, motion, "
            "speech-digits. Default: that of the kind of data."
        ),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Data that test the network, once. Default: a part of DATA.")
    ] = None,
    extra: Annotated[
        Path | None,
        typer.Option(help="More data that are only trained on, for example synthesised voices."),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Train without this group (speaker), and test on it. Repeat it for more runs."),
    ] = None,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Leave out each group of the data, one run each.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs. Default: the configuration's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed. Default: the configuration's.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 2,
) -> None:
    """Train a network on data of your own: sound, spikes or series of values.

    One file says what the network is and how it is trained (--config). A copy of it stays in the folder of the run.
    """
    import torch

    from hetsyn_model.training.datasets.data import DataError
    from hetsyn_model.training.datasets.readers import kind_of, read
    from hetsyn_model.training.fitting import resolved, torch_device
    from hetsyn_model.training.loop import keep_freed_memory
    from hetsyn_model.training.prepared import prepare

    torch.set_num_threads(threads)
    keep_freed_memory()
    torch_device(device)
    settings = resolved(config, kind_of(data), epochs=epochs, seed=seed)
    examples = read(data, settings)
    own_test = None if test is None else read(test, settings)
    pool = None if extra is None else read(extra, settings)
    groups = sorted({item.group for item in examples.items if item.group})
    if leave_one_out and not groups:
        raise DataError(f"{data}: has no groups that could be left out")
    left_out = groups if leave_one_out else leave_out or []
    nameless = [group for group in left_out if set(group) & set("/\\\0") or len(group.encode()) > 200]
    if nameless:
        raise DataError(
            f"group {nameless[0]!r} cannot name the folder of its run: give groups short names without / and \\"
        )
    if not left_out:
        prepared = prepare(examples, settings, test=own_test, extra=pool)
        result = _run(prepared, out, data.name, device)
        _show_test(result)
        console.print(
            f"network: {out / 'best.pt'}   export it: hetsyn export {out / 'best.pt'} --out models/NAME/VERSION",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return
    every = [(group, prepare(examples, settings, test=own_test, extra=pool, leave_out=[group])) for group in left_out]
    results = {}
    for group, prepared in every:
        run = out / f"without-{group}"
        results[group] = _run(prepared, run, f"without {group}", device)
    _report(out, {group: result for group, result in results.items() if result is not None})


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _show_test(result: TestResult | None) -> None:
    if result is None:
        console.print("no test examples: the figures above are those of the validation examples, which chose the epoch")
        return
    worst = min(result.by_class, key=lambda name: result.by_class[name])
    console.print(
        f"test, {result.examples} examples: {_share(result.bank)} in the bank form, "
        f"{_share(result.exact)} in the exact form; worst class {worst}: {result.by_class[worst]:.1%}",
        highlight=False,
        markup=False,
    )


def _report(out: Path, results: dict[str, TestResult]) -> None:
    from hetsyn_model.run_folder import replace_file

    table = Table("left out", "examples", "accuracy, bank", "accuracy, exact", "epoch")
    for group, result in results.items():
        table.add_row(escape(group), str(result.examples), _share(result.bank), _share(result.exact), str(result.epoch))
    mean = {
        "bank": _mean([result.bank for result in results.values()]),
        "exact": _mean([result.exact for result in results.values()]),
    }
    table.add_row("mean", "", _share(mean["bank"]), _share(mean["exact"]), "", style="bold")
    console.print(table)
    rows = [{"group": group, **vars(result)} for group, result in results.items()]
    replace_file(out / "leave-one-out.json", (json.dumps({"mean": mean, "groups": rows}, indent=1) + "\n").encode())
