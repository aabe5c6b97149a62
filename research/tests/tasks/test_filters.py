"""DH-SNN and the free bank: what is tied, what is free, how many values train, and both behind ``/infer``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hetsyn
from hetsyn_model.network import Network
from research.catalog import EXPERIMENTS
from research.catalog.equal import COMPARED, SIZES, untrained
from research.runs.plan import Cell, ChosenSettings, final_run
from research.runs.results import RunResult
from research.runs.run import RunSpec, Training, build, open_task, run_batch
from research.runs.runner import Selection, run_experiment
from research.runs.train import load_best, train
from research.tasks.delayed_match import DelayedMatchSpec
from research.tasks.free_bank import FreeBank, spread_bank
from research.tasks.neurons import NeuronModel, trained_values

SPEC = DelayedMatchSpec(hidden=(6,), delay_ms=100, validation_trials=8, test_trials=16)
TRAINING = Training(updates=6, batch=8, schedule="step", evaluate_every=3, bank_size=8, whole_range_banks=True)


def run_of(model: NeuronModel, filters: int, seed: int = 0) -> RunSpec:
    return RunSpec("equal-cue", "c", "delayed-match", SPEC, model, True, seed, 5e-3, 8.0, TRAINING, filters=filters)


def branches(network: Network) -> list[torch.Tensor]:
    """The decays of each hidden neuron, over both paths, [synapse]."""
    layer = network.layer("hidden1")
    assert layer.r_rec is not None
    return list(torch.cat([layer.r_in.detach(), layer.r_rec.detach()], 1))


def test_a_neuron_of_dh_snn_has_a_decay_a_branch_before_and_after_training(tmp_path: Path) -> None:
    run = run_of("dh-snn", 4)
    task = open_task(run)
    before = build(run, task)
    assert isinstance(before, Network)
    train(run, task, tmp_path)
    after = load_best(run, task, tmp_path)
    assert isinstance(after, Network)
    for first, last in zip(branches(before), branches(after), strict=True):
        values, index = first.unique(return_inverse=True)
        assert index.bincount().tolist() == [9, 9, 9, 9]  # 30 inputs and 6 neurons
        for branch in range(4):
            assert len(last[index == branch].unique()) == 1
        assert not torch.equal(first, last)
        assert len(last.unique()) == len(values)
    readout = after.layer("readout").r_in
    assert all(len(neuron.unique()) == 1 for neuron in readout)


def test_the_gradient_of_a_branch_is_that_of_all_its_synapses() -> None:
    run = run_of("dh-snn", 2)
    task = open_task(run)
    tied, free = build(run, task), build(replace(run, model="hetsyn", filters=0), task)
    assert isinstance(tied, Network)
    assert isinstance(free, Network)
    free.load_state_dict(tied.state_dict())
    batch = task.training_batch(8, 0, 0)
    gradients = []
    for network in (tied, free):
        task.loss(run_batch(network, batch, "exact"), batch).backward()
        layer = network.layer("hidden1")
        assert layer.r_rec is not None
        gradients.append(torch.cat([layer.r_in.grad, layer.r_rec.grad], 1))  # type: ignore[list-item]
        together = torch.cat([layer.r_in.detach(), layer.r_rec.detach()], 1)
    for neuron in range(6):
        for value in together[neuron].unique():
            of_branch = together[neuron] == value
            branch, synapses = (gradient[neuron][of_branch] for gradient in gradients)
            assert len(branch.unique()) == 1
            assert float(branch[0]) == pytest.approx(float(synapses.sum()) / 18**0.5, rel=1e-4, abs=1e-7)
            assert float(branch.norm()) == pytest.approx(abs(float(synapses.sum())), rel=1e-4, abs=1e-7)


def test_a_run_goes_on_with_tied_decays(tmp_path: Path) -> None:
    run = run_of("dh-snn", 2)
    task = open_task(run)
    train(run, task, tmp_path / "whole")
    half = replace(run, training=replace(TRAINING, updates=6))
    train(half, task, tmp_path / "again")
    one, other = (load_best(run, task, tmp_path / name) for name in ("whole", "again"))
    assert isinstance(one, Network)
    assert isinstance(other, Network)
    assert all(torch.equal(a, b) for a, b in zip(branches(one), branches(other), strict=True))


def test_a_free_bank_begins_as_hetsyn_in_that_bank() -> None:
    run = run_of("free-bank", 4)
    task = open_task(run)
    network, like = build(run, task), build(replace(run, model="hetsyn", filters=0), task)
    assert isinstance(network, FreeBank)
    assert isinstance(like, Network)
    like.banks = dict.fromkeys(like.spec.layer_names, spread_bank(8.0, 4))
    batch = task.training_batch(8, 0, 0)
    with torch.no_grad():
        assert torch.equal(run_batch(network, batch).readout, run_batch(like, batch).readout)


def test_a_free_bank_trains_its_weights_alone(tmp_path: Path) -> None:
    run = run_of("free-bank", 2)
    task = open_task(run)
    before = build(run, task)
    train(run, task, tmp_path)
    after = load_best(run, task, tmp_path)
    assert isinstance(before, FreeBank)
    assert isinstance(after, FreeBank)
    changed = {name for name, weight in after.named_parameters() if not torch.equal(weight, before.get_parameter(name))}
    assert changed == {f"weights.{name}" for name in ("hidden1-in", "hidden1-rec", "readout-in")}
    one, other = (network.compile().layers[0].synapses for network in (before, after))
    assert torch.equal(one.decays, other.decays)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name.startswith("equal-")])
def test_all_models_of_a_size_train_as_many_values(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    for size, share in SIZES.items():
        conditions = [condition for condition in experiment.conditions if condition.name.endswith(size)]
        assert [(condition.models[0], condition.filters) for condition in conditions] == list(COMPARED)
        counts = [
            trained_values(untrained(experiment.task, c.task_spec, c.models[0]), c.models[0], c.filters)
            for c in conditions
        ]
        goal = share * trained_values(
            untrained(experiment.task, EXPERIMENTS[name]().conditions[0].task_spec, "hetsyn"), "hetsyn"
        )
        assert max(counts) <= goal + 1
        tolerance = 0.75 if name == "equal-cue" else 0.93  # a neuron of ten is a tenth
        assert min(counts) >= tolerance * goal, counts


def test_two_free_weights_are_as_many_values_as_a_weight_and_a_decay() -> None:
    spec = untrained("delayed-match", SPEC, "hetsyn")
    run = run_of("free-bank", 2)
    weights = sum(weight.numel() for weight in build(run, open_task(run)).parameters() if weight.requires_grad)
    assert weights == trained_values(spec, "free-bank", 2) == trained_values(spec, "hetsyn")


@pytest.mark.parametrize(("model", "filters"), [("dh-snn", 4), ("free-bank", 2)])
def test_a_result_has_the_values_that_were_trained(tmp_path: Path, model: NeuronModel, filters: int) -> None:
    experiment = EXPERIMENTS["equal-cue"]()
    condition = next(c for c in experiment.conditions if (c.models[0], c.filters) == (model, filters))
    small = replace(condition, task_spec=SPEC, settings=ChosenSettings(5e-3, 8.0), seeds=1, own_search=False)
    plan = replace(experiment, conditions=(small,), training=TRAINING)
    result: RunResult
    (result,) = run_experiment(plan, tmp_path, tmp_path / "results.json.gz", Selection())
    spec = untrained("delayed-match", SPEC, model)
    assert result.parameters == trained_values(spec, model, filters)
    assert 0 <= result.figure <= 1
    run = final_run(plan, small, Cell(model, True), 0, {})
    assert result.is_of(run)
    assert RunSpec.from_dict(result.run) == run


def test_both_are_exported_through_the_public_door(tmp_path: Path) -> None:
    models: dict[NeuronModel, int] = {"dh-snn": 4, "free-bank": 2}
    for model, filters in models.items():
        run = run_of(model, filters)
        task = open_task(run)
        network = build(run, task)
        out = tmp_path / model / "1"
        if isinstance(network, FreeBank):
            hetsyn.export_step(
                network.eval(),
                out=out,
                example_input=torch.zeros(1, 30),
                initial_state=network.initial_state(),
                labels=task.labels,
                decision="last",
                input_kind="spikes",
            )
        else:
            assert isinstance(network, Network)
            examples = task.test()[0].dense()[:4].astype("float32")
            hetsyn.export_network(network, out=out, labels=task.labels, examples=examples)
        assert (out / "manifest.json").exists()
