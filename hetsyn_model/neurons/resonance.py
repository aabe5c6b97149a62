"""Neurons that resonate: SE-adLIF (arXiv 2408.07517), a membrane and a recovery current in symplectic Euler form.

With S(t), the sum of currents(t), one neuron has

    v(t)  = alpha v(t-1) (1 - z(t-1)) + (S(t) - R(t-1))     potential, a membrane with reset ``zero``
    z(t)  = 1 where v(t) > threshold, else 0
    R(t)  = beta R(t-1) + (A v(t) (1 - z(t)) + B z(t))      recovery, from the new v and z
    A     = (1 - alpha) (1 - beta) q a,   B = (1 - alpha) (1 - beta) q b

The gradient takes the z in 1 - z as given, as in the paper. The paper's S and recovery w have the factor 1 - alpha in
v(t): here the synapses' weights have it, and R = (1 - alpha) w. ``docs/explanation/model.md`` has the paper's form.

With a = b = 0 the recovery stays 0, and the neuron is that membrane, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hetsyn_model.neurons.neuron import LearnedNeurons
from hetsyn_model.neurons.spike import fire, membrane_left
from hetsyn_model.spec import ResonanceSpec, SurrogateSpec
from hetsyn_model.state import Shapes, State


class Resonance(LearnedNeurons):
    """The learned parameters of a layer's resonant neurons.

    Attributes:
        tau: [j], the membrane's time constant as a position in ``spec.tau_steps``, from 0 to 1.
        recovery_tau: [j], the recovery current's time constant, likewise.
        a: [j], what the membrane adds to the recovery current.
        b: [j], what a spike adds to it.
    """

    def __init__(self, spec: ResonanceSpec, neurons: int, generator: torch.Generator) -> None:
        super().__init__()
        self.spec = spec

        def drawn(largest: float) -> nn.Parameter:
            return nn.Parameter((largest * torch.rand(neurons, generator=generator, dtype=torch.float64)).float())

        self.tau, self.recovery_tau = drawn(1.0), drawn(1.0)
        self.a, self.b = drawn(spec.largest_a), drawn(spec.largest_b)

    def neuron(self, threshold: Tensor) -> ResonantNeuron:
        return ResonantNeuron(self.decay(), self.recovery(), threshold)

    def gain(self) -> Tensor:
        return 1 - self.decay()

    def decay(self) -> Tensor:
        """Return alpha, the decay a step of each membrane, [j]."""
        return _decay(self.tau, self.spec.tau_steps)

    def recovery(self) -> Tensor:
        """Return beta, A and B of each neuron, [3, j]."""
        beta = _decay(self.recovery_tau, self.spec.recovery_tau_steps)
        gain = (1 - self.decay()) * (1 - beta) * self.spec.gain
        return torch.stack([beta, gain * self.a, gain * self.b])

    @torch.no_grad()
    def clamp_(self) -> None:
        for values, largest in (
            (self.tau, 1.0),
            (self.recovery_tau, 1.0),
            (self.a, self.spec.largest_a),
            (self.b, self.spec.largest_b),
        ):
            values.clamp_(0.0, largest)


def _decay(position: Tensor, bounds: tuple[float, float]) -> Tensor:
    low, high = bounds
    return torch.exp(-1.0 / (low + (high - low) * position))


@dataclass(frozen=True)
class ResonantNeuron:
    """Resonant neurons, ready to run.

    Attributes:
        kappa: alpha, [j].
        recovery: beta, A and B, [3, j].
        threshold: theta, [j].
    """

    kappa: Tensor
    recovery: Tensor
    threshold: Tensor

    def state(self, neurons: int) -> Shapes:
        return dict.fromkeys(("membrane", "spikes", "recovery"), (neurons,))

    def step(self, state: State, currents: Tensor, surrogate: SurrogateSpec | None) -> tuple[State, Tensor]:
        beta, of_membrane, of_spike = self.recovery.unbind(0)
        left = membrane_left("zero", self.kappa, self.threshold, state["membrane"], state["spikes"].detach())
        membrane = left + (currents - state["recovery"])
        spikes = fire(membrane, self.threshold, self.threshold, surrogate)
        kept = membrane * (1 - spikes.detach())
        recovery = beta * state["recovery"] + (of_membrane * kept + of_spike * spikes)
        return {"membrane": membrane, "spikes": spikes, "recovery": recovery}, membrane
