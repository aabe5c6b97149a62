"""Training on recordings of spoken words: real ones and synthesised ones, varied anew in every epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.encoder import Encoder, EncoderSpec
from hetsyn_model.events import Events
from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import NetworkSpec
from hetsyn_model.state import Form
from hetsyn_model.training.augment import AugmentSpec, augment_batch, encode_batch
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.data import Recording
from hetsyn_model.training.history import History, ValidationResult
from hetsyn_model.training.loop import BEST, Callbacks, Optimisation, train
from hetsyn_model.training.loss import distillation_loss, late_loss, score_loss
from hetsyn_model.training.schedule import cosine_factor
from hetsyn_model.training.tied_layer import level_changes, tie, tied_network, untie


@dataclass(frozen=True)
class TrainSpec:
    """How a speech network is trained.

    Attributes:
        epochs: passes over the real recordings.
        batch: recordings of an optimiser step.
        learning_rate: highest, of the weights.
        decay_rate_factor: learning rate of the decays over that of the weights.
        weight_decay: of the weights.
        warmup: share of the steps with a rising rate.
        final: share of the steps with a constant last rate; cosine between.
        extra_per_real: recordings of the extra (synthesised) voices for each real one, redrawn every epoch.
        tail_steps: silence after a word in training.
        served_tail_steps: silence after a word in validation and in the artifact.
        bank_size: decays of each bank.
        smoothing: of the labels.
        average: decay of the running mean of the weights that is evaluated.
        sharpness: factor on the mean of softmax before the cross entropy.
        late: weight of a second cross entropy, on each step's potentials, that counts the later steps of a word most.
        distillation: where there are teachers, the loss is (1 - distillation) of that of the labels plus 2
            distillation of theirs.
        tied: a neuron of the first layer learns one weight and one decay for all synapses from a band
            (``hetsyn_model/training/tied_layer.py``).
        augment: how recordings are varied.
    """

    epochs: int = 40
    batch: int = 64
    learning_rate: float = 2e-3
    decay_rate_factor: float = 2.0
    weight_decay: float = 4e-3
    warmup: float = 0.05
    final: float = 0.05
    extra_per_real: float = 1.0
    tail_steps: int = 15
    served_tail_steps: int = 10
    bank_size: int = 6
    smoothing: float = 0.05
    average: float = 0.998
    sharpness: float = 10.0
    late: float = 0.0
    distillation: float = 0.5
    tied: bool = False
    augment: AugmentSpec = field(default_factory=AugmentSpec)

    def to_dict(self) -> dict[str, Any]:
        """The fields for ``run.json``, where ``distillation`` has kept its first name."""
        values = asdict(self)
        return values | {"taught": values.pop("distillation")}


@torch.no_grad()
def classify(
    network: Network,
    encoder: Encoder,
    recordings: Sequence[Recording],
    tail_steps: int,
    form: Form = "bank",
    batch: int = 128,
) -> tuple[Tensor, Tensor]:
    """The class of each recording, without augmentation.

    Args:
        network: on the encoder's spikes.
        encoder: of the audio.
        recordings: to classify.
        tail_steps: silence after each.
        form: ``exact`` or ``bank``.
        batch: recordings at once.

    Returns:
        Classes int64 [n], and their probabilities, float [n, outputs].
    """
    network.eval()
    order = sorted(range(len(recordings)), key=lambda index: recordings[index].audio.size)
    labels = torch.zeros(len(recordings), dtype=torch.int64)
    probabilities = torch.zeros(len(recordings), network.spec.outputs)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        encoded = encode_batch(encoder, [recordings[index] for index in chosen], tail_steps)
        rolled = network.rollout(encoded.events, form, encoded.steps)
        labels[chosen] = rolled.scores.argmax(-1)
        probabilities[chosen] = rolled.probabilities.float()
    return labels, probabilities


def accuracy(labels: Tensor, recordings: Sequence[Recording]) -> float:
    """Share of recordings whose label, of int64 [recordings], is right."""
    truth = torch.tensor([recording.label for recording in recordings])
    return float((labels == truth).double().mean())


class SpokenWords:
    """Recordings as a :class:`hetsyn_model.training.loop.DataSet`; an epoch ends with each evaluation.

    Args:
        encoder: of the audio.
        how: batches, variation and loss.
        real: recordings that are all used every epoch.
        extra: a pool of recordings that is sampled.
        validation: recordings that choose the epoch.
        seed: of batches and variation.
        teachers: trained networks, on the encoder's spikes, whose mean probabilities are learned besides the labels.
    """

    def __init__(
        self,
        encoder: EncoderSpec,
        how: TrainSpec,
        real: Sequence[Recording],
        extra: Sequence[Recording],
        validation: Sequence[Recording],
        *,
        seed: int = 0,
        teachers: Sequence[Network] = (),
    ) -> None:
        self.encoder, self.how, self.seed = Encoder(encoder), how, seed
        self.real, self.extra, self.validation = real, extra, validation
        self.teachers = [tie(teacher, encoder) if how.tied else teacher for teacher in teachers]
        for teacher in self.teachers:
            teacher.eval()
            teacher.fit_banks(size=how.bank_size)
        self._extra_count = min(len(extra), round(how.extra_per_real * len(real)))

    @property
    def updates_per_epoch(self) -> int:
        return -(-(len(self.real) + self._extra_count) // self.how.batch)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of one epoch, in random order, each of recordings of similar length.

        Raises:
            ValueError: the updates are not those of one epoch.
        """
        epoch = first // self.updates_per_epoch
        if (first, last) != (epoch * self.updates_per_epoch, (epoch + 1) * self.updates_per_epoch):
            raise ValueError(f"updates {first} to {last} are not an epoch of {self.updates_per_epoch}")
        # an epoch's randomness depends on seed and epoch alone, so a resumed run repeats what was lost
        rng = np.random.default_rng([self.seed, epoch])
        torch.manual_seed(self.seed * 100_003 + epoch)
        for recordings in self._drawn(rng):
            batch = augment_batch(self.encoder, recordings, self.how.tail_steps, self.how.augment, rng)
            yield replace(batch, events=level_changes(batch.events, self.encoder.spec)) if self.how.tied else batch

    def _drawn(self, rng: np.random.Generator) -> list[list[Recording]]:
        extra = [self.extra[int(index)] for index in rng.permutation(len(self.extra))[: self._extra_count]]
        pool, size = [*self.real, *extra], self.how.batch
        order = np.argsort([recording.audio.size * rng.uniform(0.9, 1.1) for recording in pool])
        batches = [[pool[int(index)] for index in order[start : start + size]] for start in range(0, len(order), size)]
        return [batches[int(index)] for index in rng.permutation(len(batches))]

    def forward(self, model: Network, batch: Batch) -> Rollout:
        return model.rollout(batch.events, "bank", batch.steps)

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        how = self.how
        loss = score_loss(rolled, batch.target, sharpness=how.sharpness, smoothing=how.smoothing)
        if how.late:
            loss = loss + how.late * late_loss(rolled, batch.target, how.smoothing)
        if self.teachers:
            distilled = distillation_loss(rolled, self._teach(batch.events, batch.steps))
            loss = (1.0 - how.distillation) * loss + 2.0 * how.distillation * distilled
        return loss

    @torch.no_grad()
    def _teach(self, events: Events, steps: Tensor) -> Tensor:
        """Mean class probabilities of the teachers, [batch, longest, outputs]."""
        each = [torch.softmax(teacher.rollout(events, "bank", steps).readout, -1) for teacher in self.teachers]
        return torch.stack(each).mean(0)

    def measure(self, rolled: Rollout, batch: Batch) -> dict[str, Tensor]:
        """``train_accuracy`` [b] on the varied recordings; ``firing_rate`` [1], spikes a neuron and step."""
        rates = torch.stack([z.detach().mean() for z in rolled.hidden_spikes])
        return {
            "train_accuracy": (rolled.scores.argmax(-1) == batch.target).double(),
            "firing_rate": rates.mean().double().view(1),
        }

    def evaluate(self, model: Network) -> ValidationResult:
        """Accuracy on the validation recordings, and the mean of -log p of their classes."""
        labels, probabilities = classify(self._served(model), self.encoder, self.validation, self.how.served_tail_steps)
        truth = torch.tensor([recording.label for recording in self.validation])
        loss = float(-probabilities[range(len(self.validation)), truth].clamp_min(1e-6).log().mean())
        return ValidationResult(accuracy(labels, self.validation), loss)

    def better(self, a: ValidationResult, b: ValidationResult) -> bool:
        return a.loss <= b.loss

    def checkpoint(self, model: Network, update: int) -> bytes:
        epoch = update // self.updates_per_epoch - 1
        return Checkpoint(self._served(model), self.encoder.spec, self.how.served_tail_steps, epoch).to_bytes()

    def earlier_history(self, saved: Mapping[str, Any]) -> History:
        old = saved["metrics"]
        return History(
            update=[self.updates_per_epoch * (epoch + 1) for epoch in range(len(old["loss"]))],
            loss=old["loss"],
            validation=old["validation_accuracy"],
            validation_loss=old["validation_loss"],
            measures={name: old[name] for name in ("train_accuracy", "firing_rate")},
            seconds=old["seconds"],
            processor_seconds=list(old["seconds"]),  # not measured then
            chosen=old["best_epoch"],
        )

    def _served(self, model: Network) -> Network:
        """The network on the encoder's spikes."""
        return untie(model, self.encoder.spec) if self.how.tied else model


