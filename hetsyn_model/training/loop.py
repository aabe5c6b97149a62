"""The training loop: seeded, resumable after a kill, with its metrics and the best epoch on disk.

A run is a folder: ``run.json`` (the configuration; another one is refused), ``checkpoint.pt`` (all that
a resumed run needs, replaced atomically after every epoch), ``best.pt`` (the network of the epoch with
the best validation figure), ``metrics.json`` and ``curves.png``.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hetsyn_model.encoder import Encoder, EncoderSpec
from hetsyn_model.events import Events
from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.run_folder import claim, replace_file, save_tensors
from hetsyn_model.spec import NetworkSpec, Rule
from hetsyn_model.state import Form
from hetsyn_model.training import tied_layer as levels
from hetsyn_model.training.augment import AugmentSpec, Batch, augment_batch, encode_batch
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.data import Recording


@dataclass(frozen=True)
class TrainSpec:
    """How a speech network is trained.

    epochs; batch: recordings of an optimiser step; learning_rate of the weights, decay_rate_factor times
    that for the decays; weight_decay; warmup and final: shares of the steps with a rising, and with a
    constant last rate, cosine between; extra_per_real: recordings of the extra (synthesised) voices for
    each real one, redrawn every epoch; tail_steps: silence after a word in training, served_tail_steps: in
    validation and in the artifact; bank_size: decays of each bank;
    smoothing: of the labels; average: decay of the running mean of the weights that is evaluated;
    sharpness: factor on the score before the cross entropy, for a mean of softmax it is the logits' scale.
    late: weight of a second cross entropy, on each step's potentials, that counts the later steps of a word most.
    taught: where there are teachers, the loss is (1 - taught) of that of the labels plus 2 taught of theirs.
    tied: a neuron of the first layer learns one weight and one decay for all synapses from a band
    (``hetsyn_model/training/levels.py``).
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
    taught: float = 0.5
    tied: bool = False
    augment: AugmentSpec = field(default_factory=AugmentSpec)


@dataclass
class Metrics:
    """One entry an epoch."""

    loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    firing_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1


def rate_at(progress: float, train: TrainSpec) -> float:
    """Factor on the learning rate at a share of all steps: warm-up, cosine, constant end."""
    if progress < train.warmup:
        return progress / train.warmup
    span = 1.0 - train.warmup - train.final
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - train.warmup) / span)))


def word_loss(scores: Tensor, batch: Batch, rule: Rule, train: TrainSpec) -> Tensor:
    """Cross entropy on the sum of softmax, as a mean over the steps times a scale.

    The paper puts the sum itself into the cross entropy; words of different lengths need the mean.
    """
    logits = scores / batch.steps.unsqueeze(-1) * train.sharpness if rule == "sum_softmax" else scores
    return torch.nn.functional.cross_entropy(logits, batch.labels, label_smoothing=train.smoothing)


def late_loss(rolled: Rollout, labels: Tensor, smoothing: float) -> Tensor:
    """Cross entropy of the potentials at every step, weighted by the cube of a step's place in its word."""
    place = (torch.arange(rolled.readout.shape[1]) + 1) / rolled.steps.unsqueeze(-1)
    weight = torch.where(place <= 1.0, place**3, 0.0)
    each = torch.nn.functional.cross_entropy(
        rolled.readout.flatten(0, 1),
        labels.repeat_interleave(rolled.readout.shape[1]),
        reduction="none",
        label_smoothing=smoothing,
    ).view_as(weight)
    return ((each * weight).sum(1) / weight.sum(1)).mean()


def taught_loss(rolled: Rollout, probabilities: Tensor) -> Tensor:
    """Cross entropy of the teachers' class probabilities [batch, longest, outputs] at every step of a word."""
    counts = torch.arange(probabilities.shape[1]) < rolled.steps.unsqueeze(-1)
    each = -(probabilities * torch.log_softmax(rolled.readout, -1)).sum(-1)
    return (torch.where(counts, each, 0.0).sum(1) / rolled.steps).mean()


