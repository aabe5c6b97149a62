"""The readout alone learns a person; what was before it, and what refuses, stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from hetsyn_model.network import Network
from hetsyn_model.spec import PathSpec, se_adlif
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.readout_tuning import ReadoutTuning, Tuning
from tests.support.data.words import NETWORK

NAMED, READOUT = (0, 2), "layers.1.w_in"


@pytest.fixture(scope="module")
def network() -> Network:
    made = Network(replace(NETWORK, channels=6), seed=0)
    made.fit_banks(size=3)
    return made


def batch(seed: int) -> Batch:
    """Streams of two of the three labels: each has channels of its own."""
    rng = np.random.default_rng(seed)
    target = np.repeat(NAMED, 8)
    rate = np.full((16, 1, 6), 0.05)
    rate[target == 0, 0, :3] = rate[target == 2, 0, 3:] = 0.6
    return Batch.of(rng.random((16, 40, 6)) < rate, torch.from_numpy(target))


def right(network: Network, seed: int) -> float:
    judged = batch(seed)
    readout = network.rollout(judged.events, "bank", judged.steps).readout[:, -1, list(NAMED)]
    return float((torch.tensor(NAMED)[readout.argmax(1)] == judged.target).double().mean())


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"bias": True},
        {"neuron": replace(NETWORK.neuron, potential="membrane")},
        {"input_path": PathSpec(6, 2)},
        {"neuron": se_adlif()},
    ],
    ids=["plain", "bias", "membrane", "delays", "no decays"],
)
def test_the_readout_alone_is_that_of_the_network(kind: dict[str, Any]) -> None:
    network = Network(replace(NETWORK, channels=6, **kind), seed=0)
    network.fit_banks(size=3)
    if network.spec.bias:
        torch.nn.init.constant_(cast(torch.Tensor, network.layer("readout").b_in), 0.2)
    tuning, heard = ReadoutTuning(network, NAMED), batch(1)
    rolled = network.rollout(heard.events, "bank", heard.steps).readout
    assert rolled.any()
    assert torch.equal(tuning.potential(tuning.hear(heard)), rolled)


def test_only_the_named_labels_of_the_readout_learn(network: Network) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tuning = ReadoutTuning(network, NAMED)
    tuning.learn([tuning.hear(batch(1))], Tuning(updates=40, learning_rate=3e-2))
    tuned = tuning.network()
    assert right(tuned, 2) > 0.9 > right(network, 2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    changed = {name for name, tensor in tuned.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {READOUT}
    assert torch.equal(tuned.state_dict()[READOUT][1], before[READOUT][1])


def test_each_tuning_begins_with_the_networks_own_weights(network: Network) -> None:
    tuning, how = ReadoutTuning(network, NAMED), Tuning(updates=5)
    heard = [tuning.hear(batch(1))]
    potentials = []
    for _ in range(2):
        tuning.learn(heard, how)
        potentials.append(tuning.potential(heard[0]))
    assert torch.equal(*potentials)
    tuning.learn(heard, replace(how, updates=0))
    torch.testing.assert_close(tuning.network().state_dict(), network.state_dict(), rtol=0, atol=0)
