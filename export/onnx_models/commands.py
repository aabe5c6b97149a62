"""``hetsyn import-onnx``: imports an ONNX model with its state as inputs and outputs."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from export.commands import print_report
from hetsyn_client.terminal.output import open_console

import_onnx = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Import an ONNX model with a state among its inputs and outputs, as an artifact that the server reads.",
)
console = open_console()
T = TypeVar("T")


@import_onnx.command("import-onnx")
def import_file(
    file: Annotated[Path, typer.Argument(help="ONNX file; its graph is one step.")],
    out: Annotated[Path, typer.Option(help="Artifact folder NAME/VERSION; must not exist.")],
    labels: Annotated[str, typer.Option(help="Names of the outputs, in their order: a,b,c. Two for a probability.")],
    rejected: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Labels for which a server answers null, such as other words."),
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="INPUT=OUTPUT: a state and its value after the step. Repeatable.")
    ] = None,
    input: Annotated[str | None, typer.Option(help="Input of the values, where several are left.")] = None,
    output: Annotated[str | None, typer.Option(help="Output that is the result, where several are left.")] = None,
    constant: Annotated[list[str] | None, typer.Option(help="INPUT=NUMBER of a further input. Repeatable.")] = None,
    batch_axis: Annotated[
        list[str] | None,
        typer.Option(help="NAME=AXIS of an input or output with its batch elsewhere than at axis 0. Repeatable."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Lengths of the input beside the batch, where the graph leaves them open: 1,80.")
    ] = None,
    context: Annotated[int, typer.Option(min=0, help="Last values of the step before, put in front of each step.")] = 0,
    audio: Annotated[int | None, typer.Option(min=1, help="Sample rate in Hz, if the values are samples.")] = None,
    frame: Annotated[int | None, typer.Option(min=1, help="Samples of a step, without the context.")] = None,
    initial: Annotated[
        Path | None, typer.Option(help=".npz with states before the first step, by input name; zeros without.")
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="The output is a distribution, or one probability, not scores.")
    ] = False,
    decision: Annotated[
        str, typer.Option(help="sum_softmax, late_softmax, spike_count, last or trace.")
    ] = "sum_softmax",
    step_s: Annotated[
        float | None, typer.Option(help="Seconds of a step; for audio it is computed. Default: 0.001.")
    ] = None,
    description: Annotated[str, typer.Option(help="One line for people.")] = "",
    tolerance: Annotated[float, typer.Option(help="Largest difference between batches and chunkings.")] = 1e-5,
) -> None:
    """Turn an ONNX model with its state as inputs and outputs into an artifact.

    It is verified against the file itself. If they disagree, nothing is written.
    """
    from export.folder import split_names
    from export.onnx_models.importing import import_onnx as run

    report = run(
        file,
        out=out,
        labels=split_names(labels),
        rejected_labels=split_names(rejected or ""),
        state=_pairs("--state", state, str),
        input=input,
        output=output,
        constants=_pairs("--constant", constant, float),
        batch_axis=_pairs("--batch-axis", batch_axis, int),
        shape=None if shape is None else _lengths(shape),
        context=context,
        audio=audio,
        frame=frame,
        initial=None if initial is None else _arrays(initial),
        output_kind="probabilities" if probabilities else "scores",
        decision=decision,  # type: ignore[arg-type]
        step_s=step_s,
        description=description,
        tolerance=tolerance,
    )
    print_report(report)


def _pairs(option: str, texts: Sequence[str] | None, read: Callable[[str], T]) -> dict[str, T]:
    """Parse NAME=VALUE texts.

    Raises:
        ExportError: one has another form.
    """
    from export.folder import ExportError

    pairs: dict[str, T] = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        try:
            pairs[name] = read(value)
        except ValueError:
            separator = ""
        if not (name and separator and value):
            raise ExportError(f"{option} {text!r}: give NAME=VALUE, the value {_a(read)}")
    return pairs


def _a(read: Callable[[str], Any]) -> str:
    return "a number" if read is float else "an axis such as 1" if read is int else "a name"


def _lengths(text: str) -> list[int]:
    """Parse lengths.

    Raises:
        ExportError: one is no number above 0.
    """
    from export.folder import ExportError

    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) for part in parts):
        raise ExportError(f"--shape {text!r}: give lengths above 0, such as 1,80")
    return [int(part) for part in parts]


def _arrays(path: Path) -> dict[str, Any]:
    """Read a file of arrays.

    Raises:
        ExportError: it is none.
    """
    import numpy as np

    from export.folder import ExportError

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path} is no .npz file of arrays ({error}): write it with numpy.savez") from error