@torch.no_grad()
def teach(teachers: Sequence[Network], heard: Events, steps: Tensor) -> Tensor:
    """Mean class probabilities of the teachers, [batch, longest, outputs]."""
    each = [torch.softmax(teacher.rollout(heard, "bank", steps).readout, -1) for teacher in teachers]
    return torch.stack(each).mean(0)


@torch.no_grad()
def classify(
    network: Network,
    encoder: Encoder,
    recordings: Sequence[Recording],
    tail_steps: int,
    form: Form = "bank",
    batch: int = 128,
) -> tuple[Tensor, Tensor]:
    """Class of each recording and its probabilities: int64 [n], float [n, outputs]; no augmentation."""
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
    truth = torch.tensor([recording.label for recording in recordings])
    return float((labels == truth).double().mean())


def train_run(
    out: Path,
    spec: NetworkSpec,
    encoder_spec: EncoderSpec,
    train: TrainSpec,
    real: Sequence[Recording],
    extra: Sequence[Recording],
    validation: Sequence[Recording],
    *,
    seed: int = 0,
    teachers: Sequence[Network] = (),
    on_batch: Callable[[int, int, float], None] | None = None,
    on_epoch: Callable[[int, Metrics], None] | None = None,
) -> Network:
    """Train, or go on training, the run in the folder ``out``; the network of the best epoch.

    Args:
        real, extra: recordings that are all used every epoch, and a pool that is sampled.
        validation: recordings that choose the epoch.
        teachers: trained networks of the same configuration, whose mean probabilities are learned besides the labels.
        on_batch: called with (batch index, batches of the epoch, loss). on_epoch: with (epoch, metrics).

    Raises:
        RunError: the folder holds a run of another configuration.
    """
    out.mkdir(parents=True, exist_ok=True)
    claim(
        out,
        {
            "network": spec.to_dict(),
            "encoder": encoder_spec.to_dict(),
            "train": asdict(train),
            "seed": seed,
            "recordings": [_identity(real), _identity(extra), _identity(validation)],
            "teachers": [_fingerprint(teacher) for teacher in teachers],
        },
    )
    encoder = Encoder(encoder_spec)
    network, mean = (
        levels.learner(spec, encoder_spec, seed) if train.tied else Network(spec, seed=seed) for _ in range(2)
    )
    network.fit_banks(size=train.bank_size)
    decays = [p for name, p in network.named_parameters() if name.rsplit(".", 1)[-1].startswith("r_")]
    others = [p for name, p in network.named_parameters() if not name.rsplit(".", 1)[-1].startswith("r_")]
    optimiser = torch.optim.AdamW(
        [
            {"params": others, "lr": train.learning_rate, "weight_decay": train.weight_decay, "factor": 1.0},
            {"params": decays, "lr": train.learning_rate, "weight_decay": 0.0, "factor": train.decay_rate_factor},
        ]
    )
    metrics, first = Metrics(), 0
    if (out / "checkpoint.pt").exists():
        saved = torch.load(out / "checkpoint.pt", weights_only=True)
        network, mean = Network.load(saved["network"]), Network.load(saved["mean"])
        optimiser_state = saved["optimiser"]
        decays = [p for name, p in network.named_parameters() if name.rsplit(".", 1)[-1].startswith("r_")]
        others = [p for name, p in network.named_parameters() if not name.rsplit(".", 1)[-1].startswith("r_")]
        optimiser.param_groups[0]["params"], optimiser.param_groups[1]["params"] = others, decays
        optimiser.load_state_dict(optimiser_state)
        metrics, first = Metrics(**saved["metrics"]), saved["epoch"] + 1

    teaching = [levels.gather(teacher, encoder_spec) if train.tied else teacher for teacher in teachers]
    for teacher in teaching:
        teacher.eval()
        teacher.fit_banks(size=train.bank_size)
    extra_count = min(len(extra), round(train.extra_per_real * len(real)))
    per_epoch = -(-(len(real) + extra_count) // train.batch)
    for epoch in range(first, train.epochs):
        started = time.monotonic()
        # every epoch's randomness depends on seed and epoch alone, so a resumed run repeats what was lost
        rng = np.random.default_rng([seed, epoch])
        torch.manual_seed(seed * 100_003 + epoch)
        network.train()
        losses, hits, rates, seen = [], 0, [], 0
        for index, chosen in enumerate(_batches(real, extra, extra_count, train.batch, rng)):
            batch = augment_batch(encoder, chosen, train.tail_steps, train.augment, rng)
            heard = levels.climbs(batch.events, encoder_spec) if train.tied else batch.events
            rolled = network.rollout(heard, "bank", batch.steps)
            loss = word_loss(rolled.scores, batch, spec.decision.rule, train)
            if train.late:
                loss = loss + train.late * late_loss(rolled, batch.labels, train.smoothing)
            if teaching:
                told = taught_loss(rolled, teach(teaching, heard, batch.steps))
                loss = (1.0 - train.taught) * loss + 2.0 * train.taught * told
            factor = rate_at((epoch * per_epoch + index) / (train.epochs * per_epoch), train)
            for group in optimiser.param_groups:
                group["lr"] = train.learning_rate * factor * group["factor"]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            network.clamp_decays_()
            _follow(mean, network, min(train.average, (epoch * per_epoch + index) / (epoch * per_epoch + index + 10)))
            losses.append(float(loss.detach()))
            hits += int((rolled.scores.argmax(-1) == batch.labels).sum())
            seen += len(chosen)
            rates.append(float(torch.stack([z.detach().mean() for z in rolled.hidden_spikes]).mean()))
            if on_batch is not None:
                on_batch(index, per_epoch, losses[-1])
        network.fit_banks(size=train.bank_size)  # the grid follows the decays that were learned
        mean.fit_banks(size=train.bank_size)
        served = levels.spread(mean, encoder_spec) if train.tied else mean
        labels, probabilities = classify(served, encoder, validation, train.served_tail_steps)
        truth = torch.tensor([recording.label for recording in validation])
        metrics.loss.append(float(np.mean(losses)))
        metrics.train_accuracy.append(hits / seen)
        metrics.validation_accuracy.append(accuracy(labels, validation))
        metrics.validation_loss.append(
            float(-probabilities[range(len(validation)), truth].clamp_min(1e-6).log().mean())
        )
        metrics.firing_rate.append(float(np.mean(rates)))
        metrics.seconds.append(time.monotonic() - started)
        if metrics.best_epoch < 0 or metrics.validation_loss[-1] <= min(metrics.validation_loss[:-1]):
            metrics.best_epoch = epoch
            replace_file(out / "best.pt", Checkpoint(served, encoder_spec, train.served_tail_steps, epoch).to_bytes())
        save_tensors(
            out / "checkpoint.pt",
            {
                "network": network.save(),
                "mean": mean.save(),
                "optimiser": optimiser.state_dict(),
                "metrics": asdict(metrics),
                "epoch": epoch,
            },
        )
        replace_file(out / "metrics.json", json.dumps(asdict(metrics), indent=1).encode())
        if on_epoch is not None:
            on_epoch(epoch, metrics)
    return Checkpoint.load(out / "best.pt").network


def _fingerprint(network: Network) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _identity(recordings: Sequence[Recording]) -> str:
    """Count and digest of recordings: what, who, and every sample."""
    digest = hashlib.blake2b(digest_size=8)
    for recording in recordings:
        digest.update(f"{recording.label} {recording.speaker} {recording.take} {recording.audio.size}\n".encode())
        digest.update(np.ascontiguousarray(recording.audio).data)
    return f"{len(recordings)} recordings, {digest.hexdigest()}"


@torch.no_grad()
def _follow(mean: Network, network: Network, decay: float) -> None:
    for slow, fast in zip(mean.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1.0 - decay)


def _batches(
    real: Sequence[Recording], extra: Sequence[Recording], extra_count: int, size: int, rng: np.random.Generator
) -> list[list[Recording]]:
    """An epoch's batches, in random order, each of recordings of similar length."""
    pool = [*real, *(extra[int(index)] for index in rng.permutation(len(extra))[:extra_count])]
    order = np.argsort([recording.audio.size * rng.uniform(0.9, 1.1) for recording in pool])
    batches = [[pool[int(index)] for index in order[start : start + size]] for start in range(0, len(order), size)]
    return [batches[int(index)] for index in rng.permutation(len(batches))]
