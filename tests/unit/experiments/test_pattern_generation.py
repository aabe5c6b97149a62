"""The pattern-generation task: what fires when, and what is to be drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.pattern_generation import (
    PatternGeneration,
    PatternGenerationSpec,
    target_trace,
    template,
    trials,
)
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec

SPEC = PatternGenerationSpec()


def test_a_trial_lasts_two_seconds() -> None:
    assert SPEC.steps == 2000
    batch = PatternGeneration().training_batch(1, 0, 0)
    assert (batch.events.steps, batch.events.channels) == (2000, 100)
    assert batch.target.shape == (1, 2000, 1)


def test_the_template_fires_at_its_rate() -> None:
    rate_hz = template(PatternGenerationSpec(template_ms=20_000), np.random.default_rng(0)).mean() * 1e3
    assert rate_hz == pytest.approx(10.0, rel=0.05)


def test_the_template_is_in_every_trial_three_times_under_new_noise() -> None:
    rng = np.random.default_rng(0)
    pattern = template(SPEC, rng)
    spikes = trials(SPEC, pattern, 4, rng)
    for start in (0, 750, 1500):
        assert spikes[:, start : start + 500][:, pattern].all()
    assert not np.array_equal(spikes[0], spikes[1])


def test_the_gaps_hold_noise_of_one_to_four_hz() -> None:
    spikes = trials(SPEC, np.zeros((500, 100), np.bool_), 200, np.random.default_rng(0))
    rates_hz = spikes[:, 500:750].mean((1, 2)) * 1e3
    assert rates_hz.mean() == pytest.approx(2.5, abs=0.15)
    assert rates_hz.min() > 0.5
    assert rates_hz.max() < 5.0


def test_the_target_is_a_sum_of_harmonics_scaled_to_one() -> None:
    trace = target_trace(SPEC, np.random.default_rng(3))
    assert np.abs(trace).max() == 1.0
    power = np.abs(np.fft.rfft(trace)) ** 2  # two seconds: bin n is n * 0.5 Hz
    assert power[1:6].sum() / power.sum() > 0.999


def test_the_task_is_its_seed() -> None:
    a, b, other = PatternGeneration(seed=1), PatternGeneration(seed=1), PatternGeneration(seed=2)
    assert torch.equal(a.target, b.target)
    assert not torch.equal(a.target, other.target)
    assert np.array_equal(a.training_batch(2, 5, 7).dense(), b.training_batch(2, 5, 7).dense())
    assert not np.array_equal(a.training_batch(2, 5, 7).dense(), a.training_batch(2, 5, 8).dense())
    assert not np.array_equal(a.validation()[0].dense()[:8], a.test()[0].dense()[:8])


def test_the_loss_is_the_error_and_what_draws_rates_to_ten_hz() -> None:
    task = PatternGeneration(PatternGenerationSpec(template_ms=60, gap_ms=20))
    batch = task.validation()[0]
    spikes = torch.zeros(8, task.spec.steps, 5)
    rolled = Rollout(batch.target.clone(), [spikes], batch.target[:, -1], batch.steps, DecisionSpec("trace"))
    assert float(task.loss(rolled, batch)) == pytest.approx(0.01)  # silence is a rate off by all of it
    spikes[:, ::100] = 1.0
    rate_hz = float(spikes.mean()) * 1e3
    assert float(task.loss(rolled, batch)) == pytest.approx(0.01 * ((rate_hz - 10) / 10) ** 2)
