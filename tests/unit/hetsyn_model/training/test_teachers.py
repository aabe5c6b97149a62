"""Teachers that hear the same recordings through an encoder of their own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hetsyn_model import Network
from hetsyn_model.spec import ERROR_BOUND
from hetsyn_model.training import fit
from hetsyn_model.training.checkpoint import Checkpoint, CheckpointFileError
from hetsyn_model.training.config import TrainSpec
from hetsyn_model.training.data import Recording
from hetsyn_model.training.front import AudioFront
from hetsyn_model.training.labelled import LabelledData, LabelledSplit, RunOptions, accuracy, classify, train_labelled
from hetsyn_model.training.teacher import Teacher
from tests.support.data import series_arrays, tone_folder
from tests.support.words import AUGMENT, ENCODER, NETWORK, TRAIN, words

FRONT = AudioFront(ENCODER, AUGMENT)
OTHER = AudioFront(replace(ENCODER, contrast=0.5, emphasis_db_per_octave=3.0), AUGMENT)
FEWER = AudioFront(replace(ENCODER, levels=3, spacing_db=8.0), AUGMENT)
EPOCH: dict[str, Any] = {"network": {"hidden": [8]}, "training": {"epochs": 1, "batch": 8, "average": 0.8}}


def contrast_of(value: float) -> dict[str, Any]:
    return EPOCH | {"encoder": {"audio": {"contrast": value}}}


def trained(
    front: AudioFront, items: list[Recording], how: TrainSpec, teachers: Sequence[Teacher[Recording]] = ()
) -> Network:
    """A network on a front's spikes, of the best epoch."""
    spec, data = replace(NETWORK, channels=front.channels), LabelledSplit(items, [], words(15, 2))
    with tempfile.TemporaryDirectory() as folder:
        train_labelled(Path(folder), spec, front, how, data, RunOptions(seed=1, teachers=teachers))
        return Checkpoint.load(Path(folder) / "best.pt").network


def test_teachers_are_asked_with_what_they_hear() -> None:
    short, split = replace(TRAIN, epochs=1), LabelledSplit(words(9, 1), [], words(9, 2))
    contrasted = AudioFront(replace(ENCODER, contrast=0.5), AUGMENT)  # of as many channels as the student's
    fronts = (contrasted, None, OTHER)
    known = [Teacher(trained(front or FRONT, words(18, 0), short), front) for front in fronts]
    data = LabelledData(FRONT, TRAIN, split, teachers=known)
    for batch in data.batches(0, data.updates_per_epoch):
        heard = (batch.views[0], batch, batch.views[1])
        each = [
            torch.softmax(teacher.network.rollout(by.events, "bank", by.steps).readout, -1)
            for teacher, by in zip(known, heard, strict=True)
        ]
        assert torch.allclose(data._teach(batch), torch.stack(each).mean(0), atol=1e-6)


@pytest.mark.process
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("front", [OTHER, FEWER], ids=["contrast", "levels"])
def test_a_student_learns_from_a_teacher_with_another_encoder(front: AudioFront, tied: bool) -> None:
    settings = replace(TRAIN, tied=tied, distillation=1.0, epochs=12)
    teacher = trained(front, words(48, 0), settings)
    wrong = [replace(word, label=(word.label + 1) % NETWORK.outputs) for word in words(48, 0)]
    student = trained(FRONT, wrong, settings, [Teacher(teacher, front)])
    labels, _ = classify(student, FRONT, words(15, 2), TRAIN.tail_steps)
    assert accuracy(labels, words(15, 2)) > 0.8


def test_a_run_is_a_teacher_for_another_contrast_and_levels(tmp_path: Path) -> None:
    data = tone_folder(tmp_path / "data", 6)
    fit(data, config=contrast_of(0.5), out=tmp_path / "teacher")
    best = tmp_path / "teacher/best.pt"
    runs = []
    for name, config in (("same", contrast_of(0.5)), ("other", contrast_of(0.0))):
        fitted = fit(data, config=config, seed=1, teachers=[best], out=tmp_path / name)
        assert fitted.network.spec == Checkpoint.load(best).network.spec
        runs.append(json.loads((tmp_path / name / "run.json").read_text())["teachers"])
    assert runs[0] != runs[1]  # an encoder of its own is a part of what a student learned from
    fewer = EPOCH | {"encoder": {"audio": {"levels": 6, "contrast": 0.25}}}
    fit(data, config=fewer, teachers=[best], out=tmp_path / "levels")


def test_a_teacher_answers_through_a_bank_as_good_as_an_exported_one() -> None:
    short, split = replace(TRAIN, epochs=1), LabelledSplit(words(9, 1), [], words(9, 2))
    teacher: Teacher[Recording] = Teacher(trained(FRONT, words(18, 0), short))
    (heard,) = LabelledData(FRONT, replace(TRAIN, bank_size=1), split, teachers=[teacher]).teachers
    assert max(heard.network.kernel_errors().values()) <= ERROR_BOUND


@pytest.mark.parametrize(
    "encoder", [{"bands": 20}, {"high_hz": 3000.0}, {"step_samples": 120}, {"window_samples": 240}]
)
def test_a_teacher_needs_the_frames_of_its_student(encoder: dict[str, Any], tmp_path: Path) -> None:
    data = tone_folder(tmp_path / "data", 6)
    fit(data, config=EPOCH | {"encoder": {"audio": encoder}}, out=tmp_path / "teacher")
    with pytest.raises(CheckpointFileError, match="has other frames than its student's, so it cannot"):
        fit(data, config=EPOCH, teachers=[tmp_path / "teacher/best.pt"])


def test_an_untied_network_cannot_teach_a_tied_one(tmp_path: Path) -> None:
    data = tone_folder(tmp_path / "data", 6)
    tied, untied = (EPOCH | {"training": EPOCH["training"] | {"tied": is_tied}} for is_tied in (True, False))
    fit(data, config=untied, out=tmp_path / "untied")
    fit(data, config=tied, out=tmp_path / "tied")
    with pytest.raises(CheckpointFileError, match=r"was trained with training\.tied = false, so it cannot teach"):
        fit(data, config=tied, seed=1, teachers=[tmp_path / "untied/best.pt"])
    fit(data, config=untied, seed=1, teachers=[tmp_path / "tied/best.pt"])  # the file has the network on spikes


def test_other_levels_of_values_cannot_teach(tmp_path: Path) -> None:
    series, labels = series_arrays(36)
    values = EPOCH | {"encoder": {"values": {"levels": 4}}}
    fit(series, labels, config=values, out=tmp_path / "teacher")
    with pytest.raises(CheckpointFileError, match="its encoder has other settings than its student's"):
        fit(series, labels, config=EPOCH, teachers=[tmp_path / "teacher/best.pt"])