def train_words(
    out: Path,
    spec: NetworkSpec,
    encoder: EncoderSpec,
    how: TrainSpec,
    real: Sequence[Recording],
    extra: Sequence[Recording],
    validation: Sequence[Recording],
    *,
    seed: int = 0,
    teachers: Sequence[Network] = (),
    callbacks: Callbacks | None = None,
) -> Network:
    """Train, or go on training, the run in the folder ``out``.

    Args:
        out: folder of the run.
        spec: of the network on the encoder's spikes.
        encoder: of the audio.
        how: epochs, batches, optimiser, variation and loss.
        real: recordings that are all used every epoch.
        extra: a pool of recordings that is sampled.
        validation: recordings that choose the epoch.
        seed: of weights, batches and variation.
        teachers: trained networks of the same configuration, whose mean probabilities are learned besides the labels.
        callbacks: called as training goes on; an epoch ends with each evaluation.

    Returns:
        The network of the best epoch.

    Raises:
        RunError: the folder holds a run of another configuration.
    """
    data = SpokenWords(encoder, how, real, extra, validation, seed=seed, teachers=teachers)
    updates = how.epochs * data.updates_per_epoch
    train(
        out,
        {
            "network": spec.to_dict(),
            "encoder": encoder.to_dict(),
            "train": how.to_dict(),
            "seed": seed,
            "recordings": [_identity(real), _identity(extra), _identity(validation)],
            "teachers": [_fingerprint(teacher) for teacher in teachers],
        },
        tied_network(spec, encoder, seed) if how.tied else Network(spec, seed=seed),
        data,
        Optimisation(
            updates=updates,
            evaluate_every=data.updates_per_epoch,
            learning_rate=how.learning_rate,
            schedule=lambda update: cosine_factor(update / updates, how.warmup, how.final),
            bank_size=how.bank_size,
            decay_rate_factor=how.decay_rate_factor,
            weight_decay=how.weight_decay,
            average=how.average,
        ),
        callbacks=callbacks,
    )
    return Checkpoint.load(out / BEST).network


def _fingerprint(network: Network) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _identity(recordings: Sequence[Recording]) -> str:
    """Count and digest of recordings: label, speaker, take, and every sample."""
    digest = hashlib.blake2b(digest_size=8)
    for recording in recordings:
        digest.update(f"{recording.label} {recording.speaker} {recording.take} {recording.audio.size}\n".encode())
        digest.update(np.ascontiguousarray(recording.audio).data)
    return f"{len(recordings)} recordings, {digest.hexdigest()}"
