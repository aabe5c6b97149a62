"""``hetsyn train`` and ``hetsyn export`` as a user runs them, on a small folder of made-up words."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.own_network import export_network
from hetsyn import app
from hetsyn_model import DecisionSpec, Network, NetworkSpec
from service.contract.artifact import Artifact
from tests.support.data.data import CLASSES, QUICK, spike_arrays, tone_folder, write_series_csv, write_shd_form
from tests.support.data.wav import at_0_hz, wav
from tests.support.data.words import write_words
from tests.support.paths import ROOT
from tests.support.tools import NO_ESPEAK

pytestmark = pytest.mark.process

TESTED = r"test, \d+ examples: [\d.]+% in the bank form, [\d.]+% in the exact form"
DIGITS = ("--config", "speech-digits", "--threads", "1")


def hetsyn(*arguments: str, code: int = 0) -> str:
    """A command in this process: each import of torch takes seconds."""
    with contextlib.chdir(ROOT):
        done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})  # tables are not broken
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_words(tmp_path_factory.mktemp("data") / "words", ("anna", "bert"))


@pytest.fixture(scope="module")
def run(words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    voices = write_words(tmp_path_factory.mktemp("data") / "voices", ("robot",))
    arguments = ("train", str(words), *DIGITS, "--extra", str(voices), "--out", str(out), "--epochs", "1")
    subprocess.run([sys.executable, "-m", "hetsyn", *arguments], check=True, cwd=ROOT, timeout=300)
    return out


def test_training_leaves_network_metrics_and_curves(run: Path) -> None:
    assert len(json.loads((run / "metrics.json").read_text())["loss"]) == 1
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "best.pt").exists()
    assert "names" in (run / "config.toml").read_text()


def test_the_network_becomes_an_artifact(run: Path, words: Path, tmp_path: Path) -> None:
    out = tmp_path / "digits/1"
    printed = hetsyn("export", str(run / "best.pt"), "--out", str(out))
    compared = "compare the bank with the exact network"
    stages = ["fit the bank", "verify the encoder", compared, "verify the network", f"write {out}"]
    assert printed.startswith(" ".join(stages))
    assert "state bytes" in printed
    manifest = Artifact.open(out).manifest
    assert manifest.labels[7] == "seven"
    assert manifest.network.accuracy is not None
    described = json.loads(hetsyn("inspect", str(out), "--json"))
    assert described["network"]["form"] == "bank"
    hetsyn("export", str(run / "best.pt"), "--out", str(tmp_path / "exact/1"), "--form", "exact", "--no-torchscript")
    exact = json.loads(hetsyn("inspect", str(tmp_path / "exact/1"), "--json"))["network"]
    assert (exact["form"], exact["spike_mismatch"]) == ("exact", None)
    assert described["network"]["state_bytes"] * 10 < exact["state_bytes"]
    again = hetsyn("export", str(run / "best.pt"), "--out", str(out), code=2)
    assert "never overwritten" in again
    labelled = hetsyn("export", str(run / "best.pt"), "--out", str(tmp_path / "d/3"), "--rejected", "seven", code=2)
    assert "a training run has labels, examples and a description of its own: leave out --rejected" in labelled
    assert "no --data" not in printed
    on_data = hetsyn("export", str(run / "best.pt"), "--out", str(tmp_path / "digits/2"), "--data", str(words))
    assert "20 streams" in on_data  # take 0 of each speaker and digit
    assert Artifact.open(tmp_path / "digits/2").manifest.network.accuracy == manifest.network.accuracy


def test_a_checkpoint_without_its_folder_gets_no_accuracy(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "moved.pt"
    alone.write_bytes((run / "best.pt").read_bytes())
    assert "no --data: the artifact gets no accuracy" in hetsyn("export", str(alone), "--out", str(tmp_path / "d/1"))
    assert Artifact.open(tmp_path / "d/1").manifest.network.accuracy is None


def test_a_checkpoint_without_labels_is_exported_with_given_ones(run: Path, tmp_path: Path) -> None:
    saved = torch.load(run / "best.pt", weights_only=True)
    torch.save({key: saved[key] for key in ("network", "encoder", "tail_steps", "epoch")}, tmp_path / "old.pt")
    printed = hetsyn("export", str(tmp_path / "old.pt"), "--out", str(tmp_path / "d/1"), code=2)
    assert "names no labels: save its network alone, torch.save(torch.load(FILE)['network'], OTHER)" in printed
    torch.save(torch.load(tmp_path / "old.pt")["network"], tmp_path / "alone.pt")
    hetsyn("export", str(tmp_path / "alone.pt"), "--out", str(tmp_path / "d/1"), "--labels", "0,1,2,3,4,5,6,7,8,9")
    assert Artifact.open(tmp_path / "d/1").manifest.labels[7] == "7"


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An artifact of two tones, with other sounds and silence as labels that it refuses; and its recordings."""
    folder = tmp_path_factory.mktemp("tones")
    data, run, out = tone_folder(folder / "tones", 8), folder / "run", folder / "mine/1"
    (data / "high").rename(data / "unknown")
    (folder / "quick.toml").write_text(f"{QUICK}\n[others]\nsilence = 1.0\n")
    printed = hetsyn("train", str(data), "--config", str(folder / "quick.toml"), "--out", str(run), "--threads", "1")
    assert "4 classes: " in printed
    assert re.search(TESTED, printed)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    hetsyn("export", str(run / "best.pt"), "--out", str(out), "--bank-size", "3", "--least-probability", "0.3")
    return out, data


