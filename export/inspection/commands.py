"""``hetsyn inspect``: shows an artifact's manifest, sizes, operations and confusions.

If ONNX Runtime is installed, it runs the golden streams, and operations are counted for their spikes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from hetsyn_client.terminal.output import open_console

MISMATCH = "spikes that differ: those of the bank that are missing or new, over the exact network's spikes"

inspect = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@inspect.command()
def inspect_model(
    model: Annotated[
        Path,
        typer.Argument(help="An artifact's folder, a model's folder (for its newest version), or a name in models/."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check an artifact's files and show its sizes, errors, accuracy, operations a step and confusions."""
    from export.inspection.confusion import confusion_table, read_confusion
    from export.inspection.energy import energy_of, energy_table
    from service.contract.describe import summary
    from service.contract.folder import MODELS, SHIPPED, named_artifact

    artifact = named_artifact(model, MODELS, SHIPPED)
    description = summary(artifact.manifest)
    energy, confusion = energy_of(artifact), read_confusion(artifact)
    if as_json:
        measured = {
            "operations": energy and energy.to_dict(),
            "confusion": None if confusion is None else confusion.tolist(),
        }
        typer.echo(json.dumps(description | measured, indent=2))
        return
    console = open_console()
    console.print(_table(description))
    console.print(_network(description["network"]))
    if energy is not None:
        console.print(energy_table(energy))
    if confusion is not None:
        console.print(confusion_table(confusion, artifact.manifest.labels))


def _table(model: dict[str, Any]) -> Table:
    table = Table(title=escape(f"{model['name']} {model['version']}"), show_header=False, title_justify="left")
    for name, value in _facts(model).items():
        table.add_row(escape(name), escape(str(value)))
    return table


def _facts(model: dict[str, Any]) -> dict[str, Any]:
    encoder, decision = model["encoder"], model["decision"]
    hidden = "-".join(map(str, [model["input"]["channels"], *model["hidden"], model["outputs"]]))
    facts = {
        "description": model["description"],
        "layers": hidden,
        "step": f"{1000 * model['input']['step_s']:g} ms",
        "input": model["input"]["description"] or model["input"]["kind"],
        "encoder": f"none: takes {model['input']['kind']}" if encoder is None else _encoder(encoder),
        "labels": ", ".join(model["labels"]) or "none",
        **_refusal(model),
        "decision": f"{decision['rule']}, skips {decision['skip_steps']} steps, tail of {decision['tail_steps']}",
        "look-ahead": f"{model['network']['lookahead_steps']} steps",
        "files": f"{len(model['files'])}, {model['total_bytes']:,} bytes, hashes match",
    }
    return facts | _provenance(model["provenance"])


def _refusal(model: dict[str, Any]) -> dict[str, str]:
    """Describe when a server answers null."""
    if model["acceptance_threshold"] is not None:
        return {
            "answers null": f"where no other label than {', '.join(model['rejected_labels']) or 'none'} has "
            f"{model['acceptance_threshold']:g}"
        }
    return {"answers null for": ", ".join(model["rejected_labels"])} if model["rejected_labels"] else {}


def _encoder(encoder: dict[str, Any]) -> str:
    if encoder["kind"] == "values":
        return f"values, {encoder['channels']} a step, {encoder['state_bytes']:,} bytes of state"
    rate = f"audio at {encoder['sample_rate_hz']} Hz, {encoder['samples_per_step']} samples a step"
    if not encoder["file_bytes"]:
        return f"none: takes {rate}, as they are"
    return f"{rate}, {encoder['state_bytes']:,} bytes of state"


def _provenance(entries: dict[str, Any]) -> dict[str, Any]:
    """Convert the provenance to what training printed. The manifest counts epochs from 0, and has updates as epochs."""
    if (share := entries.get("decays_at_bounds")) is not None:
        others = {name: value for name, value in entries.items() if name != "decays_at_bounds"}
        return {"time constants": f"{share:.1%} lie at an end of their range"} | _provenance(others)
    epoch = entries.get("epoch")
    if not isinstance(epoch, int):
        return entries
    shown = {"epoch": epoch + 1} if "experiment" not in entries else {"update": epoch}
    return {name: value for name, value in entries.items() if name != "epoch"} | shown


def _network(network: dict[str, Any]) -> Table:
    table = Table(caption=None if network["spike_mismatch"] is None else MISMATCH, caption_justify="left")
    table.add_column("form", no_wrap=True)
    for heading in (
        "state bytes a session",
        "file bytes",
        "in any batch",
        "kernel error",
        "spikes that differ",
        "accuracy",
    ):
        table.add_column(heading, justify="right")
    table.add_row(
        network["form"],
        f"{network['state_bytes']:,}",
        f"{network['file_bytes']:,}",
        f"within {network['tolerance']:g}" if network["tolerance"] else f"same bits ({network['exactness']})",
        f"{max(network['kernel_error'].values(), default=0.0):.2g}",
        "-" if network["spike_mismatch"] is None else f"{network['spike_mismatch']:.2%}",
        "-" if network["accuracy"] is None else f"{network['accuracy']:.2%}",
    )
    return table
