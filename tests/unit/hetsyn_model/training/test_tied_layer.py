"""The tied network on band levels, and the network on spikes that it becomes, are one network."""

from __future__ import annotations

import numpy as np
import torch

from hetsyn_model.training.encoding.batch_encoder import BatchEncoding
from hetsyn_model.training.tied_layer import INITIAL_DEVIATION, level_changes, tied_network, untie
from tests.support.data.words import ENCODER, NETWORK

LEVELS_DB = np.cumsum(np.random.default_rng(0).normal(0.0, 5.0, (3, 20, 8)), 1).astype(np.float32) - 30.0


def test_level_changes_count_the_thresholds_passed() -> None:
    encoding = BatchEncoding.of(ENCODER, LEVELS_DB)
    changes = level_changes(encoding.events(), ENCODER).dense()
    assert np.array_equal(changes.numpy(), -np.diff(encoding.threshold.astype(np.float32), axis=1))


def test_the_untied_network_makes_of_spikes_what_the_tied_one_makes_of_levels() -> None:
    tied = tied_network(NETWORK, ENCODER, seed=1)
    with torch.no_grad():
        tied.layer("hidden1").w_in.mul_(10)  # so that neurons fire
    tied.fit_banks()
    events = BatchEncoding.of(ENCODER, LEVELS_DB).events()
    expected = tied.rollout(level_changes(events, ENCODER), "exact")
    whole = untie(tied, ENCODER)
    assert whole.spec == NETWORK
    for form in ("exact", "bank"):
        served = whole.rollout(events, form)
        assert expected.hidden_spikes[0].sum() > 20
        assert torch.equal(served.hidden_spikes[0], expected.hidden_spikes[0])
        assert torch.allclose(served.readout, expected.readout, atol=2e-3)


def test_a_tied_network_starts_deaf_to_loudness_alone_and_repeatable() -> None:
    first, again = (tied_network(NETWORK, ENCODER, seed=3).layer("hidden1").w_in for _ in range(2))
    assert torch.equal(first, again)
    assert float(first.detach().sum(1).abs().max()) < 1e-5
    assert abs(float(first.detach().std()) - INITIAL_DEVIATION) < 0.002