def test_other_words_of_the_data_and_silence_of_the_configuration_are_answered_with_null(
    tones: tuple[Path, Path],
) -> None:
    manifest = Artifact.open(tones[0]).manifest
    assert manifest.encoder is not None
    assert manifest.encoder.kind == "audio"
    assert manifest.network.accuracy is not None
    assert manifest.description == "4 classes, trained on tones"
    assert manifest.labels == ("low", "middle", "unknown", "silence")
    assert manifest.rejected_labels == ("unknown", "silence")


def test_a_model_is_adapted_to_the_takes_of_one_person(tones: tuple[Path, Path], tmp_path: Path) -> None:
    model, own, out = tones[0], tone_folder(tmp_path / "own", 3), tmp_path / "mine/2"
    shutil.rmtree(own / "high")
    printed = hetsyn("adapt", str(model), str(own), "--out", str(out))
    assert re.search(r"An example of each label held back, the model learning the others: right in \d of 2", printed)
    before, after = (Artifact.open(folder).manifest for folder in (model, out))
    assert after.provenance["adapted_from"] == "mine 1"
    assert (after.network.bank_sizes, after.network.accuracy) == (before.network.bank_sizes, None)
    kept = {"version", "network", "files", "provenance"}
    assert after.model_dump(exclude=kept) == before.model_dump(exclude=kept)
    weights = [torch.load(folder / "network.pt", weights_only=True)["network"]["tensors"] for folder in (model, out)]
    changed = {name for name, tensor in weights[0].items() if not torch.equal(tensor, weights[1][name])}
    (readout,) = changed
    rows = (weights[0][readout] != weights[1][readout]).any(1)
    assert rows.tolist() == [True, True, False, False]  # what refuses stays as it is


def test_an_adaptation_needs_all_labels_that_the_model_names_and_no_other(
    tones: tuple[Path, Path], tmp_path: Path
) -> None:
    model, own = tones[0], tone_folder(tmp_path / "own", 2)
    arguments = ("adapt", str(model), str(own), "--out", str(tmp_path / "mine/2"))
    assert "label 'high' is not one of the network's: low, middle, unknown, silence" in hetsyn(*arguments, code=2)
    (own / "high").rename(own / "unknown")
    assert "'unknown' is a label that the model refuses" in hetsyn(*arguments, code=2)
    shutil.rmtree(own / "unknown")
    shutil.rmtree(own / "low")
    assert "has no examples of low: give some of each label" in hetsyn(*arguments, code=2)
    assert "has no network.pt" in hetsyn("adapt", str(_without_network(model, tmp_path)), str(own), code=2)
    assert "exists: artifacts are never" in hetsyn("adapt", str(model), "nowhere", "--out", str(model), code=2)
    assert "there is no such model" in hetsyn("adapt", "nowhere", str(own), code=2)
    assert not (tmp_path / "mine/2").exists()


