"""Twenty digits in spikes: which files are taken, how speakers are left out, and the paper's settings."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from hetsyn_model.network import Network
from hetsyn_model.rollout import Rollout
from hetsyn_model.training.batch import Batch
from research.catalog import EXPERIMENTS, smoke
from research.commands import by_epoch
from research.runs.plan import NEURONS, PAPER, WHOLE, Cell, Experiment, final_run
from research.runs.results import RESULTS, read_file
from research.runs.run import RunSpec, build, open_task
from research.runs.runner import Selection, run_experiment
from research.tasks.shd import Shd, ShdSpec
from research.tasks.task import MissingData
from research.worth.measures import MEASURES

SPEAKERS = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every speaker of a file says every class once; a class has a unit of its own, a speaker a time."""
    for name, speakers in (("shd_train.h5", range(SPEAKERS)), ("shd_test.h5", range(SPEAKERS, SPEAKERS + 2))):
        said = [(label, speaker) for speaker in speakers for label in range(20)]
        with h5py.File(tmp_path / name, "w") as file:
            times = file.create_dataset("spikes/times", (len(said),), dtype=h5py.vlen_dtype(np.float16))
            units = file.create_dataset("spikes/units", (len(said),), dtype=h5py.vlen_dtype(np.uint16))
            for index, (label, speaker) in enumerate(said):
                times[index] = np.array([0.002 + 0.004 * speaker, 0.1], np.float16)
                units[index] = np.array([1 + label, 699], np.uint16)
            file["labels"] = [label for label, _ in said]
            file["extra/speaker"] = [speaker for _, speaker in said]
    return tmp_path


def test_the_seed_chooses_speakers_that_validate_and_no_others_do(folder: Path) -> None:
    left_out = []
    for seed in range(6):
        train, validation = Shd(ShdSpec(), folder, seed).split()
        trained, judged = ({int(r.group) for r in part} for part in (train, validation))
        assert trained | judged == set(range(SPEAKERS))
        assert not trained & judged
        left_out.append(judged)
    assert left_out == [{0, 6}, {1, 7}, {2}, {3}, {4}, {5}]


def test_batches_have_shds_shape(folder: Path) -> None:
    task = Shd(ShdSpec(), folder)
    batch = task.training_batch(16, 0, 3)
    assert batch.dense().shape == (16, 250, 700)
    assert batch.steps.tolist() == [250] * 16
    again = task.training_batch(16, 0, 3)
    assert torch.equal(batch.target, again.target)
    assert torch.equal(batch.events.units, again.events.units)
    assert sum(len(each.steps) for each in task.test()) == 40
    for stream, label in zip(batch.dense(), batch.target.tolist(), strict=True):
        assert stream[:, 700 - 1 - label].any()


def test_missing_files_are_reported_with_where_they_are(folder: Path) -> None:
    with pytest.raises(MissingData, match=r"give --data .*; https://zenkelab\.org has them$"):
        Shd().test()
    (folder / "shd_test.h5").unlink()
    with pytest.raises(MissingData, match=r"there is no file .*shd_test\.h5; https://zenkelab\.org has them$"):
        Shd(folder=folder).test()
    (folder / "shd_test.h5").write_bytes(b"no")
    with pytest.raises(MissingData, match="not an SHD file"):
        Shd(folder=folder).test()


def test_the_smoke_version_needs_no_files() -> None:
    spec = smoke(EXPERIMENTS["shd-recorded"]()).conditions[0].task_spec
    assert isinstance(spec, ShdSpec)
    assert spec.data_set == "drawn"
    task = Shd(spec)
    assert {r.group for r in task.read("shd_test.h5")}.isdisjoint(r.group for r in task.read("shd_train.h5"))
    assert len(task.test()[0].steps) == 40


def test_the_smoke_version_reads_the_files_that_are_given(folder: Path) -> None:
    spec = smoke(EXPERIMENTS["shd-recorded"](), has_data=True).conditions[0].task_spec
    assert isinstance(spec, ShdSpec)
    assert spec.data_set == "recorded"
    assert len(Shd(spec, folder).test()) > 0
    with pytest.raises(MissingData, match="no file"):
        Shd(spec, folder / "nothing").test()


def paper_run(condition: str, model: str, seed: int = 0) -> RunSpec:
    experiment = EXPERIMENTS["shd-recorded"]()
    cell = Cell(model, True)  # type: ignore[arg-type]
    return final_run(experiment, experiment.condition(condition), cell, seed, {})


def test_the_papers_settings_are_the_papers() -> None:
    for condition in (PAPER, WHOLE):
        runs = {model: paper_run(condition, model) for model in NEURONS}
        assert {run.learning_rate for run in runs.values()} == {2e-3}
        assert [runs[model].tau_steps for model in NEURONS] == [12.5, 12.5, 20.0, 20.0]
        assert len({run.training for run in runs.values()}) == 1
        training = runs["hetsyn"].training
        assert (training.weight_decay, training.decay_weight_decay, training.decay_rate_factor) == (4e-3, 4e-3, 2.0)
        assert training.clip is None
        assert training.bank_size >= 12
        per_epoch = math.ceil(8156 / 32)
        assert (training.updates, training.cosine_updates, training.evaluate_every) == (
            *(100 * per_epoch, 40 * per_epoch, per_epoch),
        )
        shape = open_task(runs["hetsyn"]).shape
        assert (shape.hidden, shape.dropout, shape.tau_reset_steps) == ((128, 64), 0.2, 20.0)


