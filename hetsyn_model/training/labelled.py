"""Trains on labelled examples, varied anew in every epoch: recordings, spikes or series of values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, cast

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.encoders.encoder import EncoderSpec
from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import NetworkSpec
from hetsyn_model.state import Form
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.config import ConfigError, TrainSpec
from hetsyn_model.training.datasets.examples import Example, T, digest_of
from hetsyn_model.training.encoding.front import Front
from hetsyn_model.training.history import History, ValidationResult
from hetsyn_model.training.loop import Callbacks, Optimisation, train
from hetsyn_model.training.loss import late_loss, score_loss
from hetsyn_model.training.schedule import DelayTraining, cosine_factor
from hetsyn_model.training.tied_layer import level_changes, tied_network, untie


@torch.no_grad()
def classify(
    network: Network, front: Front[T], items: Sequence[T], tail_steps: int, form: Form = "bank", batch: int = 128
) -> tuple[Tensor, Tensor]:
    """Classify examples without variation, with ``tail_steps`` of silence after each, ``batch`` examples at once.

    Returns:
        Classes int64 [n], and their probabilities, float [n, outputs].
    """
    network.eval()
    order = sorted(range(len(items)), key=lambda index: items[index].length)
    labels = torch.zeros(len(items), dtype=torch.int64)
    probabilities = torch.zeros(len(items), network.spec.outputs)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        encoded = front.encode([items[index] for index in chosen], tail_steps).to(network.device)
        rolled = network.rollout(encoded.events, form, encoded.steps)
        labels[chosen] = rolled.scores.argmax(-1).cpu()
        probabilities[chosen] = rolled.probabilities.float().cpu()
    return labels, probabilities


def accuracy(labels: Tensor, items: Sequence[Example]) -> float:
    """Compute the share of right labels, int64 [examples]."""
    truth = torch.tensor([item.label for item in items])
    return float((labels == truth).double().mean())


@dataclass(frozen=True)
class LabelledSplit(Generic[T]):
    """Examples by their use.

    Attributes:
        real: all used in every epoch.
        extra: a pool that each epoch samples.
        validation: they choose the epoch.
    """

    real: Sequence[T]
    extra: Sequence[T]
    validation: Sequence[T]


@dataclass(frozen=True)
class RunOptions:
    """Options of a run.

    Attributes:
        augmentation: the variation of examples, for ``run.json``.
        labels, description, config: names of the outputs, one line for people, and the configuration, for checkpoints.
        callbacks: an evaluation ends each epoch.
    """

    augmentation: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: torch.device | str = "cpu"
    labels: tuple[str, ...] = ()
    description: str = ""
    config: dict[str, Any] | None = None
    callbacks: Callbacks | None = None
    delays: DelayTraining = field(default_factory=DelayTraining)


class LabelledData(Generic[T]):
    """Labelled examples as a :class:`hetsyn_model.training.loop.DataSet`; an epoch ends with each evaluation.

    Raises:
        ConfigError: a tied layer lacks an audio encoder.
    """

    def __init__(
        self,
        front: Front[T],
        how: TrainSpec,
        data: LabelledSplit[T],
        options: RunOptions | None = None,
    ) -> None:
        self.front, self.how, self.data, self.options = front, how, data, options or RunOptions()
        if how.tied and not isinstance(front.spec, EncoderSpec):
            raise ConfigError("training.tied: only bands of audio can be tied: set it to false")
        self._extra_count = min(len(data.extra), round(how.extra_per_real * len(data.real)))

    @property
    def updates_per_epoch(self) -> int:
        return -(-(len(self.data.real) + self._extra_count) // self.how.batch)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of one epoch in random order. The examples of a batch have similar lengths."""
        epoch = first // self.updates_per_epoch
        if (first, last) != (epoch * self.updates_per_epoch, (epoch + 1) * self.updates_per_epoch):
            raise ValueError(f"updates {first} to {last} are not an epoch of {self.updates_per_epoch}")
        # an epoch's draws depend on seed and epoch alone, so a resumed run repeats what was lost
        rng = np.random.default_rng([self.options.seed, epoch])
        torch.manual_seed(self.options.seed * 100_003 + epoch)
        for items in self._drawn(rng):
            yield self._varied(items, rng)

    def _varied(self, items: Sequence[T], rng: np.random.Generator) -> Batch:
        batch = self.front.vary(items, self.how.tail_steps, rng)
        return replace(batch, events=level_changes(batch.events, _bands(self.front))) if self.how.tied else batch

    def _drawn(self, rng: np.random.Generator) -> list[list[T]]:
        data, size = self.data, self.how.batch
        extra = [data.extra[int(index)] for index in rng.permutation(len(data.extra))[: self._extra_count]]
        pool = [*data.real, *extra]
        order = np.argsort([item.length * rng.uniform(0.9, 1.1) for item in pool])
        batches = [[pool[int(index)] for index in order[start : start + size]] for start in range(0, len(order), size)]
        return [batches[int(index)] for index in rng.permutation(len(batches))]

    def forward(self, model: Network, batch: Batch) -> Rollout:
        return model.rollout(batch.events, "bank", batch.steps)

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        how = self.how
        loss = score_loss(rolled, batch.target, sharpness=how.sharpness, smoothing=how.smoothing)
        if how.late:
            loss = loss + how.late * late_loss(rolled.readout, rolled.steps, batch.target, how.smoothing)
        return loss

    def measure(self, rolled: Rollout, batch: Batch) -> dict[str, Tensor]:
        """Return ``train_accuracy`` [b] on the varied examples, and ``firing_rate`` [1], spikes a neuron and step."""
        rates = torch.stack([z.detach().mean() for z in rolled.hidden_spikes])
        return {
            "train_accuracy": (rolled.scores.argmax(-1) == batch.target).double(),
            "firing_rate": rates.mean().double().view(1),
        }

    def evaluate(self, model: Network) -> ValidationResult:
        """Return the accuracy on the validation examples, and the mean of -log p of their classes."""
        items = self.data.validation
        labels, probabilities = classify(self._served(model), self.front, items, self.how.served_tail_steps)
        truth = torch.tensor([item.label for item in items])
        loss = float(-probabilities[range(len(items)), truth].clamp_min(1e-6).log().mean())
        return ValidationResult(accuracy(labels, items), loss)

    def better(self, a: ValidationResult, b: ValidationResult) -> bool:
        if self.how.choose == "loss" or a.figure == b.figure:
            return a.loss <= b.loss
        return a.figure > b.figure

    def checkpoint(self, model: Network, update: int) -> bytes:
        epoch, options = update // self.updates_per_epoch - 1, self.options
        return Checkpoint(
            self._served(model),
            self.front.spec,
            self.how.served_tail_steps,
            epoch,
            labels=options.labels,
            description=options.description,
            config=options.config,
        ).to_bytes()

    def _served(self, model: Network) -> Network:
        """Return the network that takes the encoder's spikes."""
        return untie(model, _bands(self.front)) if self.how.tied else model


