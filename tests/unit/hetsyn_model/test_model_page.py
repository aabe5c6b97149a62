"""The equations of ``docs/explanation/model.md``, written down one by one, are what the exact form computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hetsyn_model import DecisionSpec, Network, NetworkSpec
from hetsyn_model.layer import Layer
from hetsyn_model.neurons.resonance import Resonance
from hetsyn_model.spec import Rule, decay_of
from tests.support.networks.networks import CASES, neuron_of, set_own

Array = NDArray[np.float64]
SKIPPED = 3


class _Equations:
    """One layer. Its state is named as on the page; the currents of input and recurrent synapses stand side by side."""

    def __init__(self, layer: Layer) -> None:
        exact, kappa, theta, n = layer.exact(), layer.kappas(), layer.thresholds(), layer.neurons
        paths = [path for path in (exact.input, exact.recurrent) if path is not None]
        self.w = np.concatenate([_array(path.weight) for path in paths], 1)
        self.r = np.concatenate([np.broadcast_to(_array(path.decay), path.weight.shape) for path in paths], 1)
        self.is_recurrent = len(paths) == 2
        self.kappa = None if kappa is None else _array(kappa)
        self.theta = None if theta is None else _array(theta)
        self.neuron = layer.spec.neuron
        self.I = np.zeros_like(self.w)
        self.recovery = _array(layer.own.recovery()) if isinstance(layer.own, Resonance) else None
        self.J = self.A = self.z = self.v = self.R = np.zeros(n)

    def step(self, x: Array) -> Array:
        """Potential at this step; ``z`` has the spikes."""
        neuron = self.neuron
        arriving = np.concatenate([x, self.z]) if self.is_recurrent else x
        self.I = self.r * self.I + self.w * arriving
        S: Array = self.I.sum(1)
        if self.kappa is None:
            return S
        if self.theta is None:
            self.v = self.kappa * self.v + S
            return self.v
        self.A = decay_of(neuron.adaptation_tau_steps) * self.A + neuron.adaptation_strength * self.z
        if neuron.potential == "currents":
            self.J = self.kappa * self.J + self.theta * self.z
            self.v = S - self.J
        elif neuron.reset == "subtract":
            self.v = self.kappa * self.v - self.theta * self.z + S
        elif neuron.reset == "subtract_at_once":
            self.v = self.kappa * (self.v - self.theta * self.z) + S
        else:
            self.v = self.kappa * self.v * (1 - self.z) + (S - self.R)
        self.z = (self.v > self.theta + self.A).astype(np.float64)
        if self.recovery is not None:
            beta, of_membrane, of_spike = self.recovery
            self.R = beta * self.R + of_membrane * self.v * (1 - self.z) + of_spike * self.z
        return self.v


def _array(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.detach().numpy())


def _score(rule: Rule, before: Array, v: Array, z: Array, n: int) -> Array:
    if rule == "late_softmax":
        return np.asarray(before + 4 * n / (n + 1) ** 2 * (np.exp(v) / np.exp(v).sum() - before))
    if rule == "sum_softmax":
        return np.asarray(before + np.exp(v) / np.exp(v).sum())
    return before + z if rule == "spike_count" else v


@pytest.mark.parametrize(("kind", "rule"), CASES)
def test_the_page_has_the_equations_of_the_code(kind: str, rule: Rule) -> None:
    neuron = neuron_of(kind)
    neuron = replace(neuron, adaptation_strength=0.3) if neuron.adaptive else neuron
    spec = NetworkSpec(12, (9, 7), 4, neuron=neuron, decision=DecisionSpec(rule, skip_steps=SKIPPED))
    network = Network(spec, seed=3).double()
    set_own(network, kind)
    spikes = (torch.rand(1, 40, 12, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    rolled = network.rollout(spikes, form="exact")
    assert sum(float(z.detach().sum()) for z in rolled.hidden_spikes) > 10

    layers = [_Equations(network.layer(layer)) for layer in spec.layer_names]
    score = np.zeros(4)
    for t, x in enumerate(spikes[0].numpy()):
        for layer in layers:
            v = layer.step(x)
            x = layer.z
        np.testing.assert_allclose(rolled.readout[0, t].detach().numpy(), v, atol=1e-12)
        if t >= SKIPPED:
            score = _score(rule, score, v, x, t - SKIPPED + 1)
    np.testing.assert_allclose(rolled.scores[0].detach().numpy(), score, atol=1e-12)