@pytest.mark.parametrize("model", NEURONS)
def test_the_papers_initial_values(model: str) -> None:
    run = paper_run(PAPER, model)
    network = build(run, open_task(run))
    assert isinstance(network, Network)
    for layer in network.named_layers().values():
        for weight in (layer.w_in, layer.w_rec):
            if weight is not None:
                assert float(weight.detach().std() * math.sqrt(weight.shape[1])) == pytest.approx(1.0, abs=0.05)
        tau = -1.0 / layer.r_in.detach().double().log()
        if model in ("hetsyn", "hetneu"):
            assert 5.0 - 1e-3 <= float(tau.min()) <= float(tau.max()) <= 20.0 + 1e-3
            assert float(tau.mean()) == pytest.approx(12.5, abs=2.0)
        else:
            assert torch.allclose(tau, torch.full_like(tau, 20.0), rtol=1e-5)


def test_the_papers_loss_is_on_the_sum_of_softmax() -> None:
    batch = Batch.of(np.zeros((2, 20, 700), bool), torch.tensor([3, 4]))
    run = paper_run(PAPER, "homneu")
    task = open_task(run)
    network = build(run, task)
    assert isinstance(network, Network)
    rolled: Rollout = network.rollout(batch.events, "exact", batch.steps)
    summed = torch.softmax(rolled.readout[:, 11:], -1).sum(1)
    assert torch.allclose(task.loss(rolled, batch), torch.nn.functional.cross_entropy(summed, batch.target))


def test_runs_of_before_have_the_description_that_they_had() -> None:
    for result in (*read_file(RESULTS / "shd.json.gz"), *read_file(RESULTS / "delayed-match.json.gz")):
        assert RunSpec.from_dict(result.run).to_dict() == result.run
    for condition in (PAPER, WHOLE):
        run = paper_run(condition, "hetsyn")
        assert RunSpec.from_dict(json.loads(json.dumps(run.to_dict()))) == run


def toy(condition: str) -> Experiment:
    """The plan of a condition at a size for seconds, on spikes at random."""
    experiment = EXPERIMENTS["shd-recorded"]()
    planned = experiment.condition(condition)
    assert isinstance(planned.task_spec, ShdSpec)
    spec = replace(planned.task_spec, data_set="drawn", hidden=(6, 5))
    whole = planned.training or experiment.training
    training = replace(whole, updates=10, evaluate_every=2, batch=8, cosine_updates=4)
    small = replace(planned, task_spec=spec, training=training, seeds=1, models=("hetsyn",))
    return replace(experiment, conditions=(small,))


@pytest.mark.parametrize("condition", [PAPER, WHOLE])
def test_each_epoch_is_tested_and_the_test_chooses_nothing(tmp_path: Path, condition: str) -> None:
    (result,) = run_experiment(toy(condition), tmp_path, tmp_path / "results.json.gz", Selection())
    by_epoch = result.analysis["test_by_epoch"]
    assert [update for update, _ in by_epoch] == [2, 4, 6, 8, 10]
    figures = {int(update): figure for update, figure in by_epoch}
    assert result.figure == pytest.approx(figures[result.chosen_update], abs=1e-4)
    assert 0.0 <= result.exact["figure"] <= 1.0
    validation = {int(update): figure for update, _, figure in result.curve}
    if condition == WHOLE:
        assert result.chosen_update == 10
    else:
        assert validation[result.chosen_update] == max(validation.values())
        assert "time_constants" in result.analysis


def test_the_figures_by_epoch_tell_what_was_chosen_by_what() -> None:
    result = replace(
        read_file(RESULTS / "shd.json.gz")[0],
        run=paper_run(WHOLE, "hetsyn").to_dict(),
        figure=0.8,
        analysis={"test_by_epoch": [[255 * n, 0.5 + 0.03 * (n % 9)] for n in range(1, 11)]},
    )
    late = 0.5 + 0.03 * (5 + 6 + 7 + 8 + 0 + 1) / 6
    assert MEASURES["best by test"].of(vars(result)) == pytest.approx(0.74)
    assert MEASURES["late mean"].of(vars(result)) == pytest.approx(late)
    assert by_epoch(result) == (
        f"tested at each epoch: best 74.00% (chosen by the test), mean of the last 60% {late:.2%}, last 53.00%; "
        "kept 80.00%"
    )
    assert by_epoch(replace(result, analysis={})) == ""


def test_the_whole_file_trains_on_every_speaker(folder: Path) -> None:
    train, validation = Shd(ShdSpec(whole_file=True), folder).split()
    assert len(train) == 20 * SPEAKERS
    assert {int(recording.group) for recording in train} == set(range(SPEAKERS))
    assert len(validation) == 2 * SPEAKERS
