"""``hetsyn adapt``: fine-tunes a model's readout on examples of one person. Imports torch when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from export.commands import console, print_report, progress
from export.folder import ExportError, artifact_path
from service.contract.artifact import Artifact
from service.contract.folder import MODELS, find_versions, named_artifact, usual_folder
from service.errors import HetsynError

if TYPE_CHECKING:
    from hetsyn_model.network import Network
    from hetsyn_model.training.checkpoint import Checkpoint
    from hetsyn_model.training.encoding.front import Front
    from hetsyn_model.training.readout_tuning import ReadoutTuning

adapt = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune a model to the one person who uses it.",
)


@dataclass(frozen=True)
class Adapted:
    """A network that has learned examples.

    Attributes:
        examples: number of them.
        held_back: an example of each label, that of the most, which the next two figures are of; none if a label has
            only one.
        before, after: how many of those the network, and one that learned the other examples, named right.
    """

    network: Network
    examples: int
    held_back: int = 0
    before: int = 0
    after: int = 0


def tuned(network: Network, front: Front[Any], items: Sequence[Any], tail_steps: int, named: Sequence[int]) -> Adapted:
    """Fine-tune the readout of a network, of which the labels ``named`` have examples.

    Args:
        network: has fitted banks; it is not changed.
        items: their labels are outputs of the network.
    """
    import numpy as np

    from hetsyn_model.training.labelled import classify
    from hetsyn_model.training.readout_tuning import VARIANTS, ReadoutTuning, Tuning

    def learned(chosen: Sequence[Any]) -> ReadoutTuning:
        tuning, rng = ReadoutTuning(network, named), np.random.default_rng(0)
        batches = [front.encode(chosen, tail_steps), *(front.vary(chosen, tail_steps, rng) for _ in range(VARIANTS))]
        tuning.learn([tuning.hear(batch) for batch in batches], Tuning())
        return tuning

    def right(of: Network, judged: Sequence[Any]) -> int:
        _, probabilities = classify(of, front, judged, tail_steps)
        found = probabilities[:, list(named)].argmax(1)
        return sum(named[int(place)] == item.label for place, item in zip(found, judged, strict=True))

    last = {item.label: index for index, item in enumerate(items)}
    rest = [item for index, item in enumerate(items) if last[item.label] != index]
    network_of_all = learned(items).network()
    if {item.label for item in rest} != set(last):
        return Adapted(network_of_all, len(items))
    judged = [items[index] for index in last.values()]
    after = right(learned(rest).network(), judged)
    return Adapted(network_of_all, len(items), len(judged), right(network, judged), after)


@adapt.command("adapt")
def adapt_model(
    model: Annotated[Path, typer.Argument(help="An artifact's folder, or a name in models/, as speech-digits.")],
    data: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A folder for each label that the model names, with five takes or so."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Artifact folder NAME/VERSION. Default: the next version, in models/.")
    ] = None,
) -> None:
    """Fine-tune a model's readout on examples of one person, and write it as a new version.

    The weights of the labels that the model names change; all layers before the readout stay as they are.
    """
    from export.evaluation import Evaluation
    from export.own_network import CHECKPOINT, write_artifact
    from export.parity import ParityError, Streams
    from export.sources import from_checkpoint, front_and_items
    from hetsyn_model.synapses.bank import BankError
    from hetsyn_model.training.checkpoint import Checkpoint, CheckpointFileError
    from hetsyn_model.training.config import Config, ConfigError, config_of_checkpoint
    from hetsyn_model.training.datasets.data import DataError

    try:
        artifact = named_artifact(model, usual_folder())
        manifest, path = artifact.manifest, artifact.folder / CHECKPOINT
        out = _next_version(artifact) if out is None else artifact_path(out)
        saved = Checkpoint.load(path)
        named = _named(artifact, saved)
        config = Config() if saved.config is None else config_of_checkpoint(saved.config, str(path))
        front, items = front_and_items(saved, config, data)
        _check_labels(artifact, data, named, items)
        network = saved.network
        network.fit_banks(size=list(manifest.network.bank_sizes.values()) or None)
        adapted = tuned(network, front, items, saved.tail_steps, named)
        batch = front.encode(items, saved.tail_steps)
        source = replace(
            from_checkpoint(path, out, None).source,
            network=adapted.network,
            endpointing=manifest.endpointing,
            rejected_labels=manifest.rejected_labels,
            acceptance_threshold=manifest.acceptance_threshold,
            provenance={**manifest.provenance, "adapted_from": f"{manifest.name} {manifest.version}"},
        )
        with progress() as on_progress:
            report = write_artifact(
                source,
                Evaluation(Streams(batch.events.dense(), batch.steps)),  # an accuracy on what it learned says nothing
                out,
                bank_size=list(manifest.network.bank_sizes.values()) or None,
                form=manifest.network.form,
                with_torchscript=False,
                on_progress=on_progress,
            )
    except (
        BankError,
        CheckpointFileError,
        ConfigError,
        DataError,
        ExportError,
        FileExistsError,
        HetsynError,
        ParityError,
    ) as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(2) from error
    print_report(report, len(items))
    _print_gain(adapted)


def _next_version(artifact: Artifact) -> Path:
    """Choose the folder of the model's next version, in ``models``."""
    name = artifact.manifest.name
    versions = [*find_versions(artifact.folder.parent), *find_versions(MODELS / name)]
    highest = max((int(folder.name) for folder in versions if folder.name.isdecimal()), default=0)
    return artifact_path(MODELS / name / str(highest + 1))


def _named(artifact: Artifact, saved: Checkpoint) -> list[int]:
    """List the outputs of the labels that a server names.

    Raises:
        ExportError: the model decides in another way, or has no layer before its readout.
    """
    manifest, spec = artifact.manifest, saved.network.spec
    if not spec.decision.averages_softmax or not spec.hidden:
        raise ExportError(
            f"{artifact.folder}: a model of rule {spec.decision.rule} with {len(spec.hidden)} hidden layers cannot be "
            "adapted: take one of rule sum_softmax or late_softmax with a hidden layer"
        )
    return [output for output, label in enumerate(manifest.labels) if label not in manifest.rejected_labels]


def _check_labels(artifact: Artifact, data: Path, named: Sequence[int], items: Sequence[Any]) -> None:
    """Check that every label that the model names has examples, and no other.

    Raises:
        ExportError: it is not so.
    """
    labels = artifact.manifest.labels
    given = {item.label for item in items}
    if extra := sorted(given - set(named)):
        raise ExportError(
            f"{data}: {labels[extra[0]]!r} is a label that the model refuses, and does not learn here: leave it out"
        )
    if missing := [labels[output] for output in named if output not in given]:
        raise ExportError(
            f"{data}: has no examples of {', '.join(missing)}: give some of each label, five or so; a model that "
            "learned only some would forget the others"
        )


def _print_gain(adapted: Adapted) -> None:
    if not adapted.held_back:
        text = "A label has one example: record more, and the gain is measured on one that is held back."
    else:
        text = (
            f"An example of each label held back, the model learning the others: right in {adapted.after} of "
            f"{adapted.held_back}, before {adapted.before}."
        )
    console.print(text, highlight=False, soft_wrap=True)
