"""The experiments with resonant neurons: equal sizes, and a run of each model through training and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hetsyn_model import Network
from research.catalog.matched import untrained
from research.catalog.resonance import resonance_rows
from research.runs.plan import Cell, ChosenSettings
from research.runs.planned import final_run
from research.runs.run import RunSpec, build, open_task
from research.runs.train import load_best, train
from research.tasks.neurons import parameter_count
from research.tasks.vision import ImageSpec


def test_all_models_train_as_many_values() -> None:
    experiment = resonance_rows()
    sizes = {
        (condition.name, model): parameter_count(untrained(experiment.task, condition.task_spec, model, recurrent=True))
        for condition in experiment.conditions
        for model in condition.models
    }
    assert len({model for _, model in sizes}) == 6
    assert min(sizes.values()) > 0.95 * max(sizes.values())


@pytest.mark.parametrize("model", ["se-adlif", "hetsyn-resonance"])
def test_a_run_trains_what_its_neurons_learn(model: str, tmp_path: Path) -> None:
    experiment = resonance_rows()
    condition = next(each for each in experiment.conditions if model in each.models)
    cell = next(Cell(each, recurrent=True) for each in condition.models if each == model)
    run = final_run(experiment, condition, cell, 0, {condition.name: ChosenSettings(5e-3, 15.0)})
    small = replace(
        run,
        task_spec=ImageSpec("drawn", hidden=(6, 6)),
        training=replace(run.training, updates=3, evaluate_every=3, batch=4, bank_size=4),
    )
    assert RunSpec.from_dict(small.to_dict()) == small
    task = open_task(small)
    train(small, task, tmp_path)
    network = load_best(small, task, tmp_path)
    assert isinstance(network, Network)
    neuron = network.spec.neuron
    assert neuron.resonance is not None
    assert (neuron.resonance.tau_steps, neuron.is_filtered) == ((5.0, 25.0), model == "hetsyn-resonance")
    before = build(small, task)
    assert isinstance(before, Network)
    for name, values in network.own_values().items():
        if name in ("layers.0.resonance.tau", "layers.0.resonance.a"):  # the others need spikes, of which few are here
            assert bool((values != before.own_values()[name]).any()), name
