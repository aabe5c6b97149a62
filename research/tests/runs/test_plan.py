"""The experiments as data: equal effort, and descriptions that survive a trip through JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain

import pytest

from hetsyn_model.run_folder import RunError
from research.catalog import EXPERIMENTS, smoke
from research.runs.plan import BASE, NEURONS, PAPER, SEARCH_SEED, Cell, ChosenSettings, cells
from research.runs.planned import (
    belongs,
    final_run,
    final_runs,
    refinement_runs,
    run_count,
    search_runs,
    searched_conditions,
    searches,
)
from research.runs.run import RunSpec, open_task
from research.runs.runner import Selection
from research.tasks.neurons import bank_state_bytes, exact_state_bytes, network_spec, parameter_count

BEST = ChosenSettings(1e-3, 10.0)
# where delays are compared, each with its search
FEWER_MODELS = {"delays-series": ("hetsyn", "homneu")}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_model_gets_the_same_search_or_every_condition_has_settings(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    if not experiment.search.learning_rates:
        assert run_count(experiment)[0] == 0
        assert all(condition.settings is not None for condition in experiment.conditions)
        return
    candidates = {
        (cell, condition): search_runs(experiment, cell, condition)
        for cell in cells(experiment)
        for condition in searched_conditions(experiment, cell)
    }
    assert {cell.model for cell, _ in candidates} >= set(FEWER_MODELS.get(name, NEURONS))
    assert len({len(runs) for runs in candidates.values()}) == 1
    assert len({run.training for runs in candidates.values() for run in runs}) == 1
    assert all({run.seed for run in runs} == set(experiment.search.seeds) for runs in candidates.values())
    assert experiment.search.seeds[0] == SEARCH_SEED


def test_the_second_stage_is_as_large_for_every_model_and_chooses_the_decays_rate() -> None:
    experiment = EXPERIMENTS["vision-rows"]()
    stages = {cell.model: refinement_runs(experiment, cell, BEST) for cell in cells(experiment)}
    assert {len(runs) for runs in stages.values()} == {4}
    assert {run.training.updates for runs in stages.values() for run in runs} == {428}
    for model, runs in stages.items():
        factors = [run.training.decay_rate_factor for run in runs]
        rates = [run.learning_rate for run in runs]
        if model in ("hetsyn", "hetneu"):
            assert (factors, rates) == ([0.2, 0.4, 1.0, 2.0], [1e-3] * 4)
        else:
            assert (factors, rates) == ([1.0] * 4, [5e-4, 1e-3, 1.5e-3, 2e-3])
        assert all(run.searching for run in runs)
    chosen = ChosenSettings(1e-3, 10.0, 0.4)
    hetsyn = final_run(experiment, experiment.condition(BASE), Cell("hetsyn", True), 0, {BASE: chosen})
    assert hetsyn.training.decay_rate_factor == 0.4
    planned = [hetsyn, *stages["hetsyn"], *stages["lstm"]]
    assert all(belongs(experiment, run.to_dict()) for run in planned)
    other = replace(hetsyn, training=replace(hetsyn.training, decay_rate_factor=3.0))
    fixed = replace(hetsyn, model="homneu")
    assert not any(belongs(experiment, run.to_dict()) for run in (other, fixed))


def test_a_condition_trains_at_a_size_of_its_own() -> None:
    experiment = EXPERIMENTS["bank-size"]()
    sizes = {}
    for condition in experiment.conditions:
        run = final_run(experiment, condition, Cell("hetsyn", True), 0, {})
        sizes[condition.name] = (run.training.bank_size, run.training.form, run.training.decay_rate_factor)
        assert belongs(experiment, run.to_dict())
    assert sizes["trained-4-decays-2"] == (4, "bank", 2.0)
    assert sizes["trained-exact-decays-0.4"] == (0, "exact", 0.4)
    assert run_count(experiment)[0] == 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_have_a_folder_each_and_seeds_that_the_search_did_not_see(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    searched = {cell: searched_conditions(experiment, cell) for cell in cells(experiment)}
    runs = [
        run
        for cell in searched
        for run in final_runs(experiment, cell, {s.name: BEST for s in searches(experiment, cell)})
    ]
    for cell in searched:
        for _, name, seed in searches(experiment, cell):
            runs += [run for run in search_runs(experiment, cell, name) if run.seed == seed]
            runs += refinement_runs(experiment, cell, BEST, name, seed)
    assert len({run.name for run in runs}) == len(runs) == sum(run_count(experiment))
    for condition in experiment.conditions:
        assert 3 <= condition.seeds < SEARCH_SEED


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_description_survives_json(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    cell = cells(experiment)[0]
    run = final_runs(experiment, cell, {s.name: BEST for s in searches(experiment, cell)})[0]
    assert RunSpec.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_what_is_no_description_is_refused() -> None:
    with pytest.raises(RunError, match="not the description"):
        RunSpec.from_dict({"task": "juggling"})


def test_matched_networks_are_within_what_hetneu_has_and_no_unit_larger_would_be() -> None:
    experiment = EXPERIMENTS["pattern-generation"]()
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
        assert len(small.conditions) == 1
        assert len({cell.recurrent for cell in cells(small)}) == 1


def test_shares_split_the_cells_and_lose_none() -> None:
    experiment = EXPERIMENTS["delayed-match"]()
    for count in (1, 2, 3):
        shares = [Selection(share=(index, count)).cells(experiment) for index in range(count)]
        assert sorted(map(str, chain(*shares))) == sorted(map(str, cells(experiment)))
    halves = [Selection(share=(index, 2)).cells(experiment) for index in range(2)]
    assert [sum(cell.recurrent for cell in half) for half in halves] == [2, 2]


def test_an_extension_is_of_some_cells() -> None:
    experiment = EXPERIMENTS["pattern-generation"]()
    condition = experiment.condition(PAPER)
    assert [condition.seeds_of(Cell("hetsyn", recurrent)) for recurrent in (True, False)] == [20, 85]
    assert condition.most_seeds == 85
    noise = experiment.condition("paper-settings-noise-4")
    assert [noise.seeds_of(Cell(model, True)) for model in ("hetsyn", "homneu", "alif")] == [255, 255, 46]
    assert [noise.seeds_of(Cell(model, False)) for model in ("hetsyn", "hetneu")] == [42, 10]
    everyone = Selection()
    assert everyone.has(experiment, noise, Cell("homneu", True), 191)
    assert not everyone.has(experiment, noise, Cell("alif", True), 46)
    runs = [final_runs(experiment, Cell("hetsyn", recurrent), {BASE: BEST}) for recurrent in (True, False)]
    assert [sum(run.condition == PAPER for run in each) for each in runs] == [20, 85]
    everything = Selection()
    assert everything.has(experiment, condition, Cell("hetsyn", False), 84)
    assert not everything.has(experiment, condition, Cell("hetsyn", True), 20)
    assert Selection(seeds=(84,)).missing(experiment) == ""
    assert "the seed 84" in Selection(seeds=(84,), recurrent=True, conditions=(PAPER,)).missing(experiment)


@pytest.mark.parametrize("name", ["delayed-match", "vision-rows"])
def test_every_final_run_has_one_share(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    shares = [Selection(share=(index, 2)) for index in range(2)]
    sizes = [0, 0]
    for condition in experiment.conditions:
        for cell in filter(condition.has, cells(experiment)):
            mine = [
                [share.has(experiment, condition, cell, seed) for seed in range(condition.seeds_of(cell))]
                for share in shares
            ]
            assert all(a != b for a, b in zip(*mine, strict=True))
            sizes = [size + sum(each) for size, each in zip(sizes, mine, strict=True)]
    assert min(sizes) >= 0.25 * sum(sizes)
    assert not Selection(seeds=(1,)).has(experiment, experiment.conditions[0], cells(experiment)[0], 0)


def test_a_run_with_other_settings_than_the_paper_s_is_not_in_the_plan() -> None:
    """It would be a second run of its seed."""
    experiment = EXPERIMENTS["shd-recorded"]()
    run = final_run(experiment, experiment.condition(PAPER), Cell("homneu", True), 0, {})
    assert belongs(experiment, run.to_dict())
    for changes in ({"learning_rate": 1e-3}, {"tau_steps": 12.5}):
        assert not belongs(experiment, replace(run, **changes).to_dict())  # type: ignore[arg-type]
