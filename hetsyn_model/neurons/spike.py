"""The neurons of the base family: threshold, reset, adaptation and membranes, and the surrogate derivatives.

Equations of arXiv 2508.11644; every quantity is of one neuron j, times are in steps:

    J(t) = kappa * J(t-1) + threshold * z(t-1)      equation 9, the reset current
    A(t) = rho_a * A(t-1) + strength * z(t-1)       equations 18 and 19, the adaptation current (Proposition 2)
    v(t) = sum of currents(t) - J(t)                equation 5, the potential
    z(t) = 1 where v(t) > threshold + A(t), else 0  equation 4; equation 17 subtracts A from v instead

With S(t), the sum of currents(t), a membrane has no J, and instead of equation 5, by its reset,

    subtract           v(t) = kappa * v(t-1) - threshold * z(t-1) + S(t)
    subtract_at_once   v(t) = kappa * (v(t-1) - threshold * z(t-1)) + S(t)
    zero               v(t) = kappa * v(t-1) * (1 - z(t-1)) + S(t)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hetsyn_model.spec import Reset, SurrogateSpec
from hetsyn_model.state import Shapes, State


def surrogate_derivative(u: Tensor, spec: SurrogateSpec, threshold: Tensor | float) -> Tensor:
    """Compute the surrogate of dz/du at u = v - threshold - adaptation, elementwise:

        gaussian      gain * 0.5 * (1.15 N(u; 0, 0.5) - 0.15 N(u; 0.5, 3) - 0.15 N(u; -0.5, 3))
        triangular    gain * max(0, 1 - |u| / (width * threshold))
        exponential   gain * exp(-|u| / (width * threshold))

    The first is the paper's multi-Gaussian for speech (appendix D), 0.4391 at 0 with gain 1. The second has gamma and
    zeta of appendix B as gain and width.
    """
    if spec.kind == "triangular":
        return spec.gain * (1 - u.abs() / (spec.width * threshold)).clamp_min(0)
    if spec.kind == "exponential":
        return spec.gain * torch.exp(-u.abs() / (spec.width * threshold))

    def normal(mean: float, deviation: float) -> Tensor:
        return torch.exp(-0.5 * ((u - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))

    return spec.gain * 0.5 * (1.15 * normal(0, 0.5) - 0.15 * normal(0.5, 3.0) - 0.15 * normal(-0.5, 3.0))


class _Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, spec: SurrogateSpec, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        ctx.spec, ctx.threshold = spec, threshold
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (u,) = ctx.saved_tensors
        return grads[0] * surrogate_derivative(u, ctx.spec, ctx.threshold), None, None


def fire(potential: Tensor, level: Tensor, threshold: Tensor, surrogate: SurrogateSpec | None) -> Tensor:
    """Compute spikes, [b, j]: 1 where the potential is above its level, strictly.

    Args:
        level: the threshold with its adaptation, broadcast against [b, j].
        surrogate: derivative of the threshold in training. None: a plain comparison, which exports.
    """
    if surrogate is None:
        return (potential > level).to(potential.dtype)
    spikes: Tensor = _Threshold.apply(potential - level, surrogate, threshold)
    return spikes


def membrane_left(reset: Reset, kappa: Tensor, threshold: Tensor, membrane: Tensor, spikes: Tensor) -> Tensor:
    """Compute what decay and reset leave of a membrane for the next step, [b, j].

    ``build_support/reset.hpp`` is the same in C++.
    """
    if reset == "zero":
        return kappa * membrane * (1 - spikes)
    if reset == "subtract_at_once":
        return kappa * (membrane - threshold * spikes)
    return kappa * membrane - threshold * spikes


@dataclass(frozen=True)
class Adaptation:
    """A rise A of the threshold: by ``strength`` at a spike, with the decay rho_a a step (equations 18 and 19)."""

    decay: float
    strength: float


@dataclass(frozen=True)
class Silent:
    """Neurons without threshold: their potential is the sum of their currents."""

    def state(self, neurons: int) -> Shapes:  # noqa: ARG002
        return {}

    def step(
        self,
        state: State,  # noqa: ARG002
        currents: Tensor,
        surrogate: SurrogateSpec | None,  # noqa: ARG002
    ) -> tuple[State, Tensor]:
        return {}, currents


@dataclass(frozen=True)
class SilentMembrane:
    """Membranes without threshold, of decay kappa [j]."""

    kappa: Tensor

    def state(self, neurons: int) -> Shapes:
        return {"membrane": (neurons,)}

    def step(
        self,
        state: State,
        currents: Tensor,
        surrogate: SurrogateSpec | None,  # noqa: ARG002
    ) -> tuple[State, Tensor]:
        potential = self.kappa * state["membrane"] + currents
        return {"membrane": potential}, potential


@dataclass(frozen=True)
class ResettingNeuron:
    """The paper's neurons, with a reset current J: HetSyn, HetNeu, HomNeu and ALIF.

    Attributes:
        kappa: decay a step of the reset current, [j].
        threshold: theta, [j].
    """

    kappa: Tensor
    threshold: Tensor
    adaptation: Adaptation | None = None

    def state(self, neurons: int) -> Shapes:
        return {"reset_current": (neurons,), "spikes": (neurons,)} | _adaptation_state(self.adaptation, neurons)

    def step(self, state: State, currents: Tensor, surrogate: SurrogateSpec | None) -> tuple[State, Tensor]:
        reset = self.kappa * state["reset_current"] + self.threshold * state["spikes"]
        potential = currents - reset
        level, adapted = _level(self.threshold, self.adaptation, state)
        spikes = fire(potential, level, self.threshold, surrogate)
        return {"reset_current": reset, "spikes": spikes} | adapted, potential


@dataclass(frozen=True)
class MembraneNeuron:
    """Neurons with a membrane: LIF and CubaLIF.

    Attributes:
        kappa: decay a step of the membrane, [j].
        threshold: theta, [j].
    """

    kappa: Tensor
    threshold: Tensor
    reset: Reset = "subtract"
    adaptation: Adaptation | None = None

    def state(self, neurons: int) -> Shapes:
        return {"membrane": (neurons,), "spikes": (neurons,)} | _adaptation_state(self.adaptation, neurons)

    def step(self, state: State, currents: Tensor, surrogate: SurrogateSpec | None) -> tuple[State, Tensor]:
        left = membrane_left(self.reset, self.kappa, self.threshold, state["membrane"], state["spikes"])
        potential = left + currents
        level, adapted = _level(self.threshold, self.adaptation, state)
        spikes = fire(potential, level, self.threshold, surrogate)
        return {"membrane": potential, "spikes": spikes} | adapted, potential


BaseNeuron = Silent | SilentMembrane | ResettingNeuron | MembraneNeuron  # operator and native rollout run these


def _adaptation_state(adaptation: Adaptation | None, neurons: int) -> Shapes:
    return {} if adaptation is None else {"adaptation_current": (neurons,)}


def _level(threshold: Tensor, adaptation: Adaptation | None, state: State) -> tuple[Tensor, State]:
    """Compute the level above which neurons fire, and the adaptation current after the step."""
    if adaptation is None:
        return threshold, {}
    current = adaptation.decay * state["adaptation_current"] + adaptation.strength * state["spikes"]
    return threshold + current, {"adaptation_current": current}
