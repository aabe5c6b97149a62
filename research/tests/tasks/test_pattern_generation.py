"""The pattern-generation task: what fires when, and what is to be drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import DecisionSpec, Variant
from research.runs.plan import NEURONS
from research.tasks.neurons import build_network, network_spec, trained_values
from research.tasks.pattern_generation import (
    PatternGeneration,
    PatternGenerationSpec,
    target_trace,
    template,
    trials,
)

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


@pytest.mark.parametrize("noise_hz", [1.0, 2.0, 4.0])
def test_the_gaps_hold_noise_of_the_conditions_rate(noise_hz: float) -> None:
    spec = PatternGenerationSpec(noise_hz=noise_hz)
    spikes = trials(spec, np.zeros((500, 100), np.bool_), 100, np.random.default_rng(0))
    assert spikes[:, 500:750].mean() * 1e3 == pytest.approx(noise_hz, rel=0.03)


def test_the_network_is_the_papers() -> None:
    task = PatternGeneration()
    assert (task.shape.channels, task.shape.hidden, task.shape.outputs) == (100, (100,), 1)
    specs = {model: network_spec(task.shape, model, recurrent=True, tau_steps=20.0) for model in NEURONS}
    values = {
        model: sum(each.numel() for each in Network(spec).parameters() if each.requires_grad)
        for model, spec in specs.items()
    }
    synapses = 100 * 100 + 100 * 100 + 100
    assert values == {"hetsyn": 2 * synapses, "hetneu": synapses + 101, "alif": synapses, "homneu": synapses}
    assert values == {model: trained_values(spec, model) for model, spec in specs.items()}


@pytest.mark.parametrize("model", NEURONS)
def test_every_models_reset_is_the_papers(model: Variant) -> None:
    shape = PatternGeneration().shape
    spec = network_spec(shape, model, recurrent=True, tau_steps=60.0)
    layer = build_network(shape, spec, tau_steps=60.0, seed=0).layer("hidden1")
    assert layer.kappa is not None
    assert layer.kappa.tolist() == pytest.approx([math.exp(-1 / 20)] * 100)


def test_initial_weights_go_by_the_number_of_synapses() -> None:
    shape = PatternGeneration().shape
    for model in NEURONS:
        spec = network_spec(shape, model, recurrent=True, tau_steps=20.0)
        layer = build_network(shape, spec, tau_steps=20.0, seed=0).layer("hidden1")
        for weight in (layer.w_in, layer.w_rec):
            assert weight is not None
            assert weight.std().item() == pytest.approx(0.1, rel=0.03)


def test_three_targets_are_three_traces_of_which_the_first_is_that_of_one_target() -> None:
    task = PatternGeneration(PatternGenerationSpec(targets=3))
    assert task.labels == ("trace 1", "trace 2", "trace 3")
    assert task.shape.outputs == 3
    assert task.training_batch(1, 0, 0).target.shape == (1, 2000, 3)
    assert torch.equal(task.target[:, :1], PatternGeneration().target)
    assert float((task.target[:, 1] - task.target[:, 2]).abs().max()) > 0.1


def test_the_target_is_a_sum_of_harmonics_scaled_to_one() -> None:
    assert np.abs(target_trace(SPEC, np.random.default_rng(2))).max() == 1.0
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
