"""Resonant neurons against the paper's equations (arXiv 2408.07517), their reduction, their swing, their gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hetsyn_model import DecisionSpec, Network, NetworkSpec, NeuronSpec, SurrogateSpec
from hetsyn_model.compiled import LayerWeights
from hetsyn_model.layer import Layer
from hetsyn_model.neurons.resonance import Resonance, ResonantNeuron
from hetsyn_model.neurons.spike import surrogate_derivative
from hetsyn_model.rollout import layer_rollout
from hetsyn_model.spec import ResonanceSpec, se_adlif
from hetsyn_model.state import FORMS, Form, state_bytes
from hetsyn_model.synapses.bank import BankWeights
from hetsyn_model.synapses.path import Direct

SURROGATE = SurrogateSpec("exponential", width=0.2)
# constants with which neurons swing and fire within a test's steps
QUICK = replace(se_adlif(4.0), resonance=ResonanceSpec((2.0, 6.0), (5.0, 20.0), largest_b=1.0, gain=20.0))


def network(neuron: NeuronSpec = QUICK, *, hidden: tuple[int, ...] = (11, 7), rule: Any = "last") -> Network:
    spec = NetworkSpec(9, hidden, 3, neuron=neuron, surrogate=SURROGATE, decision=DecisionSpec(rule))
    return Network(spec, seed=4)


def spikes(steps: int = 60) -> Tensor:
    return (torch.rand(3, steps, 9, generator=torch.Generator().manual_seed(1)) < 0.3).float()


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * surrogate_derivative(ctx.saved_tensors[0], SURROGATE, 1.0)


class _Paper:
    """One layer in the paper's own variables: u is emptied by a spike, w has no factor, the input has 1 - alpha."""

    def __init__(self, layer: Layer, batch: int) -> None:
        resonance = layer.own
        assert isinstance(resonance, Resonance)
        (low, high), (slow_low, slow_high) = resonance.spec.tau_steps, resonance.spec.recovery_tau_steps
        self.layer, self.a, self.b, self.q = layer, resonance.a, resonance.b, resonance.spec.gain
        self.alpha = torch.exp(-1 / (low + (high - low) * resonance.tau))
        self.beta = torch.exp(-1 / (slow_low + (slow_high - slow_low) * resonance.recovery_tau))
        self.u = self.w = self.z = torch.zeros(batch, layer.neurons, dtype=torch.float64)

    def step(self, x: Tensor) -> Tensor:
        arriving = x @ self.layer.w_in.T
        if self.layer.w_rec is not None:
            arriving = arriving + self.z @ self.layer.w_rec.T
        u = self.alpha * self.u + (1 - self.alpha) * (arriving - self.w)
        self.z = _Fire.apply(u - 1.0)  # type: ignore[no-untyped-call]
        self.u = u * (1 - self.z.detach())
        self.w = self.beta * self.w + (1 - self.beta) * self.q * (self.a * self.u + self.b * self.z)
        return self.z


def test_it_is_the_papers_neuron_and_so_are_its_gradients() -> None:
    made = network().double()
    layers = [_Paper(made.layer(name), 3) for name in ("hidden1", "hidden2")]
    readout, leak = made.layer("readout"), made.layer("readout").kappas()
    assert leak is not None
    v = torch.zeros(3, 3).double()
    x, fired, readouts = spikes().double(), [], []
    for t in range(x.shape[1]):
        z = x[:, t]
        for layer in layers:
            z = layer.step(z)
        v = leak * v + z @ readout.w_in.T
        fired.append(z)
        readouts.append(v)
    wanted = torch.stack(readouts, 1)
    gradients: dict[str, dict[str, Tensor]] = {}
    for name, output in (("paper", wanted), *((form, made.rollout(x, form).readout) for form in FORMS)):
        made.zero_grad()
        output.square().mean().backward()
        gradients[name] = {key: p.grad.clone() for key, p in made.named_parameters() if p.grad is not None}
        assert torch.allclose(output, wanted, rtol=0, atol=1e-11)
    assert 0.01 < float(torch.stack(fired).detach().mean()) < 0.5
    assert {key for key in gradients["paper"] if ".resonance." in key} == set(made.own_values())
    for form in FORMS:
        for key, value in gradients["paper"].items():
            assert torch.allclose(gradients[form][key], value, rtol=1e-6, atol=1e-12), key


