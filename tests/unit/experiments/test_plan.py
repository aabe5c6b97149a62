"""The experiments as data: equal effort, and descriptions that survive a trip through JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain

import pytest

from experiments.catalog import EXPERIMENTS, smoke
from experiments.neurons import bank_state_bytes, exact_state_bytes, network_spec, parameter_count
from experiments.plan import (
    BASE,
    NEURONS,
    PAPER,
    SEARCH_SEED,
    Cell,
    ChosenSettings,
    belongs,
    cells,
    final_run,
    final_runs,
    run_count,
    search_runs,
    searched_conditions,
)
from experiments.run import RunSpec, open_task
from experiments.runner import Selection
from hetsyn_model.run_folder import RunError


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_model_gets_the_same_search(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    searches = {cell: search_runs(experiment, cell) for cell in cells(experiment)}
    assert {cell.model for cell in searches} >= set(NEURONS)
    assert len({len(runs) for runs in searches.values()}) == 1
    assert len({run.training for runs in searches.values() for run in runs}) == 1
    assert all(run.seed == SEARCH_SEED for runs in searches.values() for run in runs)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_have_a_folder_each_and_seeds_that_the_search_did_not_see(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    searched = {cell: searched_conditions(experiment, cell) for cell in cells(experiment)}
    runs = [
        run
        for cell, names in searched.items()
        for run in final_runs(experiment, cell, dict.fromkeys(names, ChosenSettings(1e-3, 10.0)))
    ]
    runs += [run for cell, names in searched.items() for name in names for run in search_runs(experiment, cell, name)]
    assert len({run.name for run in runs}) == len(runs) == sum(run_count(experiment))
    for condition in experiment.conditions:
        # no claim rests on "longer", which says how far more training brings one network
        assert (1 if condition.name == "longer" else 3) <= condition.seeds < SEARCH_SEED


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_description_survives_json(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    run = search_runs(experiment, cells(experiment)[0])[0]
    assert RunSpec.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_what_is_no_description_is_refused() -> None:
    with pytest.raises(RunError, match="not the description"):
        RunSpec.from_dict({"task": "juggling"})


def test_matched_networks_are_within_what_hetneu_has_and_no_unit_larger_would_be() -> None:
    experiment = EXPERIMENTS["delayed-match"]()
    base = experiment.condition(BASE).task_spec

    def spec(hidden: tuple[int, ...], model: str):  # type: ignore[no-untyped-def]
        run = search_runs(experiment, cells(experiment)[0])[0]
        shape = open_task(replace(run, task_spec=replace(base, hidden=hidden))).shape
        return network_spec(shape, model, recurrent=True, tau_steps=8.0)  # type: ignore[arg-type]

    hetneu, size = spec(base.hidden, "hetneu"), experiment.training.bank_size
    (parameters,) = experiment.condition("same-parameters").task_spec.hidden
    (state,) = experiment.condition("same-state").task_spec.hidden
    assert parameter_count(spec((parameters,), "hetsyn")) <= parameter_count(hetneu)
    assert parameter_count(spec((parameters + 1,), "hetsyn")) > parameter_count(hetneu)
    assert bank_state_bytes(spec((state,), "hetsyn"), size) <= exact_state_bytes(hetneu)
    assert bank_state_bytes(spec((state + 1,), "hetsyn"), size) > exact_state_bytes(hetneu)


def test_the_smoke_version_has_one_run_a_model() -> None:
    for make in EXPERIMENTS.values():
        small = smoke(make())
        assert [c.name for c in small.conditions] == [BASE]
        assert len({cell.recurrent for cell in cells(small)}) == 1


def test_shares_split_the_cells_and_lose_none() -> None:
    experiment = EXPERIMENTS["delayed-match"]()
    for count in (1, 2, 3):
        shares = [Selection(share=(index, count)).cells(experiment) for index in range(count)]
        assert sorted(map(str, chain(*shares))) == sorted(map(str, cells(experiment)))
    halves = [Selection(share=(index, 2)).cells(experiment) for index in range(2)]
    assert [sum(cell.recurrent for cell in half) for half in halves] == [2, 2]


def test_a_run_with_other_settings_than_the_paper_s_is_not_in_the_plan() -> None:
    """It would be a second run of its seed."""
    experiment = EXPERIMENTS["shd-recorded"]()
    run = final_run(experiment, experiment.condition(PAPER), Cell("homneu", True), 0, {})
    assert belongs(experiment, run.to_dict())
    for changes in ({"learning_rate": 1e-3}, {"tau_steps": 12.5}):
        assert not belongs(experiment, replace(run, **changes).to_dict())  # type: ignore[arg-type]
