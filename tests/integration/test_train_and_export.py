"""``hetsyn train`` and ``hetsyn export`` as a user runs them, on a small folder of made-up words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.contract.artifact import Artifact
from tests.support.words import write_words


def hetsyn(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hetsyn", *arguments],
        env=os.environ | {"COLUMNS": "200"},  # tables are not broken
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("data") / "words", ("anna", "bert"))


@pytest.fixture(scope="module")
def run(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    voices = write_words(tmp_path_factory.mktemp("data") / "voices", ("robot",))
    hetsyn("train", "speech-digits", "--data", str(words), "--voices", str(voices), "--out", str(out), "--epochs", "1")
    return out


def test_training_leaves_network_metrics_and_curves(run: Path) -> None:
    assert len(json.loads((run / "metrics.json").read_text())["loss"]) == 1
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "best.pt").exists()


def test_the_network_becomes_an_artifact(run: Path, words: Path, tmp_path: Path) -> None:
    out = tmp_path / "digits/1"
    printed = hetsyn("export", str(run / "best.pt"), "--out", str(out), "--data", str(words))
    stages = ["fit the bank", "verify the encoder", "verify the exact form", "verify the bank form", f"write {out}"]
    assert printed.startswith(" ".join(stages))
    assert "state bytes" in printed
    manifest = Artifact.open(out).manifest
    assert manifest.labels[7] == "seven"
    assert manifest.forms["bank"].accuracy is not None
    described = json.loads(hetsyn("inspect", str(out), "--json"))
    assert described["forms"]["bank"]["state_bytes"] * 10 < described["forms"]["exact"]["state_bytes"]
    again = hetsyn("export", str(run / "best.pt"), "--out", str(out), code=2)
    assert "never overwritten" in again
    assert "no --data: the artifact gets no accuracy" in again
    assert "no --data" not in printed


def test_another_number_of_epochs_is_named(run: Path, words: Path) -> None:
    printed = hetsyn("train", "speech-digits", "--data", str(words), "--out", str(run), "--epochs", "2", code=2)
    assert "contains a run with another" in printed
    assert "train.epochs (1 there, 2 now)" in printed
    assert "choose another --out, or delete the folder" in printed


def test_leaving_a_speaker_out_reports_on_them(words: Path, tmp_path: Path) -> None:
    arguments = ("train", "speech-digits", "--data", str(words), "--out", str(tmp_path), "--epochs", "1")
    assert "anna" in hetsyn(*arguments, "--leave-out", "anna")
    figures = json.loads((tmp_path / "leave-one-out.json").read_text())
    assert [figure["speaker"] for figure in figures["speakers"]] == ["anna"]
    assert figures["speakers"][0]["recordings"] == 20
    student = (*arguments[:-3], str(tmp_path / "student"), *arguments[-2:], "--seed", "1", "--leave-out", "anna")
    assert "anna" in hetsyn(*student, "--teacher", str(tmp_path))
    assert "without-bert/best.pt: the checkpoint cannot be read" in hetsyn(
        *student[:-1], "bert", "--teacher", str(tmp_path), code=2
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "speech-digits", "--data", "nowhere"), "nowhere: no such folder"),
        (("export", "nowhere.pt", "--out", "x/1"), "nowhere.pt: cannot be read"),
        (("export", __file__, "--out", "x/1"), "not a file of torch.save"),
    ],
)
def test_errors_name_their_cause(arguments: tuple[str, ...], message: str) -> None:
    assert message in hetsyn(*arguments, code=2)


def test_an_unknown_speaker_is_named(words: Path) -> None:
    printed = hetsyn("train", "speech-digits", "--data", str(words), "--leave-out", "carl", code=2)
    assert "'carl' is not in" in printed
    assert "anna, bert" in printed
