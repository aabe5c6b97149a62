"""Threshold, reset and adaptation of a spiking layer, membranes, and the surrogate derivatives.

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
from typing import Any

import torch
from torch import Tensor

from hetsyn_model.spec import NeuronSpec, SurrogateSpec, decay_of


def surrogate_derivative(u: Tensor, spec: SurrogateSpec, threshold: Tensor | float) -> Tensor:
    """Stand-in for dz/du at u = v - threshold - adaptation, elementwise.

    ``gaussian`` is ``gain * 0.5 * (1.15 N(u; 0, 0.5) - 0.15 N(u; 0.5, 3) - 0.15 N(u; -0.5, 3))``, 0.4391 at 0 with
    gain 1: the paper's multi-Gaussian for speech (appendix D). ``triangular`` is
    ``gain * max(0, 1 - |u| / (width * threshold))``, with gamma and zeta of appendix B as gain and width.
    ``exponential`` is ``gain * exp(-|u| / (width * threshold))``.

    Args:
        u: any shape.
        spec: kind and scale of the derivative.
        threshold: of the potential; ``gaussian`` does not depend on it.

    Returns:
        The derivative, shaped as ``u``.
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


def spike_step(
    currents: Tensor,
    spikes_before: Tensor,
    kept: Tensor,
    adaptation: Tensor | None,
    kappa: Tensor,
    threshold: Tensor,
    neuron: NeuronSpec,
    surrogate: SurrogateSpec | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """One step of reset, potential and threshold.

    Args:
        currents: S, [b, j], sum of all synaptic currents of this step.
        spikes_before: z, [b, j] at the step before.
        kept: [b, j] at the step before: the membrane v, or the reset current J.
        adaptation: A, [b, j] at the step before; None without threshold adaptation.
        kappa: decay of what is kept, broadcast against [b, j].
        threshold: theta, likewise.
        neuron: what the potential is, and time constant and strength of the adaptation.
        surrogate: derivative of the threshold in training. None outside training: the threshold is then a plain
            comparison, which exports.

    Returns:
        Potential, spikes, what is kept, and adaptation current, each [b, j] at this step.
    """
    if neuron.is_membrane:
        potential = kept = _left(kept, spikes_before, kappa, threshold, neuron) + currents
    else:
        kept = kappa * kept + threshold * spikes_before
        potential = currents - kept
    level = threshold
    if adaptation is not None:
        adaptation = decay_of(neuron.adaptation_tau_steps) * adaptation + neuron.adaptation_strength * spikes_before
        level = threshold + adaptation
    return potential, fire(potential, level, threshold, surrogate), kept, adaptation


def fire(potential: Tensor, level: Tensor, threshold: Tensor, surrogate: SurrogateSpec | None) -> Tensor:
    """Spikes, [b, j]: 1 where the potential is above its level, strictly; arguments as of :func:`spike_step`."""
    if surrogate is None:
        return (potential > level).to(potential.dtype)
    spikes: Tensor = _Threshold.apply(potential - level, surrogate, threshold)
    return spikes


def _left(membrane: Tensor, spikes: Tensor, kappa: Tensor, threshold: Tensor, neuron: NeuronSpec) -> Tensor:
    """What decay and reset leave of a membrane for the next step, [b, j]."""
    if neuron.membrane_reset == "zero":
        return kappa * membrane * (1 - spikes)
    if neuron.membrane_reset == "subtract_at_once":
        return kappa * (membrane - threshold * spikes)
    return kappa * membrane - threshold * spikes
