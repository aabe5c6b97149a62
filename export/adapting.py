"""``hetsyn adapt``: fine-tunes a model's readout on examples of one person. Imports torch when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.commands import console, print_report, progress
from export.folder import ExportError, artifact_path, check_absent, check_name
from service.contract.artifact import Artifact
from service.contract.folder import MODELS, SHIPPED, find_versions, named_artifact

if TYPE_CHECKING:
    from hetsyn_model.network import Network
    from hetsyn_model.spec import NetworkSpec
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
        held_back: number of examples that were held back, one of each label; 0 if a label has only one.
        before: how many of them the network named right as it was.
        after: how many of them a network named right that learned the other examples.
    """

    network: Network
    held_back: int = 0
    before: int = 0
    after: int = 0


def tuned(network: Network, front: Front[Any], items: Sequence[Any], tail_steps: int, named: Sequence[int]) -> Adapted:
    """Fine-tune the readout of a network.

    Args:
        network: has fitted banks; it is not changed.
        items: examples; their labels are outputs of the network.
        named: outputs of the labels that a server names. Each has an example.
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
        return Adapted(network_of_all)
    judged = [items[index] for index in last.values()]
    after = right(learned(rest).network(), judged)
    return Adapted(network_of_all, len(judged), right(network, judged), after)


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
    from export.own_network import CHECKPOINT, Source, write_artifact
    from export.parity import Streams
    from export.sources import front_and_items
    from hetsyn_model.training.checkpoint import Checkpoint
    from hetsyn_model.training.config import Config, config_of_checkpoint

    artifact = named_artifact(model, MODELS, SHIPPED)
    manifest, path = artifact.manifest, artifact.folder / CHECKPOINT
    out = _next_version(artifact) if out is None else artifact_path(out)
    check_name(out.parent.name, out.name)
    check_absent(out)
    if CHECKPOINT not in manifest.files:
        raise ExportError(f"{artifact.folder}: has no {CHECKPOINT}: adapt a model that hetsyn export has written")
    saved = Checkpoint.load(path)
    named = _named(artifact, saved.network.spec)
    config = Config() if saved.config is None else config_of_checkpoint(saved.config, str(path))
    front, items = front_and_items(saved, config, data)
    _check_labels(artifact, data, named, items)
    sizes = list(manifest.network.bank_sizes.values()) or None
    with progress() as on_progress:
        on_progress("learn the takes", "")
        saved.network.fit_banks(size=sizes)
        adapted = tuned(saved.network, front, items, saved.tail_steps, named)
        batch = front.encode(items, saved.tail_steps)
        report = write_artifact(
            Source(
                adapted.network,
                out.parent.name,
                out.name,
                manifest.description,
                manifest.labels,
                manifest.input.description,
                saved.encoder,
                saved.tail_steps,
                {**manifest.provenance, "adapted_from": f"{manifest.name} {manifest.version}"},
                saved.experiment,
                saved.config,
                manifest.endpointing,
                manifest.rejected_labels,
                manifest.acceptance_threshold,
            ),
            Evaluation(Streams(batch.events.dense(), batch.steps)),  # an accuracy on what it learned says nothing
            out,
            bank_size=sizes,
            form=manifest.network.form,
            with_torchscript=False,
            on_progress=on_progress,
        )
    print_report(report, len(items))
    _print_gain(adapted)


def _next_version(artifact: Artifact) -> Path:
    """Choose the folder of the model's next version, in ``models``."""
    name = artifact.manifest.name
    versions = [*find_versions(artifact.folder.parent), *find_versions(MODELS / name)]
    highest = max((int(folder.name) for folder in versions if folder.name.isdecimal()), default=0)
    return artifact_path(MODELS / name / str(highest + 1))


def _named(artifact: Artifact, spec: NetworkSpec) -> list[int]:
    """List the outputs of the labels that a server names.

    Raises:
        ExportError: the model decides in another way, or takes values without an encoder.
    """
    manifest, rule = artifact.manifest, spec.decision.rule
    if not spec.decision.averages_softmax or spec.takes_values:
        raise ExportError(
            f"{artifact.folder}: a network of {spec.input_kind} with rule {rule} cannot be adapted: take one "
            "of spikes, or with an encoder, and of rule sum_softmax or late_softmax"
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
