"""Delayed match-to-sample: were the two cues, a delay apart, on the same side?

Ten channels fire for left, ten for right, ten all the time (noise). A trial is silence, a first cue, a delay, a second
cue; at its end the larger output says match or mismatch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec, SurrogateSpec
from hetsyn_model.training.batch import Batch, Spikes
from research.tasks.task import Figure, Shape, rate_loss

TEST_BATCH = 250  # trials, so that the currents of a long delay fit into memory


@dataclass(frozen=True)
class DelayedMatchSpec:
    """The trials and the network.

    Attributes:
        cue_channels: channels of each cue.
        noise_channels: channels that fire all the time.
        hidden: neurons of each hidden layer.
        step_ms: duration of a step.
        lead_ms: silence before the first cue.
        cue_ms: duration of a cue.
        delay_ms: from the end of the first cue to the beginning of the second.
        cue_hz: rate of a cue's channels.
        noise_hz: rate of the noise channels.
        added_noise_hz: rate of further spikes on every channel, over the whole trial (figure A3).
        rate_weight: weight of the loss that draws every hidden neuron's rate to ``rate_hz``.
        rate_hz: target rate of the hidden neurons.
        validation_trials: number of trials that choose the update.
        test_trials: number of trials that judge.
    """

    cue_channels: int = 10
    noise_channels: int = 10
    hidden: tuple[int, ...] = (100,)
    step_ms: int = 5
    lead_ms: int = 50
    cue_ms: int = 100
    delay_ms: int = 800
    cue_hz: float = 40.0
    noise_hz: float = 10.0
    added_noise_hz: float = 0.0
    rate_weight: float = 0.01
    rate_hz: float = 10.0
    validation_trials: int = 128
    test_trials: int = 1000

    @property
    def channels(self) -> int:
        return 2 * self.cue_channels + self.noise_channels

    @property
    def steps(self) -> int:
        return (self.lead_ms + 2 * self.cue_ms + self.delay_ms) // self.step_ms


def trials(spec: DelayedMatchSpec, count: int, rng: np.random.Generator) -> tuple[Spikes, NDArray[np.int64]]:
    """Spikes [count, steps, channels] (left, right, noise) and labels [count], 1 for a match."""
    sides = rng.integers(0, 2, (count, 2))
    step_s = spec.step_ms * 1e-3
    rate_hz = np.zeros((count, spec.steps, spec.channels), np.float32)
    rate_hz[:, :, 2 * spec.cue_channels :] = spec.noise_hz
    for cue in range(2):
        start = (spec.lead_ms + cue * (spec.cue_ms + spec.delay_ms)) // spec.step_ms
        during = slice(start, start + spec.cue_ms // spec.step_ms)
        for side in range(2):
            channels = slice(side * spec.cue_channels, (side + 1) * spec.cue_channels)
            rate_hz[sides[:, cue] == side, during, channels] = spec.cue_hz
    spikes = rng.random(rate_hz.shape, np.float32) < rate_hz * step_s
    if spec.added_noise_hz:
        spikes |= rng.random(rate_hz.shape, np.float32) < spec.added_noise_hz * step_s
    return spikes, (sides[:, 0] == sides[:, 1]).astype(np.int64)


@dataclass(frozen=True)
class DelayedMatch:
    """The task, with trials of a seed."""

    spec: DelayedMatchSpec = field(default_factory=DelayedMatchSpec)
    seed: int = 0
    figure: Figure = "accuracy"
    labels: tuple[str, ...] = ("mismatch", "match")
    description: str = "Delayed match-to-sample: were two cues, a delay apart, on the same side?"
    encoder: None = None

    @property
    def input_description(self) -> str:
        left, noise = self.spec.cue_channels, self.spec.noise_channels
        return f"Poisson spikes: {left} channels left, {left} right, {noise} noise; {self.spec.step_ms} ms steps"

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=self.spec.channels,
            hidden=self.spec.hidden,
            outputs=2,
            step_s=self.spec.step_ms * 1e-3,
            decision=DecisionSpec("last"),
            surrogate=SurrogateSpec("triangular"),
            tau_reset_steps=40.0 / self.spec.step_ms,
            tau_spread=0.1,
            tau_normal=True,
            adaptation_tau_steps=800.0 / self.spec.step_ms,
            adaptation_strength=0.15,
            fixed_reset=True,
            weights="fan-in",
        )

    @property
    def channel_groups(self) -> dict[str, tuple[int, int]]:
        cues = 2 * self.spec.cue_channels
        return {"cue": (0, cues), "noise": (cues, self.spec.channels)}

    def _batch(self, count: int, *key: int) -> Batch:
        spikes, labels = trials(self.spec, count, np.random.default_rng([self.seed, *key]))
        return Batch.of(spikes, torch.from_numpy(labels))

    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        return self._batch(size, 3, seed, update)

    def validation(self) -> Sequence[Batch]:
        return [self._batch(self.spec.validation_trials, 4)]

    def test(self) -> Sequence[Batch]:
        count = self.spec.test_trials
        sizes = [min(TEST_BATCH, count - start) for start in range(0, count, TEST_BATCH)]
        return [self._batch(size, 5, index) for index, size in enumerate(sizes)]

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        rates = rate_loss(rolled.hidden_spikes, self.spec.step_ms * 1e-3, self.spec.rate_hz)
        return torch.nn.functional.cross_entropy(rolled.scores, batch.target) + self.spec.rate_weight * rates