def test_an_adaptation_keeps_what_export_was_told_and_is_refused_without_an_average_of_spikes(tmp_path: Path) -> None:
    spikes, labels = spike_arrays(6)
    np.savez(tmp_path / "own.npz", spikes=spikes, labels=labels, label_names=list(CLASSES))
    spec = NetworkSpec(channels=12, hidden=(4,), outputs=3)
    for name, changed in {
        "own": spec,
        "last": replace(spec, decision=DecisionSpec("last")),
        "values": replace(spec, input_kind="values"),
    }.items():
        out = tmp_path / name / "1"
        export_network(
            Network(changed),
            out=out,
            labels=CLASSES,
            description="mine",
            input_description="cells",
            bank_size=2,
            torchscript=False,
            provenance={"torch": "1"},
        )
        arguments = ("adapt", str(out), str(tmp_path / "own.npz"), "--out", str(tmp_path / name / "2"))
        if name != "own":
            assert "cannot be adapted" in hetsyn(*arguments, code=2)
    hetsyn("adapt", str(tmp_path / "own"), str(tmp_path / "own.npz"), "--out", str(tmp_path / "own/2"))
    manifest = Artifact.open(tmp_path / "own/2").manifest
    assert (manifest.description, manifest.input.description) == ("mine", "cells")
    assert manifest.provenance["torch"] == torch.__version__  # of who wrote it


def _without_network(model: Path, folder: Path) -> Path:
    copied = folder / "bare/1"
    shutil.copytree(model, copied)
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["files"]["network.pt"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    (copied / "network.pt").unlink()
    return copied


# the test above has a folder of recordings
@pytest.mark.parametrize("door", [*(pytest.param(door, marks=pytest.mark.long) for door in ("shd", "npz")), "csv"])
def test_every_door_leads_to_an_artifact(door: str, tmp_path: Path) -> None:
    if door == "shd":
        data = write_shd_form(tmp_path / "spikes.h5", 48)
    elif door == "npz":
        spikes, labels = spike_arrays(48)
        np.savez(data := tmp_path / "spikes.npz", spikes=spikes, labels=labels, label_names=CLASSES)
    else:
        data = write_series_csv(tmp_path / "sensor.csv", 48)
    (tmp_path / "quick.toml").write_text(QUICK)
    run, out = tmp_path / "run", tmp_path / "mine/1"
    printed = hetsyn("train", str(data), "--config", str(tmp_path / "quick.toml"), "--out", str(run), "--threads", "1")
    assert "3 classes: " in printed
    assert (" channels: a guess, one more than the highest unit; network.channels" in printed) == (door == "shd")
    at_bounds = re.search(r"[\d.]+% of the time constants lie at an end of their range", printed)
    assert at_bounds
    assert re.search(TESTED, printed)
    assert json.loads((run / "test.json").read_text())["epoch"] == int(re.findall(r"chosen: (\d+)", printed)[-1])
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    hetsyn("export", str(run / "best.pt"), "--out", str(out), "--bank-size", "3")
    assert at_bounds[0].replace("of the time constants ", "") in hetsyn("inspect", str(out))
    manifest = Artifact.open(out).manifest
    assert sorted(manifest.labels) == sorted(CLASSES)
    assert (manifest.encoder.kind if manifest.encoder else None) == ("values" if door == "csv" else None)
    assert manifest.network.accuracy is not None
    assert manifest.description == f"3 classes, trained on {data.name}"


@pytest.mark.long
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason=NO_ESPEAK)
def test_five_spoken_words_are_right_on_files_that_were_held_out(tmp_path: Path) -> None:
    draw = random.Random(0)
    for word in ("start", "stop", "left", "right", "again"):
        (tmp_path / "words" / word).mkdir(parents=True)
        for take in range(40):
            accent = draw.choice(("en-us", "en-gb", "en-gb-scotland"))
            person = draw.choice(("m1", "m3", "m7", "f1", "f2", "f4"))
            how = ("-v", f"{accent}+{person}", "-s", str(draw.randint(130, 200)), "-p", str(draw.randint(25, 75)))
            path = tmp_path / "words" / word / f"{take}.wav"
            subprocess.run(["espeak-ng", *how, "-w", str(path), word], check=True, timeout=60)
    hetsyn("train", str(tmp_path / "words"), "--out", str(tmp_path / "run"), "--epochs", "25", "--threads", "1")
    result = json.loads((tmp_path / "run/test.json").read_text())
    assert result["examples"] == 30
    assert result["bank"] > 0.95
    assert result["exact"] > 0.95


