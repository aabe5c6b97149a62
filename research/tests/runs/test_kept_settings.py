"""The kept results fit together: what was trained has the settings that the kept search chooses."""

from __future__ import annotations

import pytest

from research.catalog import EXPERIMENTS
from research.runs.plan import cells
from research.runs.planned import searched_as, searches
from research.runs.results import RESULTS, TABLE, RunResult, read_file
from research.runs.runner import chosen_by_search


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_final_runs_have_the_settings_that_the_search_chose(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    kept = read_file(RESULTS / f"{name}{TABLE}")
    searched = [result for result in kept if "search" in result.run["condition"]]
    for cell in cells(experiment):
        for search in searches(experiment, cell):
            finals = [
                result
                for condition in experiment.conditions
                if condition.searched_on == search.condition
                for result in kept
                if (result.run["condition"], *result.key[2:4]) == (condition.name, cell.model, cell.recurrent)
                and searched_as(experiment, search.condition, result.run["seed"]) == search.name
            ]
            if finals:
                best = chosen_by_search(searched, cell, search.condition, search.seed)[0]
                assert {_settings(result) for result in finals} == {_settings(best)}, (cell, search)


def _settings(result: RunResult) -> tuple[float, float]:
    return result.run["learning_rate"], result.run["tau_steps"]
