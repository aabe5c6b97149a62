"""``python -m research``: smoke versions of all experiments, going on after a kill, and the artifacts made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.commands import export
from hetsyn_model.network import Network
from hetsyn_model.run_folder import RunError
from hetsyn_model.training.checkpoint import Checkpoint
from hetsyn_model.training.history import History
from research.catalog import EXPERIMENTS, smoke
from research.commands import experiment as command
from research.runs.plan import BASE, PAPER, ChosenSettings
from research.runs.results import TABLE, read_file
from research.runs.run import RunSpec, Training, build, open_task
from research.runs.runner import Selection, run_experiment
from research.runs.train import load_best, masks, train
from research.tasks import mnist1d
from research.tasks.delayed_match import DelayedMatchSpec
from research.tests.watch_file import write_watch
from service.contract.artifact import Artifact

STREAMS = ("equal-motion", "equal-series")  # of values

RUN = RunSpec(
    experiment="delayed-match",
    condition="base",
    task="delayed-match",
    task_spec=DelayedMatchSpec(hidden=(8,), delay_ms=100, validation_trials=16, test_trials=16),
    model="hetsyn",
    recurrent=True,
    seed=0,
    learning_rate=5e-3,
    tau_steps=8.0,
    training=Training(updates=6, batch=4, schedule="step", evaluate_every=2, bank_size=4),
    masked_share=0.5,
)


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few ramps instead of MNIST-1D, whose package need not be installed."""
    labels = np.arange(600) % 10
    ramps = (np.linspace(-1, 1, 40) * (labels[:, None] - 4.5)).astype(np.float32)[..., None]
    monkeypatch.setattr(mnist1d, "make_series", lambda: mnist1d.SeriesSet((ramps, labels), (ramps[:20], labels[:20])))


class Killed(Exception):
    pass


def _values(history: History) -> dict[str, object]:
    return {name: value for name, value in vars(history).items() if not name.endswith("seconds")}


class Trained(NamedTuple):
    """A run that was trained to its end."""

    folder: Path
    history: History


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return Trained(folder, train(RUN, open_task(RUN), folder))


@pytest.mark.parametrize("kill_at", [2, 4])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not(whole: Trained, tmp_path: Path, kill_at: int) -> None:
    task = open_task(RUN)

    def kill(_: RunSpec, history: History) -> None:
        if history.update[-1] == kill_at:
            raise Killed

    with pytest.raises(Killed):
        train(RUN, task, tmp_path / "killed", kill)
    resumed = train(RUN, task, tmp_path / "killed")
    assert _values(resumed) == _values(whole.history)
    a, b = (load_best(RUN, task, folder) for folder in (whole.folder, tmp_path / "killed"))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_masked_time_constants_stay_and_others_move(whole: Trained) -> None:
    task = open_task(RUN)
    before, after = build(RUN, task), load_best(RUN, task, whole.folder)
    assert isinstance(before, Network)
    assert isinstance(after, Network)
    frozen = masks(RUN, before)
    assert frozen.keys() == before.decays().keys()
    for name, mask in frozen.items():
        start, end = before.decays()[name], after.decays()[name]
        assert torch.equal(start[mask], end[mask])
        assert not torch.equal(start[~mask], end[~mask])