def _bands(front: Front[Any]) -> EncoderSpec:
    """Return the encoder of audio that a tied layer needs."""
    return cast(EncoderSpec, front.spec)


def train_labelled(
    out: Path,
    network: NetworkSpec | Network,
    front: Front[T],
    how: TrainSpec,
    data: LabelledSplit[T],
    options: RunOptions | None = None,
) -> History:
    """Train, or go on training, the run in the folder ``out``; its ``best.pt`` has the network of the best epoch.

    Args:
        network: takes the front's spikes: a description, or a network; training starts from its weights and changes
            them.

    Raises:
        RunError: the folder holds a run of another configuration.
        ConfigError: the configuration does not fit the network.
    """
    options = options or RunOptions()
    spec = network.spec if isinstance(network, Network) else network
    labelled = LabelledData(front, how, data, options)
    updates = how.epochs * labelled.updates_per_epoch
    started_from = _fingerprint(network) if isinstance(network, Network) else None
    if isinstance(network, Network) and how.tied:
        raise ConfigError("training.tied: a network of your own starts from its own weights: set it to false")
    buffers = network.named_buffers() if isinstance(network, Network) else ()
    if (learned := next((name for name, buffer in buffers if buffer.requires_grad), None)) is not None:
        raise ConfigError(
            f"{learned} requires a gradient, but fit trains parameters alone: train it in a loop of your own, or call "
            "its requires_grad_(False)"
        )
    if not isinstance(network, Network):
        bands = cast(EncoderSpec, front.spec)
        network = tied_network(spec, bands, options.seed) if how.tied else Network(spec, seed=options.seed)
    return train(
        out,
        {
            "network": spec.to_dict(),
            "encoder": None if front.spec is None else front.spec.to_dict(),
            "train": asdict(how) | {"augment": options.augmentation},
            "seed": options.seed,
            "recordings": [digest_of(part) for part in (data.real, data.extra, data.validation)],
            "delays": asdict(options.delays),
            "labels": list(options.labels),
            "started_from": started_from,
        },
        network,
        labelled,
        Optimisation(
            updates=updates,
            evaluate_every=labelled.updates_per_epoch,
            learning_rate=how.learning_rate,
            schedule=lambda update: cosine_factor(update / updates, how.warmup, how.final),
            bank_size=how.bank_size,
            refit_every=how.refit_every,
            decay_rate_factor=how.decay_rate_factor,
            weight_decay=how.weight_decay,
            clip=how.clip,
            average=how.average,
            delays=options.delays,
        ),
        callbacks=options.callbacks,
        device=options.device,
    )


def _fingerprint(network: Network) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
