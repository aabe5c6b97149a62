"""Reads the sources of ``hetsyn export``: networks of training runs and experiments, and a seeded example."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from export.encoders import encoder_parts
from export.evaluation import Evaluation, evaluation_of, read_examples, seeded_streams
from export.folder import ExportError, split_names
from export.own_network import Source, load_network, source_of
from export.parity import Streams
from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.encoders.level_crossing import LevelCrossingSpec
from hetsyn_model.events import Events
from hetsyn_model.network import Network
from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec, Rule
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import Config, ConfigError, config_of_checkpoint
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import Kind
from hetsyn_model.training.datasets.readers import read
from hetsyn_model.training.datasets.split import split
from hetsyn_model.training.encoding.front import AudioFront, Front, SpikesFront, ValuesFront
from hetsyn_model.training.fitting import KEPT_STREAMS, VALIDATION
from service.contract.endpointing import Endpointing

FOR_EXPORT = "`python -m research.runs.for_export FILE FOLDER` in the checkout"


@dataclass(frozen=True)
class Exported:
    """A network to export, and the streams that verify it.

    Attributes:
        source: the network and its description.
        evaluation: streams that verify and judge it.
        audio: float32 [stream, whole steps], verifies its encoder; None without.
        bank_size: decays a layer in its training; None: by the error bound.
        whole_range_banks: these banks were fitted to all decays that training may reach.
        needs_data: recordings would give it an accuracy.
    """

    source: Source
    evaluation: Evaluation
    audio: torch.Tensor | None = None
    bank_size: int | None = None
    whole_range_banks: bool = False
    needs_data: bool = False


def from_checkpoint(path: Path, out: Path, data: Path | None) -> Exported:
    """Read the network of ``best.pt``.

    Args:
        out: folder of the artifact, NAME/VERSION.
        data: recordings; None without.

    Raises:
        CheckpointFileError: the file is no checkpoint.
        SpecError: the silence is out of range.
        DataError: the network takes no audio, ``data`` has no usable recordings, or an experiment's streams are not
            beside its checkpoint.
    """
    saved = Checkpoint.load(path)
    if saved.experiment is None:
        return _trained(path, saved, out, data)
    if data is not None:
        raise DataError(f"{path}: a run of an experiment has its own test streams beside it: leave out --data")
    return _experiment(path, saved, saved.experiment, out)


def from_saved_network(
    path: Path,
    out: Path,
    labels: str | None,
    examples: Path | None,
    description: str,
    input_description: str,
    rejected: str = "",
) -> Exported | None:
    """Read the network of a file of ``Network.save()``; None for a checkpoint of ``hetsyn train``.

    Args:
        out: folder of the artifact, NAME/VERSION.
        labels: names of the outputs, separated by commas.
        examples: ``.npz`` of spikes or values, with or without labels.
        description: one line for people.
        input_description: what the channels are, for people.
        rejected: labels for which a server answers null, separated by commas.

    Raises:
        ExportError: the file is something else, or labels or examples do not fit.
    """
    network = load_network(path)
    if network is None:
        return None
    spec = network.spec
    if labels is None and spec.decision.rule != "trace":
        raise ExportError(f"{path}: a network without names for its {spec.outputs} outputs: give --labels A,B,C")
    names, none = split_names(labels or ""), split_names(rejected)
    source = source_of(network, out, names, description, input_description, none)
    given = None if examples is None else read_examples(examples)
    return Exported(source, evaluation_of(given, spec.channels, spec.outputs, spec.input_kind))


def decide_by(network: Network, rule: Rule) -> None:
    """Give a network the other rule that averages softmaxes; its weights and its state stay the same.

    Raises:
        ExportError: the network has another kind of rule.
    """
    own = network.spec.decision
    if not own.averages_softmax:
        raise ExportError(
            f"--decision {rule}: the network was trained with {own.rule}, and only sum_softmax and late_softmax take "
            "each other's place: leave out --decision"
        )
    network.spec = replace(network.spec, decision=replace(own, rule=rule))


def _experiment(path: Path, saved: Checkpoint, run: dict[str, Any], out: Path) -> Exported:
    """Read a run of ``python -m research``, with its test streams for the verification.

    Raises:
        DataError: it has none.
    """
    kept = path.with_name(VALIDATION)
    if not kept.exists():
        raise DataError(
            f"{path}: the experiment's test streams, {VALIDATION}, are not beside it: {FOR_EXPORT} leaves them in a "
            "folder, with best.pt to export"
        )
    source = Source(
        saved.network,
        out.parent.name,
        out.name,
        saved.description,
        saved.labels,
        saved.input_description,
        saved.encoder,
        saved.tail_steps,
        {
            "experiment": run["experiment"],
            "condition": run["condition"],
            "neuron_model": run["model"],
            "recurrent": run["recurrent"],
            "seed": run["seed"],
            "epoch": saved.epoch,
        },
        run,
    )
    return Exported(
        source,
        _kept(kept, saved, f"{FOR_EXPORT} makes them"),
        bank_size=run["training"]["bank_size"],
        whole_range_banks=run["training"].get("whole_range_banks", False),
    )


def _trained(checkpoint: Path, saved: Checkpoint, out: Path, data: Path | None) -> Exported:
    """Read a run of ``hetsyn train``, with validation examples of its folder, or of ``data``, for the verification.

    Raises:
        DataError: ``data`` cannot be used, or the checkpoint names no labels.
        ConfigError: the checkpoint's configuration is not one of this version.
    """
    config = Config() if saved.config is None else config_of_checkpoint(saved.config, str(checkpoint))
    labels = saved.labels
    if not labels and saved.network.spec.decision.rule != "trace":
        raise DataError(
            f"{checkpoint}: names no labels: save its network alone, torch.save(torch.load(FILE)['network'], OTHER), "
            "and export that with --labels"
        )
    rejected = {
        config.names.get(label, label)
        for label in config.rejected
        if label in config.names or label not in config.names.values()
    }
    source = Source(
        saved.network,
        out.parent.name,
        out.name,
        saved.description or config.description,
        labels,
        "Spikes, a channel a unit" if saved.encoder is None else encoder_parts(saved.encoder).input_description,
        saved.encoder,
        saved.tail_steps,
        {"epoch": saved.epoch},
        config=saved.config,
        endpointing=_endpointing(config),
        rejected_labels=tuple(label for label in labels if label in rejected),
    )
    if data is not None:
        return _on_data(source, saved, config, data)
    kept = checkpoint.with_name(VALIDATION)
    if kept.exists():
        return Exported(source, _kept(kept, saved, "give --data"))
    evaluation = Evaluation(seeded_streams(saved.network.spec.channels, 0.03, streams=8, steps=60))
    return Exported(source, evaluation, needs_data=True)


def _endpointing(config: Config) -> Endpointing | None:
    """Read the settings that find utterances; None if the configuration has none.

    Raises:
        ConfigError: no server takes them.
    """
    if not config.endpointing.threshold:
        return None
    try:
        return Endpointing(**asdict(config.endpointing))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"the run's config: endpointing.{first['loc'][0]}: {first['msg']}") from error


def _kept(path: Path, saved: Checkpoint, remedy: str) -> Evaluation:
    """Read the streams in a run's folder that verify its network.

    Raises:
        DataError: they are damaged, or of another run; the message names the remedy.
    """
    try:
        kept = torch.load(path, weights_only=True)
        steps = kept["steps"]
        count, longest = len(steps), int(steps.max())
        events = Events(
            count, longest, kept["channels"], kept["row_splits"], kept["units"], torch.ones(kept["units"].numel())
        )
        if events.channels != saved.network.spec.channels:
            raise ValueError(f"of {events.channels} channels")
        return Evaluation(Streams(events.dense(), steps), kept.get("target"))
    except (OSError, KeyError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: not the validation streams of this run ({error}): {remedy}") from error


def _on_data(source: Source, saved: Checkpoint, config: Config, data: Path) -> Exported:
    """Take the verification from a data set: validation takes if it is divided by takes, else up to 256 examples."""
    front, items = front_and_items(saved, config, data)
    if config.split.by == "take":
        items = split(items, source.labels, config.split).validation
    if len(items) > KEPT_STREAMS:
        order = np.random.default_rng(0).permutation(len(items))[:KEPT_STREAMS]
        items = [items[int(index)] for index in sorted(order)]
    batch = front.encode(items, saved.tail_steps)
    streams = Streams(batch.events.dense(), batch.steps)
    audio = None
    if isinstance(saved.encoder, EncoderSpec):
        hop = saved.encoder.step_samples
        longest = max(-(-recording.audio.size // hop) for recording in items[:16])
        audio = torch.zeros(min(16, len(items)), longest * hop)
        for row, recording in zip(audio, items, strict=False):
            row[: recording.audio.size] = torch.from_numpy(recording.audio)
    return Exported(source, Evaluation(streams, batch.target), audio)


def front_and_items(saved: Checkpoint, config: Config, data: Path) -> tuple[Front[Any], list[Any]]:
    """Read a data set as a network takes it: its encoder, and examples with the network's outputs as classes.

    Raises:
        DataError: the data cannot be read, or are of another kind or class than the network's.
    """
    front, kind = _front(saved, config)
    examples = read(data, config)
    if examples.kind != kind:
        raise DataError(f"{data}: contains {examples.kind}, but the network takes {kind}")
    labels = saved.labels
    names = [config.names.get(label, label) for label in examples.labels]
    unknown = [name for name in names if name not in labels]
    if unknown:
        raise DataError(f"{data}: label {unknown[0]!r} is not one of the network's: {', '.join(labels)}")
    return front, [replace(item, label=labels.index(names[item.label])) for item in examples.items]


def _front(saved: Checkpoint, config: Config) -> tuple[Front[Any], Kind]:
    if isinstance(saved.encoder, EncoderSpec):
        return AudioFront(saved.encoder, config.augmentation.audio), "audio"
    if isinstance(saved.encoder, LevelCrossingSpec):
        return ValuesFront(saved.encoder, config.augmentation.values), "values"
    spec = saved.network.spec
    return SpikesFront(spec.channels, spec.step_s, config.augmentation.spikes), "spikes"


def shd_size(out: Path, seed: int) -> Exported:
    """Make the paper's network for SHD, untrained: for benchmarks and spike input."""
    spec = NetworkSpec(
        channels=700,
        hidden=(128, 64),
        outputs=20,
        step_s=4e-3,
        neuron=NeuronSpec(tau_init_steps=(5, 20)),
        decision=DecisionSpec("sum_softmax", skip_steps=11),
    )
    network = Network(spec, seed=seed)
    with torch.no_grad():
        for layer in network.layers:
            layer.get_parameter("w_in").mul_(2.0)  # at 4.5% of channels a step, 2-5% of hidden neurons fire
    source = Source(
        network,
        out.parent.name,
        out.name,
        "The SHD network of the paper with seeded weights: untrained, for benchmarks",
        tuple(f"class-{index}" for index in range(20)),
        "SHD's 700 cochlea channels, 4 ms steps",
        provenance={"seed": seed, "trained": False},
    )
    return Exported(source, Evaluation(seeded_streams(700, 0.045, streams=16, steps=250, seed=seed)))
