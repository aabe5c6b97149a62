"""The watch's motion: nobody who judges is heard before, and every model gets the same streams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hetsyn_model.training.config import load_config
from hetsyn_model.training.datasets.read_arrays import read_arrays
from hetsyn_model.training.prepared import prepare
from research.catalog import EXPERIMENTS
from research.runs.plan import NEURONS, ChosenSettings, cells, final_run
from research.tasks.motion import PEOPLE, Motion, MotionSpec, division
from research.tasks.neurons import build_network, network_spec
from research.tasks.smartwatch import CHANNELS, EXERCISES, FILE, STEP_S, main, read_watch, windows
from research.tasks.task import MissingData
from research.tests.made_up_results import searches
from research.tests.watch_file import write_watch

SPEC = MotionSpec(hidden=(6,), levels=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_watch(tmp_path_factory.mktemp("watch"))


def test_recordings_have_a_person_an_exercise_and_an_arm(folder: Path) -> None:
    recordings = read_watch(folder)
    keys = {(r.person, r.exercise, r.arm) for r in recordings}
    assert len(keys) == len(recordings) == 140
    assert {r.values.shape[1] for r in recordings} == {len(CHANNELS)}
    assert all(len(part.values) == 100 for part in windows(recordings, 100))
    assert len(windows(recordings[:1], 100)) == len(recordings[0].values) // 100


def test_another_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for content in (np.arange(3), np.array({"X": []}, dtype=object)):
        np.save(tmp_path / FILE, content, allow_pickle=True)
        read_watch.cache_clear()
        with pytest.raises(MissingData, match="give --data with the folder of"):
            read_watch(tmp_path)
    with pytest.raises(MissingData, match="give --data"):
        read_watch(tmp_path / "nowhere")


@pytest.mark.parametrize("seed", range(PEOPLE))
def test_nobody_who_judges_is_heard_in_training_or_in_the_search(seed: int) -> None:
    experiment = EXPERIMENTS["equal-motion"]()
    own = division(seed)
    assert sorted((*own.train, *own.validation, *own.test)) == list(range(PEOPLE))
    cell = cells(experiment)[0]
    chosen = {name: ChosenSettings(1e-3, float(of[0])) for name, (_, of) in searches(experiment, cell).items()}
    run = final_run(experiment, experiment.conditions[0], cell, seed, chosen)
    searched = division(int(run.tau_steps))  # the seed of the search whose settings the run takes
    assert not set(own.test) & {*searched.train, *searched.validation}
    assert not set(searched.train) & set(searched.validation)
    assert not searched.test


def test_the_levels_come_from_the_training_people_alone(folder: Path, tmp_path: Path) -> None:
    task = Motion(SPEC, folder, seed=3)
    saved = np.load(folder / FILE, allow_pickle=True).item()
    others = {index + 1 for index in (*division(3).test, *division(3).validation)}
    saved["X"] = [100 * x if person in others else x for x, person in zip(saved["X"], saved["subject"], strict=True)]
    np.save(tmp_path / FILE, np.array(saved, dtype=object), allow_pickle=True)
    assert Motion(SPEC, tmp_path, seed=3).encoder == task.encoder
    assert Motion(SPEC, tmp_path, seed=0).encoder != Motion(SPEC, folder, seed=0).encoder


def test_a_training_batch_depends_on_its_arguments_alone(folder: Path) -> None:
    a, b = (Motion(SPEC, folder, seed=2).training_batch(6, 2, 5) for _ in range(2))
    assert torch.equal(a.events.dense(), b.events.dense())
    assert not torch.equal(a.steps, Motion(SPEC, folder, seed=2).training_batch(6, 2, 6).steps)


def test_the_reset_is_the_same_in_all_models() -> None:
    shape = Motion().shape
    for model in NEURONS:
        spec = network_spec(shape, model, recurrent=True, tau_steps=50.0)
        network = build_network(shape, spec, tau_steps=50.0, seed=0)
        kappas = network.named_layers()["hidden1"].kappas()
        assert kappas is not None
        assert torch.allclose(kappas, torch.exp(torch.tensor(-1.0 / shape.tau_reset_steps)))


def test_the_windows_are_what_hetsyn_train_reads(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "watch.npz"
    monkeypatch.setattr("sys.argv", ["watch", str(out), "--data", str(folder)])
    main()
    config = load_config("motion")
    examples = read_arrays(out, config)
    assert examples.labels == EXERCISES
    assert examples.channels == len(CHANNELS)
    assert {item.group for item in examples.items} == {f"person-{n:02d}" for n in range(1, 11)}
    assert {item.length for item in examples.items} == {150}
    prepared = prepare(examples, config, leave_out=["person-03"])
    assert prepared.by == "group"
    assert {item.group for item in prepared.test} == {"person-03"}
    assert prepared.spec.decision.skip_steps == round(MotionSpec().skip_s / STEP_S)


def test_a_recording_is_written_without_loss(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "abduction.csv"
    monkeypatch.setattr("sys.argv", ["watch", str(out), "--data", str(folder)])
    main()
    (recording,) = [r for r in read_watch(folder) if (r.person, r.exercise, r.arm) == (1, 1, "right")]
    assert out.read_text().splitlines()[0] == ",".join(CHANNELS)
    assert (np.loadtxt(out, delimiter=",", skiprows=1).astype(np.float32) == recording.values).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["watch.txt"], "end it in .npz for windows to train on, or in .csv"),
        (["one.csv", "--data", "nowhere"], "give --data with the folder of"),
    ],
)
def test_what_cannot_be_written_is_said(
    arguments: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["watch", "--data", str(folder), *arguments])
    with pytest.raises(SystemExit):
        main()
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
