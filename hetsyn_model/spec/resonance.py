"""Neurons that resonate: a recovery current pulls the membrane back, and the two swing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hetsyn_model.spec.errors import require
from hetsyn_model.spec.own import OwnNeurons, decay_of

if TYPE_CHECKING:
    import torch

    from hetsyn_model.neurons.resonance import Resonance
    from hetsyn_model.spec.neuron import NeuronSpec


@dataclass(frozen=True)
class ResonanceSpec(OwnNeurons):
    """Adaptive neurons in the symplectic Euler form (SE-adLIF, arXiv 2408.07517); the defaults are of that paper.

    ``hetsyn_model/neurons/resonance.py`` has the equations. Each neuron learns its two time constants, ``a`` and ``b``,
    within these bounds, from uniform initial values.

    Attributes:
        tau_steps: least and largest time constant of a membrane.
        recovery_tau_steps: the same for a recovery current.
        largest_a: bound of ``a``, what the membrane adds to the recovery current; the smallest is 0.
        largest_b: bound of ``b``, what a spike adds to it; the smallest is 0.
        gain: factor q on both.
    """

    tau_steps: tuple[float, float] = (5.0, 25.0)
    recovery_tau_steps: tuple[float, float] = (60.0, 300.0)
    largest_a: float = 1.0
    largest_b: float = 2.0
    gain: float = 120.0

    def __post_init__(self) -> None:
        for name in ("tau_steps", "recovery_tau_steps"):
            low, high = getattr(self, name)
            require(0 < low <= high < math.inf, f"neuron.resonance.{name}: {(low, high)} is not 0 < low <= high")
        for name in ("largest_a", "largest_b", "gain"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"neuron.resonance.{name}: {value} is below 0, or not finite")

    def check(self, spec: NeuronSpec) -> None:
        are_so = spec.potential == "membrane" and spec.reset == "zero"
        require(are_so, "neuron.resonance: needs potential 'membrane' and reset 'zero'")

    @property
    def first_effect(self) -> float:
        return 1.0 - decay_of(sum(self.tau_steps) / 2)

    def response(self, synaptic: float) -> Iterator[float]:
        alpha, beta = (decay_of(sum(taus) / 2) for taus in (self.tau_steps, self.recovery_tau_steps))
        membrane, recovery, current = 0.0, 0.0, 1.0
        for _ in range(round(10 * sum(self.recovery_tau_steps))):
            membrane = alpha * membrane + (1 - alpha) * (current - recovery)
            recovery = beta * recovery + (1 - beta) * self.gain * self.largest_a / 2 * membrane
            current *= synaptic
            yield membrane

    def learned(self, spec: NeuronSpec, neurons: int, generator: torch.Generator) -> Resonance:  # noqa: ARG002
        from hetsyn_model.neurons.resonance import Resonance  # imports torch, which a description does not need

        return Resonance(self, neurons, generator)
