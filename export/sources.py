"""What ``hetsyn export`` exports: networks of training runs and experiments, and a seeded example."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.run import RunSpec, open_task
from experiments.task import first_streams
from export.evaluation import Evaluation, evaluation_of, padded, read_examples, seeded_streams
from export.folder import ExportError
from export.own_network import load_network, source_of
from export.write import Source
from hetsyn_model.encoder import Encoder
from hetsyn_model.network import Network
from hetsyn_model.spec import DecisionSpec, NetworkSpec, NeuronSpec
from hetsyn_model.state import state_bytes
from hetsyn_model.training.augment import encode_batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.data import DataError, read_folder, split_takes
from hetsyn_model.training.speech import LABELS, VALIDATION_EVERY, WORDS

VERIFIED_STREAMS = 256  # of an experiment's test data, fewer where the exact form would move more than so many bytes
VERIFIED_BYTES = 4_000_000_000  # of state, over all steps of all streams; every implementation does it anew


@dataclass(frozen=True)
class Exported:
    """A network to export, and what verifies it.

    Attributes:
        source: the network and its description.
        evaluation: what verifies and judges it.
        audio: float32 [stream, whole steps], what verifies its encoder; None without.
        bank_size: decays a layer that it was trained with; None where the error bound decides.
        needs_data: whether recordings would give it an accuracy.
    """

    source: Source
    evaluation: Evaluation
    audio: torch.Tensor | None = None
    bank_size: int | None = None
    needs_data: bool = False


def from_checkpoint(path: Path, out: Path, data: Path | None) -> Exported:
    """The network of ``best.pt``.

    Args:
        path: of the checkpoint.
        out: folder of the artifact, NAME/VERSION.
        data: recordings, or the data of an experiment; None where there is none.

    Raises:
        CheckpointFileError: the file is no checkpoint.
        DataError: the network takes no audio, or ``data`` has no usable recordings.
        MissingData: the data of the experiment is not on this machine.
    """
    saved = Checkpoint.load(path)
    if saved.experiment is None:
        return _speech(path, saved, out, data)
    return _experiment(saved, RunSpec.from_dict(saved.experiment), out, data)


def from_saved_network(
    path: Path, out: Path, labels: str | None, examples: Path | None, description: str, input_description: str
) -> Exported | None:
    """The network of a file of ``Network.save()``; None for a checkpoint of ``hetsyn train``.

    Args:
        path: of the file.
        out: folder of the artifact, NAME/VERSION.
        labels: names of the outputs, with commas between them.
        examples: ``.npz`` of spikes, and of labels where there are some.
        description: one line for people.
        input_description: of the channels, for people.

    Raises:
        ExportError: the file is something else, or labels or examples do not fit.
    """
    network = load_network(path)
    if network is None:
        return None
    spec = network.spec
    names = [] if labels is None else [name.strip() for name in labels.split(",")]
    if labels is None and spec.decision.rule != "trace":
        raise ExportError(f"{path}: a network without names for its {spec.outputs} outputs: give --labels A,B,C")
    source = source_of(network, out, names, description, input_description)
    given = None if examples is None else read_examples(examples)
    return Exported(source, evaluation_of(given, spec.channels, spec.outputs))


def _experiment(saved: Checkpoint, run: RunSpec, out: Path, data: Path | None) -> Exported:
    """A run of ``hetsyn experiment``, verified on its test data."""
    task = open_task(run, data)
    kind = "recurrent" if run.recurrent else "feedforward"
    source = Source(
        saved.network,
        out.parent.name,
        out.name,
        f"{task.description} ({run.model}, {kind})",
        task.labels,
        task.input_description,
        saved.encoder,
        saved.tail_steps,
        {
            "experiment": run.experiment,
            "condition": run.condition,
            "neuron_model": run.model,
            "recurrent": run.recurrent,
            "seed": run.seed,
            "epoch": saved.epoch,
        },
        saved.experiment,
    )
    test = task.test()
    moved = state_bytes(saved.network.compile("exact").layout) * max(int(batch.steps.max()) for batch in test)
    batches = first_streams(test, min(VERIFIED_STREAMS, max(24, VERIFIED_BYTES // moved)))
    spikes = [
        torch.from_numpy(stream[:steps])
        for batch in batches
        for stream, steps in zip(batch.dense(), batch.steps.tolist(), strict=True)
    ]
    labels = None if task.figure == "mse" else torch.cat([batch.target for batch in batches])
    return Exported(source, Evaluation(padded(spikes), labels), bank_size=run.training.bank_size)


def _speech(checkpoint: Path, saved: Checkpoint, out: Path, data: Path | None) -> Exported:
    """A run of ``hetsyn train``, verified on the validation takes of ``data``.

    Raises:
        DataError: the network takes no audio, or ``data`` has no usable recordings.
    """
    network, spec = saved.network, saved.encoder
    if spec is None:
        raise DataError(f"{checkpoint}: a network that takes spikes, not a speech network")
    source = Source(
        network,
        out.parent.name,
        out.name,
        "Ten spoken English digits, 8 kHz audio",
        WORDS,
        "Crossings of log Mel band levels: direction (up, down), band, level",
        spec,
        saved.tail_steps,
        {"epoch": saved.epoch},
    )
    if data is None:
        evaluation = Evaluation(seeded_streams(spec.channels, 0.03, streams=8, steps=60))
        return Exported(source, evaluation, needs_data=True)
    _, recordings = split_takes(read_folder(data, LABELS, spec.sample_rate_hz), VALIDATION_EVERY)
    encoder = Encoder(spec)
    encoded = encode_batch(encoder, recordings, saved.tail_steps)
    dense = encoded.events.dense()
    streams = padded([stream[:steps] for stream, steps in zip(dense, encoded.steps.tolist(), strict=True)])
    hop = spec.step_samples
    longest = max(-(-recording.audio.size // hop) for recording in recordings[:16])
    audio = torch.zeros(min(16, len(recordings)), longest * hop)
    for row, recording in zip(audio, recordings, strict=False):
        row[: recording.audio.size] = torch.from_numpy(recording.audio)
    return Exported(source, Evaluation(streams, encoded.target), audio)


def shd_size(out: Path, seed: int) -> Exported:
    """The paper's network for SHD, untrained: for benchmarks and spike input."""
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