def test_another_number_of_epochs_is_named(run: Path, words: Path) -> None:
    printed = hetsyn("train", str(words), *DIGITS, "--out", str(run), "--epochs", "2", code=2)
    assert "contains a run that differs in" in printed
    assert "train.epochs (1 there, 2 now)" in printed
    assert "choose another --out, or delete the folder" in printed


def test_leaving_a_speaker_out_reports_on_them(words: Path, tmp_path: Path) -> None:
    arguments = ("train", str(words), *DIGITS, "--out", str(tmp_path), "--epochs", "1")
    assert "anna" in hetsyn(*arguments, "--leave-out", "anna")
    figures = json.loads((tmp_path / "leave-one-out.json").read_text())
    assert [figure["group"] for figure in figures["groups"]] == ["anna"]
    assert figures["groups"][0]["examples"] == 20


def test_a_group_that_would_leave_the_folder_of_the_runs_is_refused(tmp_path: Path) -> None:
    rows = [f"{n},{n % 2},{group},{n % 2 + k / 9}" for n in range(9) for k in range(9) for group in ["../../../a"]]
    (tmp_path / "a.csv").write_text("series,label,group,x\n" + "\n".join(rows) + "\n")
    printed = hetsyn("train", str(tmp_path / "a.csv"), "--leave-one-out", "--out", str(tmp_path / "runs"), code=2)
    assert "group '../../../a' cannot name the folder of its run: give groups short names" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nowhere", "--out", "x"), "nowhere: no such folder"),
        (("train", "README.md", "--out", "x"), "not data that hetsyn trains on"),
        (("train", "docs/recordings", "--out", "x"), "the name is not label_speaker_take.wav"),
        (("train", "docs/recordings", "--out", "x", "--config", "no.toml"), "no.toml: cannot be read"),
        (("train", "docs/recordings", "--out", "x", "--device", "gpu"), "device 'gpu' is none that torch knows"),
        (("export", "nowhere.pt", "--out", "x/1"), "nowhere.pt: cannot be read"),
        (("export", __file__, "--out", "x/1"), "not a file of torch.save"),
    ],
)
def test_errors_name_their_cause(arguments: tuple[str, ...], message: str) -> None:
    assert message in hetsyn(*arguments, code=2)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", spikes=spike_arrays()[0], labels=spike_arrays()[1])
    whole = (tmp_path / "whole.npz").read_bytes()
    middle = len(whole) // 4
    for damaged in (whole[:-30], whole[: len(whole) // 2], whole[:middle] + b"damage" + whole[middle + 6 :]):
        (tmp_path / "a.npz").write_bytes(damaged)
        printed = hetsyn("train", str(tmp_path / "a.npz"), "--out", str(tmp_path / "x"), code=2)
        assert re.search(r"a\.npz: cannot be read as npz \(.+\): write it with numpy", printed)
    for label in "ab":
        (tmp_path / "tones" / label).mkdir(parents=True)
        (tmp_path / "tones" / label / "1.wav").write_bytes(at_0_hz(wav(bytes(1600))))
    printed = hetsyn("train", str(tmp_path / "tones"), "--out", str(tmp_path / "x"), code=2)
    assert "tones/a/1.wav: the WAV file has a rate of 0 Hz: its header is damaged" in printed


def test_an_unknown_speaker_is_named(words: Path) -> None:
    printed = hetsyn("train", str(words), *DIGITS, "--out", "x", "--leave-out", "carl", code=2)
    assert "'carl' is not in" in printed
    assert "anna, bert" in printed
