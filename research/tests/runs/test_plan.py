"""The experiments as data: equal effort, and descriptions that survive a trip through JSON."""

from __future__ import annotations

import json
from itertools import chain

import pytest

from hetsyn_model.run_folder import RunError
from research.catalog import EXPERIMENTS, smoke
from research.runs.plan import NEURONS, PAPER, SEARCH_SEED, Cell, ChosenSettings, cells, search_runs
from research.runs.run import RunSpec
from research.runs.runner import Selection
from research.tests.made_up_results import final_runs, searches

BEST = ChosenSettings(1e-3, 10.0)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_model_gets_the_same_search_or_every_condition_has_settings(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    if not experiment.search.learning_rates:
        assert all(condition.settings is not None for condition in experiment.conditions)
        return
    candidates = {
        (cell, condition): search_runs(experiment, cell, condition)
        for cell in cells(experiment)
        for condition, _ in searches(experiment, cell).values()
    }
    assert {cell.model for cell, _ in candidates} >= set(NEURONS)
    assert len({len(runs) for runs in candidates.values()}) == 1
    assert len({run.training for runs in candidates.values() for run in runs}) == 1
    seeds = set(chain(*experiment.search.seeds))
    assert all({run.seed for run in runs} == seeds for runs in candidates.values())
    assert min(seeds) == SEARCH_SEED


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_have_a_folder_each_and_seeds_that_the_search_did_not_see(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    runs = []
    for cell in cells(experiment):
        runs += final_runs(experiment, cell, BEST)
        for name, seeds in searches(experiment, cell).values():
            runs += [run for run in search_runs(experiment, cell, name) if run.seed in seeds]
    assert len({run.name for run in runs}) == len(runs)
    for condition in experiment.conditions:
        assert 3 <= condition.seeds < SEARCH_SEED


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_description_survives_json(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    cell = cells(experiment)[0]
    run = final_runs(experiment, cell, BEST)[0]
    assert RunSpec.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def test_what_is_no_description_is_refused() -> None:
    with pytest.raises(RunError, match="not the description"):
        RunSpec.from_dict({"task": "juggling"})


def test_the_smoke_version_has_one_run_a_model() -> None:
    for make in EXPERIMENTS.values():
        small = smoke(make())
        assert len(small.conditions) == 1
        assert len({cell.recurrent for cell in cells(small)}) == 1


def test_seeds_beyond_the_plan_are_run_where_no_search_chose_the_settings() -> None:
    experiment = EXPERIMENTS["pattern-generation"]()
    paper, base = experiment.condition(PAPER), experiment.condition("base")
    assert Selection(seeds=(3, 84)).seeds_of(paper) == [3, 84]
    assert Selection(seeds=(3, 84)).seeds_of(base) == [3]
    assert Selection().seeds_of(paper) == list(range(20))
    assert Selection(seeds=(84,)).missing(experiment) == ""
    assert "the seed 84: choose one of 0 to 4" in Selection(seeds=(84,), conditions=("base",)).missing(experiment)
    everyone = Selection(models=("hetsyn",), recurrent=True)
    assert everyone.has(paper, Cell("hetsyn", True))
    assert not everyone.has(paper, Cell("hetsyn", False))
