"""The learner of band levels, and the network of spikes that it becomes, are one network."""

from __future__ import annotations

import numpy as np
import torch

from hetsyn_model import Network
from hetsyn_model.network import Layer
from hetsyn_model.training import tied_layer as levels
from hetsyn_model.training.batch_encoder import Crossings
from tests.support.small_network import ENCODER, NETWORK

LEVELS_DB = np.cumsum(np.random.default_rng(0).normal(0.0, 5.0, (3, 20, 8)), 1).astype(np.float32) - 30.0


def first_layer(network: Network) -> Layer:
    layer = network.layers[0]
    assert isinstance(layer, Layer)
    return layer


def test_climbs_count_the_thresholds_passed() -> None:
    crossings = Crossings.of(ENCODER, LEVELS_DB)
    climbs = levels.climbs(crossings.events(), ENCODER).dense()
    assert np.array_equal(climbs.numpy(), -np.diff(crossings.first.astype(np.float32), axis=1))


def test_spread_hears_in_spikes_what_the_learner_heard_in_levels() -> None:
    learner = levels.learner(NETWORK, ENCODER, seed=1)
    with torch.no_grad():
        first_layer(learner).w_in.mul_(10)  # so that neurons fire
    learner.fit_banks()
    events = Crossings.of(ENCODER, LEVELS_DB).events()
    heard = learner.rollout(levels.climbs(events, ENCODER), "exact")
    whole = levels.spread(learner, ENCODER)
    assert whole.spec == NETWORK
    for form in ("exact", "bank"):
        served = whole.rollout(events, form)
        assert heard.hidden_spikes[0].sum() > 20
        assert torch.equal(served.hidden_spikes[0], heard.hidden_spikes[0])
        assert torch.allclose(served.readout, heard.readout, atol=2e-3)


def test_gather_undoes_spread() -> None:
    learner = levels.learner(NETWORK, ENCODER, seed=2)
    again = levels.gather(levels.spread(learner, ENCODER), ENCODER)
    assert again.spec == learner.spec
    for name, tensor in learner.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_learner_starts_deaf_to_loudness_alone_and_repeatable() -> None:
    first, again = (first_layer(levels.learner(NETWORK, ENCODER, seed=3)).w_in for _ in range(2))
    assert torch.equal(first, again)
    assert float(first.detach().sum(1).abs().max()) < 1e-5
    assert abs(float(first.detach().std()) - levels.START) < 0.002