def test_a_folder_of_another_run_is_refused(whole: Trained) -> None:
    with pytest.raises(RunError, match="differs in learning_rate"):
        train(replace(RUN, learning_rate=1e-3), open_task(RUN), whole.folder)


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.usefixtures("series")
def test_the_smoke_version_of_every_experiment(name: str, tmp_path: Path) -> None:
    data = None
    if name == "equal-motion":
        data = write_watch(tmp_path / "watch", steps=120)
    # all models once, else two: what differs between models does not depend on the task
    planned = smoke(EXPERIMENTS[name]())
    is_equal = name.startswith("equal-")  # whose first condition is of one model
    models = None if name == "delayed-match" else ("hetsyn",) if is_equal else ("hetsyn", "alif")
    results_file = tmp_path / "results" / f"{name}{TABLE}"
    results = run_experiment(planned, tmp_path, results_file, Selection(models), data)
    assert {result.run["model"] for result in results} == set(models or ("hetsyn", "hetneu", "alif", "homneu"))
    for result in results:
        assert np.isfinite(result.figure)
        assert result.curve
    first = next(result for result in results if result.run["model"] == "hetsyn")
    assert first.exact.get("streams", 0) > 0 or "exact" in first.analysis["forms"]
    if planned.task == "shd":
        assert {"deletion", "warp", "time_constants"} <= set(first.analysis)
    again = run_experiment(planned, tmp_path, results_file, Selection(models), data)
    assert [result.seconds for result in again] == [result.seconds for result in results]  # nothing was done again
    runs_a_model = 1 + len(planned.search.learning_rates) * len(planned.search.seeds)  # the candidates, and one run
    assert len(read_file(results_file)) == runs_a_model * len(results)
    # nor on a machine that has only the kept results
    elsewhere = run_experiment(planned, tmp_path / "elsewhere", results_file, Selection(models), data)
    assert [result.figure for result in elsewhere] == [result.figure for result in results]
    assert not (tmp_path / "elsewhere").exists()

    out = tmp_path / "models" / name / "1"
    best = tmp_path / name / planned.conditions[0].name / "hetsyn-recurrent/seed-0/best.pt"
    done = CliRunner().invoke(export, [str(best), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    manifest = Artifact.open(out).manifest
    assert manifest.provenance["experiment"] == name
    assert (manifest.encoder is not None) == (name in STREAMS)
    rules = {"pattern-generation": "trace", "delayed-match": "last"}
    assert manifest.decision.rule == rules.get(planned.task, "sum_softmax")
    trained = Checkpoint.load(best).network
    assert manifest.network.bank_sizes == {layer: bank.size for layer, bank in trained.banks.items()}
    copied = Checkpoint.load(out / "network.pt")
    assert copied.experiment is not None
    assert copied.network.banks == trained.banks  # the bank that was trained and judged is the one that is served


def test_a_condition_with_settings_is_run_without_a_search(tmp_path: Path) -> None:
    planned = smoke(EXPERIMENTS["delayed-match"]())
    fixed = replace(planned.condition(BASE), name=PAPER, settings=ChosenSettings(1e-3, 8.0))
    planned = replace(planned, conditions=(*planned.conditions, fixed))
    results_file = tmp_path / "kept/delayed-match.json.gz"
    (results,) = run_experiment(planned, tmp_path, results_file, Selection(("hetsyn",), conditions=(PAPER,)))
    assert [results] == read_file(results_file)
    assert results.run["learning_rate"] == 1e-3


def test_the_command_runs_a_part_and_says_where_results_are(tmp_path: Path) -> None:
    arguments = ["delayed-match", "--smoke", "--model", "homneu", "--seed", "0", "--out", str(tmp_path)]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "base/homneu-recurrent/seed-0: accuracy" in done.output
    assert [r.run["model"] for r in read_file(tmp_path / "smoke/results/delayed-match.json.gz")] == ["homneu"] * 3
    assert "make report" not in done.output  # the report has no figures of smoke runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["juggling"], "is not an experiment"),
        (["pairs"], "'pairs' is over: research/results/ has its runs, commit 890ab00 its code"),
        (
            ["delayed-match", "--model", "perceptron"],
            "does not have this model or architecture: choose one of the models",
        ),
        (
            ["shd-recorded", "--condition", "paper-setings"],
            "does not have the condition 'paper-setings': choose one of paper-settings, paper-settings-whole-file",
        ),
        (
            ["equal-cue", "--smoke", "--condition", "other"],
            "equal-cue with --smoke does not have the condition 'other'",
        ),
        (["equal-motion", "--seed", "10"], "does not have the seed 10: choose one of 0 to 9"),
        (["shd-recorded", "--model", "hetsyn"], "https://zenkelab.org has them"),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [*arguments, "--out", str(tmp_path), "--results", str(tmp_path / "kept")])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
