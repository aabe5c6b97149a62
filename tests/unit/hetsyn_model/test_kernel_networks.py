"""Networks of kernels that are not exponential: direct convolution, neutral values, resets by synapse, gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hetsyn_model import Network, NetworkSpec, NeuronSpec
from hetsyn_model.rollout import layer_rollout
from hetsyn_model.spec import KernelSpec
from hetsyn_model.state import FORMS, state_bytes
from tests.support.kernels import KERNELS, convolved, kernel_network, spikes


@pytest.mark.parametrize("kind", [kind for kind in KERNELS if kind != "self-synapse"])
@torch.no_grad()
def test_the_bank_is_the_convolution_with_the_kernel(kind: str) -> None:
    network = kernel_network(kind).double()
    network.fit_banks(**({"error_bound": 1e-6} if kind.startswith("pair") else {"size": 8}))
    x = spikes()
    hidden, readout = convolved(network, x)
    rolled = network.rollout(x.double())
    differing = sum(int((a != b.numpy()).sum()) for a, b in zip(hidden, rolled.hidden_spikes, strict=True))
    assert sum(int(a.sum()) for a in hidden) >= 100
    if kind.startswith("pair"):
        assert differing == 0
        np.testing.assert_allclose(rolled.readout.numpy(), readout, atol=1e-4)
    else:  # a kernel within 1e-3 moves a potential that is close to the threshold across it
        assert differing <= 0.05 * sum(int(a.sum()) for a in hidden)


@pytest.mark.parametrize("kind", ["pair", "pair-neuron", "self-synapse"])
@pytest.mark.parametrize("recurrent", [True, False])
@torch.no_grad()
def test_the_exact_form_is_the_convolution(kind: str, recurrent: bool) -> None:
    if kind != "pair" and KERNELS[kind][0].decays == "synapse" and not recurrent:
        pytest.skip("a reset by synapse needs a recurrent one, or a kernel a neuron")
    network = kernel_network(kind, recurrent=recurrent).double()
    hidden, readout = convolved(network, spikes())
    rolled = network.rollout(spikes().double())
    for expected, found in zip(hidden, rolled.hidden_spikes, strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_allclose(rolled.readout.numpy(), readout, atol=1e-9)


@pytest.mark.parametrize("decays", ["synapse", "neuron", "shared"])
@pytest.mark.parametrize("bias", [False, True])
@torch.no_grad()
def test_a_factor_of_0_is_todays_network_bit_for_bit(decays: str, bias: bool) -> None:
    base = NetworkSpec(12, (9, 7), 3, bias=bias, neuron=NeuronSpec(decays=decays))  # type: ignore[arg-type]
    today = Network(base, seed=2)
    pair = Network(replace(base, kernel=KernelSpec("pair", factor_init=(0.0, 0.0))), seed=2)
    _compare(today, pair, forms=FORMS)


@pytest.mark.parametrize("decays", ["synapse", "neuron", "shared"])
@torch.no_grad()
def test_an_order_of_1_is_todays_network_bit_for_bit(decays: str) -> None:
    for reset in ("subtract", "same_kernel"):
        base = NetworkSpec(12, (9, 7), 3, neuron=NeuronSpec(decays=decays, reset=reset))  # type: ignore[arg-type]
        today = Network(base, seed=2)
        whole = Network(replace(base, kernel=KernelSpec("fractional", order_init=(1.0, 1.0))), seed=2)
        _compare(today, whole, forms=("bank",))


def _compare(today: Network, other: Network, forms: tuple[str, ...]) -> None:
    own = today.state_dict()
    other.load_state_dict(own | {name: value for name, value in other.state_dict().items() if name not in own})
    x = spikes(channels=today.spec.channels)
    with torch.no_grad():
        for network in (today, other):
            for layer in network.named_layers().values():
                layer.w_in.mul_(2.0)
    assert today.fit_banks(size=5) == pytest.approx(other.fit_banks(size=5), abs=1e-6)
    assert today.banks == other.banks
    for form in forms:
        a, b = today.rollout(x, form=form), other.rollout(x, form=form)  # type: ignore[arg-type]
        assert a.hidden_spikes[0].any()
        assert torch.equal(a.readout, b.readout)
        for before, after in zip(a.hidden_spikes, b.hidden_spikes, strict=True):
            assert torch.equal(before, after)


@torch.no_grad()
def test_a_reset_by_synapse_is_a_reset_current_of_the_same_decay() -> None:
    neuron = NeuronSpec(decays="shared", learn_decays=False, tau_init_steps=(8.0, 8.0), tau_reset_steps=8.0)
    today = Network(NetworkSpec(12, (9, 7), 3, neuron=neuron), seed=2).double()
    own = Network(NetworkSpec(12, (9, 7), 3, neuron=replace(neuron, reset="same_kernel")), seed=2).double()
    own.load_state_dict(today.state_dict(), strict=False)
    for network in (today, own):
        for layer in network.named_layers().values():
            layer.w_in.mul_(2.0)
    for form in FORMS:
        a, b = today.rollout(spikes().double(), form), own.rollout(spikes().double(), form)
        assert a.hidden_spikes[0].any()
        assert all(torch.equal(x, y) for x, y in zip(a.hidden_spikes, b.hidden_spikes, strict=True))
        torch.testing.assert_close(a.readout, b.readout, atol=1e-6, rtol=0)
    sizes = [state_bytes(network.compile("bank").layout) for network in (today, own)]
    assert sizes[1] - sizes[0] == 4 * 3  # the readout keeps its potential too


@pytest.mark.parametrize("kind", KERNELS)
def test_training_learns_every_value_within_its_range(kind: str) -> None:
    network = kernel_network(kind).train()
    network.fit_banks(size=8, hold=True)
    learned = network.decays()
    before = {name: value.detach().clone() for name, value in learned.items()}
    optimiser = torch.optim.SGD(network.parameters(), lr=3e4)
    for _ in range(2):
        optimiser.zero_grad()
        network.rollout(spikes()).scores[:, 0].sum().backward()
        optimiser.step()
        network.clamp_decays_()
    stems = {"exponential": {"r"}, "pair": {"r", "fast", "factor"}, "fractional": {"r", "order"}}
    assert {name.split(".")[-1].split("_")[0] for name in learned} == stems[network.spec.kernel.shape]
    for name, value in learned.items():
        low, high = network.layer("hidden1").part_range(name.split(".")[-1].split("_")[0])
        assert not torch.equal(value, before[name]), name
        assert low - 1e-6 <= float(value.detach().min()) <= float(value.detach().max()) <= high + 1e-6


def test_the_loss_has_the_numeric_gradient_in_every_value() -> None:
    """Of the readout, which has no threshold: a surrogate derivative is no gradient."""
    for kind in ("pair-neuron", "fractional-own-reset", "fractional"):
        network = kernel_network(kind, channels=4, hidden=(3,)).double()
        network.fit_banks(size=6, hold=True)
        layer = network.layer("readout")
        x = spikes(2, 12, 3).double()

        def loss(network: Network = network, x: Tensor = x) -> Tensor:
            last = network.compile("bank").layers[-1]
            return (layer_rollout(network.spec, last, last.bank.enter(x))[1] ** 2).sum()

        loss().backward()
        for name in ("r_in", *(f"{part}_in" for part in ("fast", "factor", "order") if hasattr(layer, f"{part}_in"))):
            parameter, index = layer.get_parameter(name), (1, 0)
            assert parameter.grad is not None
            with torch.no_grad():
                at = float(parameter[index])
                values = []
                for step in (-1e-4, 1e-4):
                    parameter[index] = at + step
                    values.append(float(loss()))
                parameter[index] = at
            assert float(parameter.grad[index]) == pytest.approx((values[1] - values[0]) / 2e-4, rel=2e-3, abs=1e-9)
