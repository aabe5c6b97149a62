"""Pattern generation: a noisy spike template, three times in two seconds, and a smooth trace to draw meanwhile.

Channels fire a fixed template of Poisson spikes three times, with gaps, under background noise that is new in every
trial. The target is one trace over the whole trial, a sum of cosines of multiples of a base frequency with random
amplitudes and phases, scaled to [-1, 1] (arXiv 2508.11644, appendix B); so the network has to tell the repeats apart.
Template and target belong to the task's seed, the noise to the trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec, SurrogateSpec
from hetsyn_model.training.batch import Batch, Spikes
from research.tasks.task import Figure, Shape, rate_loss


@dataclass(frozen=True)
class PatternGenerationSpec:
    """The trials and the network; one step a ms.

    Attributes:
        hidden: neurons of each hidden layer.
        template_ms: duration of the template.
        repeats: how often a trial has the template.
        gap_ms: pause between two repeats.
        template_hz: rate of the template.
        noise_hz: rate of the background noise, on every channel.
        targets: traces to draw at once, each with a readout.
        cosines: number of the target's components.
        base_hz: frequency of the first component.
        rate_weight: weight of the loss that draws every hidden neuron's rate to ``rate_hz``.
        rate_hz: target rate of the hidden neurons.
        validation_trials: number of trials that choose the update, of noise that training never has.
        test_trials: number of trials that judge, of noise that training never has.
    """

    channels: int = 100
    hidden: tuple[int, ...] = (100,)
    template_ms: int = 500
    repeats: int = 3
    gap_ms: int = 250
    template_hz: float = 10.0
    noise_hz: float = 2.0
    targets: int = 1
    cosines: int = 5
    base_hz: float = 0.5
    rate_weight: float = 0.01
    rate_hz: float = 10.0
    validation_trials: int = 8
    test_trials: int = 20

    @property
    def steps(self) -> int:
        return self.repeats * self.template_ms + (self.repeats - 1) * self.gap_ms


def template(spec: PatternGenerationSpec, rng: np.random.Generator) -> Spikes:
    """Draw the fixed spikes, [template_ms, channels]."""
    return rng.random((spec.template_ms, spec.channels)) < spec.template_hz * 1e-3


def target_trace(spec: PatternGenerationSpec, rng: np.random.Generator) -> NDArray[np.float32]:
    """Make the trace to draw, [steps], from -1 to 1. It reaches one of them."""
    time_s = np.arange(spec.steps) * 1e-3
    amplitude = rng.uniform(0.0, 1.0, spec.cosines)
    phase = rng.uniform(0, 2 * np.pi, spec.cosines)
    harmonics = spec.base_hz * np.arange(1, spec.cosines + 1)
    trace = (amplitude * np.cos(2 * np.pi * harmonics * time_s[:, None] + phase)).sum(1)
    return np.asarray(trace / np.abs(trace).max(), np.float32)


def trials(spec: PatternGenerationSpec, pattern: Spikes, count: int, rng: np.random.Generator) -> Spikes:
    """Trials of one template, each with its own noise: [count, steps, channels]."""
    spikes = rng.random((count, spec.steps, spec.channels), np.float32) < spec.noise_hz * 1e-3
    for repeat in range(spec.repeats):
        start = repeat * (spec.template_ms + spec.gap_ms)
        spikes[:, start : start + spec.template_ms] |= pattern
    return spikes


@dataclass(frozen=True)
class PatternGeneration:
    """The task, with a template, a target and trials of a seed."""

    spec: PatternGenerationSpec = field(default_factory=PatternGenerationSpec)
    seed: int = 0
    figure: Figure = "mse"
    description: str = "Draws a fixed two-second trace while a noisy spike template is repeated"
    input_description: str = "Poisson spikes, 1 ms steps: a fixed 500 ms template three times, 250 ms apart, and noise"
    encoder: None = None

    @property
    def labels(self) -> tuple[str, ...]:
        count = self.spec.targets
        return ("trace",) if count == 1 else tuple(f"trace {index + 1}" for index in range(count))

    @property
    def shape(self) -> Shape:
        return Shape(
            channels=self.spec.channels,
            hidden=self.spec.hidden,
            outputs=self.spec.targets,
            step_s=1e-3,
            decision=DecisionSpec("trace"),
            surrogate=SurrogateSpec("triangular"),
            tau_reset_steps=20.0,
            tau_spread=0.25,
            tau_normal=True,
            adaptation_tau_steps=500.0,
            adaptation_strength=0.01,
            fixed_reset=True,
            weights="fan-in",
        )

    @property
    def channel_groups(self) -> dict[str, tuple[int, int]]:
        return {"template": (0, self.spec.channels)}

    @cached_property
    def pattern(self) -> Spikes:
        return template(self.spec, np.random.default_rng([self.seed, 1]))

    @cached_property
    def target(self) -> Tensor:
        """The traces to draw, [steps, targets]."""
        rng = np.random.default_rng([self.seed, 2])
        return torch.from_numpy(np.stack([target_trace(self.spec, rng) for _ in range(self.spec.targets)], 1))

    def _batch(self, count: int, *key: int) -> Batch:
        spikes = trials(self.spec, self.pattern, count, np.random.default_rng([self.seed, *key]))
        return Batch.of(spikes, self.target.expand(count, -1, -1))

    def training_batch(self, size: int, seed: int, update: int) -> Batch:
        return self._batch(size, 3, seed, update)

    def validation(self) -> Sequence[Batch]:
        return [self._batch(self.spec.validation_trials, 4)]

    def test(self) -> Sequence[Batch]:
        return [self._batch(self.spec.test_trials, 5)]

    def loss(self, rolled: Rollout, batch: Batch) -> Tensor:
        error = ((rolled.readout - batch.target) ** 2).mean()
        return error + self.spec.rate_weight * rate_loss(rolled.hidden_spikes, 1e-3, self.spec.rate_hz)
