"""A network compiled to one form: a value that leaves the network as it is."""

from __future__ import annotations

import pytest
import torch

from hetsyn_model import Network, NetworkSpec
from hetsyn_model.rollout import rollout
from hetsyn_model.state import FORMS, Form
from hetsyn_model.synapses.bank import BankWeights

SPEC = NetworkSpec(channels=6, hidden=(5, 4), outputs=3)


@pytest.mark.parametrize("form", FORMS)
def test_compiling_changes_nothing(form: Form) -> None:
    network = Network(SPEC)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first, again = network.compile(form), network.compile(form)
    network.rollout(torch.zeros(1, 2, 6), form)
    assert network.banks == {}
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert first.layout == again.layout
    for a, b in zip(first.layers, again.layers, strict=True):
        assert (a.name, a.neurons) == (b.name, b.neurons)


def test_the_bank_form_runs_on_the_banks_that_were_fitted() -> None:
    network = Network(SPEC)
    network.fit_banks(size=2)
    banks = dict(network.banks)
    compiled = network.compile("bank")
    assert network.banks == banks
    for layer in compiled.layers:
        assert isinstance(layer.synapses, BankWeights)
        assert tuple(layer.synapses.decays.tolist()) == pytest.approx(banks[layer.name].decays, abs=1e-6)
    assert {t.name: t.shape for t in compiled.layout}["hidden1.bank_current"] == (2, 5)


@pytest.mark.parametrize("form", FORMS)
def test_detached_values_are_the_same_without_gradients(form: Form) -> None:
    compiled = Network(SPEC).compile(form)
    x = (torch.rand(2, 9, 6) < 0.5).float()
    a, b = rollout(compiled, x), rollout(compiled.detach(), x)
    assert torch.equal(a.readout, b.readout)
    assert a.readout.requires_grad
    assert not b.readout.requires_grad


def test_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="neither 'exact' nor 'bank'"):
        Network(SPEC).compile("dense")  # type: ignore[arg-type]


def test_decays_are_named_and_only_those_that_are_learned() -> None:
    network = Network(SPEC)
    assert set(network.decays()) == {"layers.0.r_in", "layers.0.r_rec", "layers.1.r_in", "layers.1.r_rec"} | {
        "layers.2.r_in"
    }
    assert all(parameter is dict(network.named_parameters())[name] for name, parameter in network.decays().items())
    fixed = Network(
        NetworkSpec.from_dict(SPEC.to_dict() | {"neuron": SPEC.to_dict()["neuron"] | {"learn_decays": False}})
    )
    assert fixed.decays() == {}


def test_tensors_of_another_network_are_not_restored() -> None:
    other = Network(NetworkSpec(channels=7, hidden=(5, 4), outputs=3))
    with pytest.raises(ValueError, match="not the tensors of this network"):
        Network(SPEC).restore(other.save())


def test_a_network_is_made_of_what_save_gave_alone() -> None:
    with pytest.raises(ValueError, match=r"not a result of Network\.save"):
        Network.load({})
