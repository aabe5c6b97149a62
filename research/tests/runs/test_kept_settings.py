"""The kept results fit together: what was trained has the settings that the kept search chooses."""

from __future__ import annotations

import pytest

from research.catalog import EXPERIMENTS
from research.runs.plan import ChosenSettings, cells, searched_as
from research.runs.results import RESULTS, TABLE, RunResult, read_file
from research.runs.runner import chosen_by_search
from research.tests.made_up_results import searches


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_final_runs_have_the_settings_that_the_search_chose(name: str) -> None:
    experiment = EXPERIMENTS[name]()
    kept = read_file(RESULTS / f"{name}{TABLE}")
    searched = [result for result in kept if "search" in result.run["condition"]]
    for cell in cells(experiment):
        for name_of_search, (condition_searched, seeds) in searches(experiment, cell).items():
            finals = [
                result
                for condition in experiment.conditions
                if condition.searched_on == condition_searched
                for result in kept
                if (result.run["condition"], *result.key[2:4]) == (condition.name, cell.model, cell.recurrent)
                and searched_as(experiment, condition_searched, result.run["seed"]) == name_of_search
            ]
            if finals:
                best = chosen_by_search(searched, cell, condition_searched, seeds)
                assert {_settings(result) for result in finals} == {best}, (cell, name_of_search)


def _settings(result: RunResult) -> ChosenSettings:
    return ChosenSettings(result.run["learning_rate"], result.run["tau_steps"])