@pytest.mark.parametrize("neuron", [se_adlif(), replace(QUICK, decay_range=(0.0, 1.0), decays="synapse")])
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_without_a_and_b_it_is_a_membrane_bit_for_bit(neuron: NeuronSpec, form: Form) -> None:
    made = network(neuron, rule="spike_count")
    with torch.no_grad():
        for layer in made.named_layers().values():
            assert isinstance(layer.own, Resonance)
            layer.own.a.zero_()
            layer.own.b.zero_()
            layer.w_in.mul_(4.0)
    plain = Network(replace(made.spec, neuron=replace(neuron, resonance=None)))
    for layer, resonant in zip(plain.named_layers().values(), made.named_layers().values(), strict=True):
        exact = resonant.exact()
        layer.w_in.copy_(exact.input.weight)
        layer.r_in.copy_(resonant.r_in)
        if layer.w_rec is not None:
            assert exact.recurrent is not None
            assert layer.r_rec is not None
            assert resonant.r_rec is not None
            layer.w_rec.copy_(exact.recurrent.weight)
            layer.r_rec.copy_(resonant.r_rec)
        assert layer.kappa is not None
        kappa = resonant.kappas()
        assert kappa is not None
        layer.kappa.copy_(kappa)
    rolled, expected = made.rollout(spikes(), form), plain.rollout(spikes(), form)
    assert rolled.readout.numpy().tobytes() == expected.readout.numpy().tobytes()
    for a, b in zip(rolled.hidden_spikes, expected.hidden_spikes, strict=True):
        assert bool(a.any())
        assert torch.equal(a, b)
    assert torch.equal(rolled.scores, expected.scores)


@given(tau=st.floats(1.0, 30.0), slow=st.floats(30.0, 400.0), a=st.floats(0.0, 1.0), gain=st.floats(1.0, 120.0))
def test_below_the_threshold_it_swings_and_never_grows(tau: float, slow: float, a: float, gain: float) -> None:
    """The eigenvalues multiply to alpha beta; where they are complex, each has the root as its magnitude.

    A gain above (1 + alpha)(1 + beta) / ((1 - alpha)(1 - beta)), 129 at 1 and 30 steps, would grow.
    """
    alpha, beta = np.exp(-1 / tau), np.exp(-1 / slow)
    one = torch.ones(1, dtype=torch.float64)
    weights = torch.stack([beta * one, (1 - alpha) * (1 - beta) * gain * a * one, 0 * one])
    columns = []
    for membrane, recovery in ((one, 0 * one), (0 * one, one)):
        state = {"membrane": membrane, "recovery": recovery, "spikes": 0 * one}
        after, _ = ResonantNeuron(alpha * one, weights, 1e9 * one).step(state, 0 * one, None)
        columns.append([after["membrane"].item(), after["recovery"].item()])
    eigenvalues = np.linalg.eigvals(np.array(columns).T)
    assert np.prod(eigenvalues).real == pytest.approx(alpha * beta, rel=1e-9)
    assert np.abs(eigenvalues).max() < 1
    if np.iscomplex(eigenvalues).any():
        assert np.abs(eigenvalues) == pytest.approx(np.sqrt(alpha * beta), rel=1e-6)


def test_gradients_of_a_silent_layer_are_the_numeric_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    spec = replace(network().spec, surrogate=SurrogateSpec(gain=0.0))
    drive = torch.randn(2, 9, 2 * 3, generator=generator).double().requires_grad_()
    kappa = torch.rand(3, generator=generator).double().requires_grad_()
    recovery = (0.5 * torch.rand(3, 3, generator=generator)).double().requires_grad_()
    none = torch.zeros(1, 6).double()
    decays = torch.tensor([0.3, 0.8]).double()

    def potentials(drive: Tensor, kappa: Tensor, recovery: Tensor) -> Tensor:
        synapses = BankWeights(none, None, None, decays, torch.ones(6).double())
        neuron = ResonantNeuron(kappa, recovery, torch.full((3,), 1e9).double())
        layer = LayerWeights("hidden1", 1, synapses, neuron, Direct(), Direct())
        return layer_rollout(spec, layer, drive)[1]

    assert torch.autograd.gradcheck(potentials, (drive, kappa, recovery))


@pytest.mark.parametrize("channels", [40, 700])
@torch.no_grad()
def test_an_untrained_network_of_the_papers_neurons_fires(channels: int) -> None:
    made = Network(NetworkSpec(channels, (128, 64), 20, neuron=se_adlif()))
    x = (torch.rand(4, 250, channels, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    for z in made.rollout(x).hidden_spikes:
        assert 0.002 < float(z.mean()) < 0.2


def test_its_values_are_kept_within_their_bounds() -> None:
    made = network(se_adlif())
    with torch.no_grad():
        for values in made.own_values().values():
            values.copy_(torch.linspace(-3, 3, len(values)))
    made.clamp_decays_()
    bounds = {"tau": 1.0, "recovery_tau": 1.0, "a": 1.0, "b": 2.0}
    for name, values in made.own_values().items():
        assert (values.min().item(), values.max().item()) == (0.0, bounds[name.rpartition(".")[2]])
    resonance = made.layer("hidden1").own
    assert isinstance(resonance, Resonance)
    taus = -1 / torch.log(resonance.decay().double())
    assert (taus.min().item(), taus.max().item()) == pytest.approx((5.0, 25.0), rel=1e-5)


def test_a_session_keeps_three_numbers_a_neuron() -> None:
    layout = Network(NetworkSpec(700, (128, 64), 20, neuron=se_adlif())).compile("exact").layout
    names = [tensor.name for tensor in layout if tensor.name.startswith("hidden1.")]
    assert names == ["hidden1.membrane", "hidden1.spikes", "hidden1.recovery"]
    assert state_bytes(layout) == 4 * (3 * 192 + 20 + 2 * 20) + 8
