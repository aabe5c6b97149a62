"""The order of an experiment's runs, and which results count as a run's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hetsyn_model.run_folder import RunError
from research.catalog import EXPERIMENTS
from research.runs import runner
from research.runs.plan import PAPER, SEARCH_SEED, Cell, search_runs
from research.runs.results import RunResult, add_to_file, read_file
from research.runs.run import RunSpec
from research.runs.runner import Selection, chosen_by_search, run_experiment
from research.tests.made_up_results import made_up


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """The runs in the order in which they would be trained."""
    runs: list[RunSpec] = []
    (result, *_) = made_up("hetsyn", 0.9)

    def finish(run: RunSpec, *_: Any, **__: Any) -> RunResult:
        runs.append(run)
        return replace(result, run=run.to_dict())

    monkeypatch.setattr(runner, "finish", finish)
    return runs


def test_every_condition_has_ten_seeds_before_any_has_more(order: list[RunSpec], tmp_path: Path) -> None:
    experiment = EXPERIMENTS["delayed-match"]()
    run_experiment(experiment, tmp_path, tmp_path / "results.json.gz", Selection(("hetsyn",), recurrent=True))
    final = [run for run in order if not run.searching]
    assert len(final) == sum(condition.seeds for condition in experiment.conditions)
    first = [run for run in final if run.seed < 10]
    assert final[: len(first)] == first
    assert {run.condition for run in first} == {condition.name for condition in experiment.conditions}
    assert [run.seed // 10 for run in final] == sorted(run.seed // 10 for run in final)


def test_a_condition_is_searched_when_its_turn_comes(order: list[RunSpec], tmp_path: Path) -> None:
    experiment = EXPERIMENTS["delayed-match"]()
    chosen = Selection(("hetsyn",), recurrent=True, seeds=(0,))
    run_experiment(experiment, tmp_path, tmp_path / "results.json.gz", chosen)
    names = [run.condition for run in order]
    assert names.index(f"{PAPER}-hidden-5") < names.index("search")
    assert names.index("search") + 6 == names.index("base")


@pytest.mark.parametrize(("metric", "chosen"), [("mse", 2e-3), ("accuracy", 5e-3)])
def test_a_search_of_three_seeds_takes_the_best_mean(metric: str, chosen: float) -> None:
    """Errors have a geometric mean: 2e-3 fails on one trace of three, is far better on the others, and is taken."""
    experiment = EXPERIMENTS["equal-trace"]()
    (result, *_) = made_up("hetsyn", 0.9)
    figures = {2e-3: (0.01, 0.01, 0.8), 5e-3: (0.1, 0.1, 0.7)}
    cell = Cell("hetsyn", True)
    searched = [
        replace(result, run=run.to_dict(), metric=metric, validation=figures[run.learning_rate][run.seed - SEARCH_SEED])
        for run in search_runs(experiment, cell, "hetsyn-whole")
    ]
    assert len(searched) == 18
    (seeds,) = experiment.search.seeds
    assert chosen_by_search(searched, cell, "hetsyn-whole", seeds).learning_rate == chosen


def test_a_result_counts_for_settings_that_are_younger_than_it() -> None:
    (result, *_) = made_up("hetsyn", 0.9)
    run = RunSpec.from_dict(result.run)
    assert result.is_of(run)
    old = {key: value for key, value in result.run["training"].items() if key != "whole_range_banks"}
    without = replace(result, run=result.run | {"training": old})
    assert without.is_of(replace(run, training=replace(run.training, whole_range_banks=False)))
    assert not without.is_of(run)
    assert not replace(result, run=result.run | {"task_spec": {"gone": 1}}).is_of(run)


@pytest.mark.parametrize("content", [b"[", b'{"run": 1}', b"[1]", b'[{"a": 1}]', b"\xff"])
def test_damaged_results_are_one_sentence_and_stay_as_they_are(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "delayed-match.json.gz"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"match.json.gz: not a list of results .*: take the file of an earlier commit"):
        read_file(path)
    with pytest.raises(RunError, match="not a list of results"):
        add_to_file(made_up("hetsyn", 0.9), path)
    assert path.read_bytes() == content
