"""``hetsyn export``: exports a checkpoint, or a seeded example, as an artifact. Imports torch when it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hetsyn_client.terminal.output import open_console
from hetsyn_model.spec import ERROR_BOUND

if TYPE_CHECKING:
    from export.write import OnProgress, Report

export = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Export a trained network as an artifact that the server reads.",
)
console = open_console()

SHD_SIZE = "shd-size"


class FormChoice(StrEnum):
    exact, bank = auto(), auto()


@export.command("export")
def export_checkpoint(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="best.pt of a training run or an experiment; a file of torch.save(network.save(), FILE); or "
            f"{SHD_SIZE!r}, the paper's SHD network with random weights.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Artifact folder NAME/VERSION; must not exist.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data that verify the artifact and give its accuracy, instead of the validation examples that "
            "`hetsyn train` leaves in its folder."
        ),
    ] = None,
    bank_size: Annotated[
        str | None,
        typer.Option(help="Number of decays in each layer's bank, or one a layer as 8,8,5, instead of an error bound."),
    ] = None,
    error_bound: Annotated[
        float | None,
        typer.Option(
            min=1e-7,
            max=1.0,
            help=f"Largest relative L2 error of a kernel. Default: {ERROR_BOUND:g}; a network of an experiment keeps "
            "the bank of its training.",
        ),
    ] = None,
    form: Annotated[
        FormChoice | None,
        typer.Option(
            help="exact: each synapse has its own decay; bank: they share a few. Default: the form with the smaller "
            "state, or a bank that is nearly exact."
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Name of each output, in their order, for a network of yours.")
    ] = None,
    rejected: Annotated[
        str,
        typer.Option(metavar="A,B", help="Labels for which a server answers null, such as other words."),
    ] = "",
    examples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz",
            help="Streams that verify a network of yours: an array spikes (0 and 1) or values, by stream, step and "
            "channel. With an array labels they give its accuracy, too. Default: random streams.",
        ),
    ] = None,
    description: Annotated[str, typer.Option(help="One line about a network of yours, for people.")] = "",
    input_description: Annotated[
        str, typer.Option(help="What the channels of a network of yours are, for people.")
    ] = "",
    decision: Annotated[
        Literal["sum_softmax", "late_softmax"] | None,
        typer.Option(
            help="late_softmax: later steps count more, which suits words. A network trained with one of the rules can "
            "have the other. Default: as trained."
        ),
    ] = None,
    least_probability: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Least probability of a label that a server names; below it the answer is null. Default: any, unless "
            "a rejected label is the likeliest.",
        ),
    ] = None,
    no_torchscript: Annotated[
        bool, typer.Option("--no-torchscript", help="Leave out the step as TorchScript. No server needs it.")
    ] = False,
    seed: Annotated[int, typer.Option(help=f"Seed of the {SHD_SIZE} weights.")] = 0,
) -> None:
    """Turn a trained checkpoint into an artifact that can be served.

    All implementations are verified first. If they disagree, nothing is written.
    """
    from export.folder import ExportError, artifact_path
    from export.own_network import form_of, write_artifact
    from export.sources import decide_by, from_checkpoint, from_saved_network, shd_size

    as_trained = bank_size is None and error_bound is None
    of_yours = {
        "--labels": labels is not None,
        "--rejected": bool(rejected),
        "--examples": examples is not None,
        "--description": bool(description),
        "--input-description": bool(input_description),
    }
    out = artifact_path(out)
    sizes = None if bank_size is None else _sizes(bank_size)
    if form == FormChoice.exact and not as_trained:
        raise ExportError("the exact form has no bank: leave out --bank-size and --error-bound")
    if bank_size is not None and error_bound is not None:
        raise ExportError("--bank-size takes the place of --error-bound: give one of the two")
    if checkpoint == SHD_SIZE:
        _refuse(f"{SHD_SIZE} has labels, streams and a description", of_yours | {"--data": data is not None})
        exported = shd_size(out, seed)
    elif own := from_saved_network(Path(checkpoint), out, labels, examples, description, input_description, rejected):
        if data is not None:
            raise ExportError(f"{checkpoint}: --data is for a training run: give --examples FILE.npz")
        exported = own
    else:
        _refuse(f"{checkpoint}: a training run has labels, examples and a description", of_yours)
        exported = from_checkpoint(Path(checkpoint), out, data)
        if as_trained:
            sizes = exported.bank_size
    source = exported.source
    if decision is not None:
        decide_by(source.network, decision)
    if least_probability is not None:
        source = replace(source, acceptance_threshold=least_probability)
    if exported.needs_data:
        _note_without_data()
    with progress() as on_progress:
        report = write_artifact(
            source,
            exported.evaluation,
            out,
            bank_size=sizes,
            whole_range=as_trained and exported.whole_range_banks,
            error_bound=ERROR_BOUND if error_bound is None else error_bound,
            form=form_of(form),
            audio=exported.audio,
            with_torchscript=not no_torchscript,
            on_progress=on_progress,
        )
    print_report(report, len(exported.evaluation.streams.steps))


def _refuse(has_what: str, given: Mapping[str, bool]) -> None:
    """Refuse options for things that the source already has.

    Raises:
        ExportError: one of them is given.
    """
    from export.folder import ExportError

    if options := [option for option, is_given in given.items() if is_given]:
        raise ExportError(f"{has_what} of its own: leave out {', '.join(options)}")


def _sizes(text: str) -> int | list[int]:
    from export.folder import ExportError

    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise ExportError(f"--bank-size {text} is neither a number of decays, nor one a layer as 8,8,5")
    return int(text) if len(parts) == 1 else [int(part) for part in parts]


def _note_without_data() -> None:
    console.print(
        "no --data: the artifact gets no accuracy, and cannot get one later; give a folder of recordings to measure it",
        highlight=False,
    )


@contextmanager
def progress() -> Iterator[OnProgress]:
    """Show the progress: on a terminal a line with the stage and its time, elsewhere a line for each stage."""
    if not console.is_terminal:
        stages: list[str] = []

        def on_stage(stage: str, _: str) -> None:
            if stage not in stages:
                stages.append(stage)
                console.print(stage, highlight=False, markup=False, soft_wrap=True)

        yield on_stage
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as line:
        task = line.add_task("")
        yield lambda stage, detail: line.update(task, description=f"{stage}  {detail}")


def print_report(report: Report, streams: int | None = None) -> None:
    """Print the measurements as tables."""
    from export.folder import serving
    from export.inspection.commands import MISMATCH

    counted = "" if streams is None else f", {streams} streams"
    table = Table(
        "form",
        "state bytes a session",
        "file bytes",
        "decays a layer",
        "kernel error",
        "spikes that differ",
        "accuracy",
        title=f"{report.folder}{counted}",
    )
    table.add_row(
        report.form,
        f"{report.state_bytes:,}",
        f"{report.file_bytes:,}",
        " ".join(str(size) for size in report.bank_sizes.values()) or "-",
        f"{report.kernel_error:.1e}",
        "-" if report.spike_mismatch is None else f"{report.spike_mismatch:.2%}",
        "-" if report.accuracy is None else f"{report.accuracy:.1%}",
    )
    if report.spike_mismatch is not None:
        table.caption = MISMATCH
    console.print(table)
    agreement = Table("implementation against the step", "labels", "spikes", "largest difference")
    for item in report.differences:
        agreement.add_row(item.implementation, str(item.labels), str(item.spikes), f"{item.largest:.1e}")
    console.print(agreement)
    if report.tolerance:
        console.print(
            f"batches and chunks differ by {report.company:.1e}, tolerance {report.tolerance:g}",
            highlight=False,
            soft_wrap=True,
        )
    if report.one_at_a_time:
        console.print("the graph takes one stream: a batch runs stream by stream", highlight=False, soft_wrap=True)
    console.print(serving(report.folder), highlight=False, markup=False, soft_wrap=True)
