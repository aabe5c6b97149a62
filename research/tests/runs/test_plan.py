"""The experiments as data: equal effort, and descriptions that survive a trip through JSON."""

from __future__ import annotations

import json
from itertools import chain

import pytest

from hetsyn_model.run_folder import RunError
from research.catalog import EXPERIMENTS, smoke
from research.runs.plan import BASE, NEURONS, PAPER, SEARCH_SEED, Cell, ChosenSettings, cells
from research.runs.planned import final_runs, run_count, search_runs, searches
from research.runs.run import RunSpec
from research.runs.runner import Selection

BEST = ChosenSettings(1e-3, 10.0)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_model_gets_the_same_search_or_every_condition_has_settings(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    if not experiment.search.learning_rates:
        assert run_count(experiment)[0] == 0
        assert all(condition.settings is not None for condition in experiment.conditions)
        return
    candidates = {
        (cell, search.condition): search_runs(experiment, cell, search.condition)
        for cell in cells(experiment)
        for search in searches(experiment, cell)
    }
    assert {cell.model for cell, _ in candidates} >= set(NEURONS)
    assert len({len(runs) for runs in candidates.values()}) == 1
    assert len({run.training for runs in candidates.values() for run in runs}) == 1
    assert all({run.seed for run in runs} == set(experiment.search.seeds) for runs in candidates.values())
    assert experiment.search.seeds[0] == SEARCH_SEED


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_have_a_folder_each_and_seeds_that_the_search_did_not_see(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    runs = []
    for cell in cells(experiment):
        runs += final_runs(experiment, cell, {s.name: BEST for s in searches(experiment, cell)})
        for _, name, seed in searches(experiment, cell):
            runs += [run for run in search_runs(experiment, cell, name) if run.seed == seed]
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


@pytest.mark.parametrize("name", ["delayed-match", "equal-series"])
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
