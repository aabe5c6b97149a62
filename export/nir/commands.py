"""``hetsyn import-nir`` and ``hetsyn export-nir``. They import torch when they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from export.nir.convention import PRODUCERS, RULES, Producer, Reset, Rule, Spikes
from hetsyn_client.terminal.output import open_console
from hetsyn_model.spec import Rule as DecisionRule

if TYPE_CHECKING:
    from export.nir.importing import Imported

import_nir = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, help="Import a network of another library by its NIR file."
)
export_nir = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, help="Write a network as a NIR file for other libraries."
)
console = open_console()


@import_nir.command("import-nir")
def import_file(
    file: Annotated[Path, typer.Argument(help="NIR file, as nir.write() or a library's exporter writes it.")],
    out: Annotated[Path, typer.Option(help="Artifact folder NAME/VERSION; must not exist.")],
    dt: Annotated[
        float | None, typer.Option(help="Duration of a step, in the file's unit of time: seconds, by NIR.")
    ] = None,
    rule: Annotated[Rule | None, typer.Option(help=f"Integration: {' or '.join(RULES)}.")] = None,
    reset: Annotated[
        Reset | None,
        typer.Option(
            help="After a spike: zero; subtract-at-once (the threshold, before the decay); subtract-next (in the next "
            "step, after the decay, as snnTorch does); or subtract: subtract-next if the neurons' gain is 1, as "
            "snnTorch writes it, else subtract-at-once."
        ),
    ] = None,
    producer: Annotated[
        Producer | None,
        typer.Option(
            help=f"Library that wrote the file: {', '.join(PRODUCERS)}. Its defaults hold for what is not given."
        ),
    ] = None,
    spikes: Annotated[
        Spikes | None,
        typer.Option(help="How often a neuron may fire in a step: single, once; multiple, as Sinabs does by default."),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Names of the outputs, with commas. Default: numbers.")] = None,
    rejected: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Labels for which a server answers null, such as other words."),
    ] = None,
    decision: Annotated[
        DecisionRule | None,
        typer.Option(help="Rule of the decision. Default: spike_count for an Output of spikes, else sum_softmax."),
    ] = None,
    input: Annotated[
        Literal["spikes", "values"],
        typer.Option(help="What streams carry. A network of values takes spikes too, as ones."),
    ] = "spikes",
    step_s: Annotated[
        float | None, typer.Option(help="Seconds of a step, where the file's unit of time is not the second.")
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(help="A .npy of streams, steps and channels to measure the verdict on. Default: seeded spikes."),
    ] = None,
    description: Annotated[str, typer.Option(help="One line for people.")] = "",
) -> None:
    """Import a network of another library by its NIR file.

    The result is compared with the file's own equations on a probe, and written as an artifact.
    """
    from export.folder import split_names
    from export.nir import NirError, Unsupported
    from export.nir.importing import import_nir as run

    try:
        imported = run(
            file,
            out=out,
            dt=dt,
            rule=rule,
            reset=reset,
            producer=producer,
            spikes=spikes,
            labels=None if labels is None else split_names(labels),
            rejected_labels=None if rejected is None else split_names(rejected),
            decision=decision,
            step_s=step_s,
            description=description,
            input_kind=input,
            probe=None if probe is None else _probe(probe),
        )
    except Unsupported as error:
        raise NirError(f"unsupported: {error}") from error
    _print(imported)


@export_nir.command("export-nir")
def export_file(
    source: Annotated[
        Path, typer.Argument(help="Artifact folder, checkpoint of a training run, or file of Network.save().")
    ],
    out: Annotated[Path, typer.Option(help="NIR file to write; must not exist.")],
    as_: Annotated[
        Literal["lif"] | None,
        typer.Option(
            "--as", help="lif: LIF neurons, for libraries that run no Threshold. Only a network of LIF can be."
        ),
    ] = None,
    form: Annotated[
        Literal["exact", "bank"] | None,
        typer.Option(
            help="Form of an artifact to write. Default: exact where a neuron has one decay a path, else bank."
        ),
    ] = None,
    rule: Annotated[
        Rule, typer.Option(help="Rule of the file's time constants; the other library has to integrate by the same.")
    ] = "exponential",
) -> None:
    """Write a network as a NIR graph."""
    from export.nir.writing import export_nir as run

    written = run(source, out=out, as_lif=as_ == "lif", form=form, rule=rule)
    error_text = f", kernel error {written.kernel_error:.1e}" if written.form == "bank" else ""
    console.print(
        escape(f"{written.path}: {written.kind}, {written.form} form{error_text}, {written.nodes} nodes, rule {rule}")
    )


def _probe(path: Path) -> object:
    import numpy as np

    from export.nir import NirError

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise NirError(f"{path}: not an array of numpy.save(): give [stream, step, channel] as .npy") from error


def _print(imported: Imported) -> None:
    from export.folder import serving

    chosen = imported.convention
    console.print(escape(imported.fidelity.sentence()))
    for note in imported.notes:
        console.print(escape(f"note: {note}"))
    given = {"dt": chosen.dt, "rule": chosen.rule, "reset": chosen.reset}
    console.print(escape("by " + ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)))
    console.print(escape(f"{imported.folder}: written, runs as {imported.runs_as}"))
    console.print(escape(serving(imported.folder)))
