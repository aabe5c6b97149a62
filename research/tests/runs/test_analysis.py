"""What is done to inputs and networks after training, and what is measured then."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hetsyn_model.network import Network
from hetsyn_model.spec import Variant
from hetsyn_model.training.batch import Batch
from research.runs.analysis import delete_spikes, tau_groups, time_constant_change, warp_time
from research.runs.plan import NEURONS
from research.runs.run import RunSpec, Training, build
from research.runs.train import masks
from research.tasks.delayed_match import DelayedMatch, DelayedMatchSpec
from research.tasks.neurons import build_network, network_spec, time_constants
from research.tasks.pattern_generation import PatternGeneration
from research.tasks.task import first_streams

TASK = DelayedMatch(DelayedMatchSpec(hidden=(12,), delay_ms=200, validation_trials=8, test_trials=8))


def network(model: Variant = "hetsyn", gain: float = 3.0) -> Network:
    spec = network_spec(TASK.shape, model, recurrent=True, tau_steps=8.0)
    built = build_network(TASK.shape, spec, tau_steps=8.0, seed=0)
    with torch.no_grad():
        built.layer("hidden1").w_in.mul_(gain)  # so that it fires
    built.fit_banks(size=6)
    return built.eval()


def test_deletion_takes_that_share_and_adds_nothing() -> None:
    spikes = np.random.default_rng(0).random((4, 200, 50)) < 0.3
    remaining = delete_spikes(spikes, 0.32, np.random.default_rng(1))
    assert not (remaining & ~spikes).any()
    assert remaining.sum() / spikes.sum() == pytest.approx(0.68, abs=0.02)
    assert np.array_equal(delete_spikes(spikes, 0.0, np.random.default_rng(1)), spikes)


def test_warping_by_nothing_changes_nothing() -> None:
    batch = TASK.test()[0]
    warped = warp_time(batch, 1.0)
    assert np.array_equal(warped.dense(), batch.dense())
    assert torch.equal(warped.steps, batch.steps)


def test_warping_moves_spikes_and_the_end_in_proportion() -> None:
    spikes = np.zeros((1, 100, 2), np.bool_)
    spikes[0, [10, 50, 99], [0, 1, 0]] = True
    batch = Batch.of(spikes, torch.tensor([1]))
    slower, faster = warp_time(batch, 2.0), warp_time(batch, 0.5)
    assert slower.steps.tolist() == [200]
    assert np.argwhere(slower.dense()[0]).tolist() == [[21, 0], [101, 1], [199, 0]]
    assert faster.steps.tolist() == [50]
    assert np.argwhere(faster.dense()[0]).tolist() == [[5, 0], [25, 1], [49, 0]]


def test_time_constants_are_grouped_by_what_their_channels_carry() -> None:
    before, after = network(), network()
    with torch.no_grad():
        after.layer("hidden1").r_in[:, 20:] = float(np.exp(-1 / 2))
    groups = tau_groups(after, TASK.channel_groups)
    assert groups["noise"].tolist() == pytest.approx([2.0] * 120, rel=1e-5)
    assert groups["cue"].mean() == pytest.approx(8.0, rel=0.05)
    change = time_constant_change(before, after, TASK.channel_groups)
    assert set(change) == {"cue", "noise", "hidden1 recurrent", "readout input"}
    assert change["noise"]["after"]["log_mean"] < 2.01 < 7 < change["noise"]["before"]["log_mean"]
    assert sum(change["cue"]["after"]["counts"]) == 240


def test_a_normal_distribution_of_initial_time_constants() -> None:
    task = PatternGeneration()
    spec = network_spec(task.shape, "hetsyn", recurrent=False, tau_steps=20.0)
    tau = time_constants(build_network(task.shape, spec, tau_steps=20.0, seed=0).layer("hidden1").r_in)
    assert float(tau.mean()) == pytest.approx(20.0, rel=0.01)
    assert float(tau.std()) == pytest.approx(5.0, rel=0.03)


def test_every_model_has_the_same_initial_input_weights() -> None:
    built = [
        build(RunSpec("e", "c", "delayed-match", TASK.spec, model, True, 0, 1e-3, 8.0, Training(1, 1, "step")), TASK)
        for model in NEURONS
    ]
    shapes = {tuple(next(network.parameters()).shape) for network in built}
    assert shapes == {(12, 30)}


def test_a_mask_is_a_seeded_share_of_the_decays() -> None:
    run = RunSpec(
        *("e", "c", "delayed-match", DelayedMatchSpec(), "hetsyn", True, 0, 1e-3, 8.0, Training(1, 1, "step")),
        masked_share=0.8,
    )
    built = build(run, DelayedMatch())
    assert isinstance(built, Network)
    found = masks(run, built)
    assert len(found) == len(built.decays()) == 3
    share = sum(int(mask.sum()) for mask in found.values()) / sum(mask.numel() for mask in found.values())
    assert share == pytest.approx(0.8, abs=0.01)
    assert all(torch.equal(found[name], mask) for name, mask in masks(run, built).items())


def test_the_first_streams_of_several_batches() -> None:
    batches = [*TASK.test(), *TASK.test()]
    assert [len(batch.steps) for batch in first_streams(batches, 11)] == [8, 3]
    assert np.array_equal(first_streams(batches, 3)[0].dense(), batches[0].dense()[:3])
