"""The delayed-match task: cues, delay, noise, and what counts as a match."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec
from research.tasks.delayed_match import DelayedMatch, DelayedMatchSpec, trials

SPEC = DelayedMatchSpec()
FIRST, SECOND = slice(10, 30), slice(190, 210)  # steps of 5 ms: 50-150 ms and 950-1050 ms


def test_a_trial_is_210_steps_of_30_channels() -> None:
    spikes, labels = trials(SPEC, 3, np.random.default_rng(0))
    assert spikes.shape == (3, 210, 30)
    assert labels.shape == (3,)


def test_cues_fire_at_their_rate_on_one_side_and_nowhere_else() -> None:
    spikes, _ = trials(SPEC, 500, np.random.default_rng(0))
    cues = spikes[:, :, :20]
    silent = np.ones(210, np.bool_)
    silent[FIRST] = silent[SECOND] = False
    assert not cues[:, silent].any()
    for during in (FIRST, SECOND):
        left, right = cues[:, during, :10].any((1, 2)), cues[:, during, 10:].any((1, 2))
        assert not (left & right).any()
        # half the trials have the cue on a side
        assert cues[:, during].mean() * 200 == pytest.approx(20.0, rel=0.03)


def test_noise_channels_fire_all_the_time() -> None:
    spikes, _ = trials(SPEC, 500, np.random.default_rng(0))
    assert spikes[:, :, 20:].mean() * 200 == pytest.approx(10.0, rel=0.02)


def test_added_noise_is_on_every_channel_all_the_time() -> None:
    spikes, _ = trials(replace(SPEC, added_noise_hz=20.0, noise_hz=0.0), 200, np.random.default_rng(0))
    silent = np.ones(210, np.bool_)
    silent[FIRST] = silent[SECOND] = False
    rates_hz = spikes[:, silent].mean((0, 1)) * 200
    assert rates_hz == pytest.approx(np.full(30, 20.0), rel=0.1)


def test_the_loss_has_the_rate_term() -> None:
    task = DelayedMatch(replace(SPEC, validation_trials=4))
    batch = task.validation()[0]
    spikes = torch.zeros(4, SPEC.steps, 5)

    def loss() -> float:
        scores = torch.zeros(4, 2)
        return float(task.loss(Rollout(scores, [spikes], scores, batch.steps, DecisionSpec("last")), batch))

    assert loss() == pytest.approx(math.log(2) + 0.01)  # silence is a rate off by all of it
    spikes[:, ::20] = 1.0
    assert loss() == pytest.approx(math.log(2), abs=1e-3)  # 200 / 20 Hz


def test_the_test_comes_in_parts_that_differ() -> None:
    batches = DelayedMatch().test()
    assert sum(len(batch.steps) for batch in batches) == 1000
    assert not np.array_equal(batches[0].dense(), batches[1].dense())


def test_the_label_says_whether_the_sides_are_the_same() -> None:
    spikes, labels = trials(SPEC, 500, np.random.default_rng(0))
    first, second = (spikes[:, during, :10].sum((1, 2)) > 0 for during in (FIRST, SECOND))
    assert np.array_equal(labels, (first == second).astype(np.int64))
    assert labels.mean() == pytest.approx(0.5, abs=0.06)


def test_the_delay_moves_the_second_cue() -> None:
    spec = replace(SPEC, delay_ms=2500)
    spikes, _ = trials(spec, 50, np.random.default_rng(0))
    assert spikes.shape[1] == 550
    assert not spikes[:, 30:530, :20].any()
    assert spikes[:, 530:, :20].any((1, 2)).all()


def test_batches_are_their_seed_and_parts_differ() -> None:
    task = DelayedMatch(seed=4)
    assert np.array_equal(task.training_batch(8, 1, 2).dense(), DelayedMatch(seed=4).training_batch(8, 1, 2).dense())
    assert not np.array_equal(task.training_batch(8, 1, 2).dense(), task.training_batch(8, 1, 3).dense())
    assert not np.array_equal(task.validation()[0].dense()[:64], task.test()[0].dense()[:64])
    assert task.channel_groups == {"cue": (0, 20), "noise": (20, 30)}
