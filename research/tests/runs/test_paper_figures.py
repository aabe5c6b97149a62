"""The paper's measures of its own tasks, on made-up outputs and small networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hetsyn_model.network import Network
from research.runs.paper_figures import in_gaps, normalised_distance, paper_figures, without_long
from research.runs.run import RunSpec, TaskSpec, Training, build, open_task
from research.tasks.delayed_match import DelayedMatchSpec
from research.tasks.neurons import time_constants
from research.tasks.pattern_generation import PatternGeneration, PatternGenerationSpec
from research.tests.made_up_results import made_up
from research.worth.measures import MEASURES

SPEC = PatternGenerationSpec(template_ms=60, gap_ms=20, hidden=(6,), targets=2, validation_trials=2, test_trials=3)
TARGET = PatternGeneration(SPEC).target


def built(spec: TaskSpec, task: str, model: str = "hetsyn", seed: int = 0) -> tuple[RunSpec, Network]:
    training = Training(2, 1, "step", bank_size=12, whole_range_banks=True)
    run = RunSpec("e", "c", task, spec, model, True, seed, 1e-3, 8.0, training)  # type: ignore[arg-type]
    network = build(run, open_task(run))
    assert isinstance(network, Network)
    network.fit_banks(size=12, hold=True, whole_range=True)
    return run, network.eval()


def test_the_normalised_distance_of_the_target_is_one() -> None:
    outputs = torch.stack([TARGET, TARGET])
    assert normalised_distance(SPEC, outputs, TARGET) == pytest.approx(1.0)
    assert normalised_distance(SPEC, 0.5 * outputs, TARGET) == pytest.approx(0.25)


def test_an_output_that_follows_the_template_alone_has_no_distance() -> None:
    period = SPEC.template_ms + SPEC.gap_ms
    again = torch.sin(torch.arange(float(SPEC.steps)) % period).view(1, -1, 1).expand(-1, -1, 2)
    assert normalised_distance(SPEC, again, TARGET) == pytest.approx(0.0, abs=1e-12)
    other_gaps = again.clone()
    other_gaps[:, 60:80] = 5.0  # what happens in a gap does not count
    assert normalised_distance(SPEC, other_gaps, TARGET) == pytest.approx(0.0, abs=1e-12)


def test_gaps_are_what_is_between_the_occurrences() -> None:
    trace = torch.zeros(1, SPEC.steps, 2)
    trace[:, :60] = trace[:, 80:140] = trace[:, 160:] = 7.0
    assert in_gaps(SPEC, trace) == 0.0
    trace[:, 60:80, 0], trace[:, 140:160] = -1.0, 0.5
    assert in_gaps(SPEC, trace) == pytest.approx((1.0 + 0.0 + 0.5 + 0.5) / 4)


def test_long_time_constants_go_back_to_the_initial_mean() -> None:
    _, network = built(DelayedMatchSpec(hidden=(10,)), "delayed-match")
    layer = network.layer("hidden1")
    with torch.no_grad():
        layer.r_in[:, :3] = 0.999
    changed, share = without_long(network, 140.0, 20.0)
    tau = time_constants(changed.layer("hidden1").r_in)
    assert tau[:, :3].flatten().tolist() == pytest.approx([20.0] * 30, rel=1e-4)
    assert torch.equal(tau[:, 3:], time_constants(layer.r_in[:, 3:]))
    assert share == 30 / (10 * 30 + 10 * 10 + 2 * 10)
    assert layer.r_in[0, 0].item() == pytest.approx(0.999)


def test_what_a_result_of_pattern_generation_has() -> None:
    run, network = built(SPEC, "pattern-generation")
    found = paper_figures(run, open_task(run), network)
    assert set(found) == {"forms", "distance", "gaps", "time_constants", "traces"}
    assert len(found["traces"]) == 2
    assert len(found["traces"][0]["target"]) == SPEC.steps / 20
    assert found["forms"]["bank"] == pytest.approx(found["forms"]["exact"], rel=0.05)
    (result, *_) = made_up("hetsyn", 0.9)
    result = replace(result, analysis=found)
    assert MEASURES["normalised distance"].of(vars(result)) == found["distance"]
    gaps = found["gaps"]
    assert MEASURES["output in the gaps"].of(vars(result)) == pytest.approx(gaps["output"] / gaps["target"])
    run, network = built(SPEC, "pattern-generation", "homneu", seed=1)
    assert "traces" not in paper_figures(run, open_task(run), network)


def test_what_a_result_of_delayed_match_has() -> None:
    spec = DelayedMatchSpec(hidden=(6,), delay_ms=100, validation_trials=8, test_trials=300)
    run, network = built(spec, "delayed-match")
    with torch.no_grad():
        network.layer("hidden1").r_in[:, 0] = 0.9995
    found = paper_figures(run, open_task(run), network)
    assert set(found) == {"forms", "time_constants", "long"}
    assert set(found["forms"]) == {"bank", "exact"}
    assert found["time_constants"]["cue"]["after"]["log_mean"] > found["time_constants"]["cue"]["before"]["log_mean"]
    (result, *_) = made_up("hetsyn", 0.9)
    result = replace(result, analysis=found)
    assert found["long"]["share"] == 6 / (6 * 30 + 36 + 12)
    assert 0 <= MEASURES["long reset"].of(vars(result)) <= 1
    run, network = built(spec, "delayed-match", "hetneu")
    assert set(paper_figures(run, open_task(run), network)) == {"forms"}
