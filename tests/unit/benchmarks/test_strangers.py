"""The benchmark of unseen speakers, on made-up words."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import strangers
from benchmarks.strangers import CONDITIONS, add_arguments, chosen_by_others, run
from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.training.augment import AugmentSpec
from hetsyn_model.training.fitting import fit
from hetsyn_model.training.front import AudioFront
from tests.support.words import write_words

SPEAKERS = ("ann", "bob", "cas")
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, and the runs of a leave-one-out training on them."""
    folder = tmp_path_factory.mktemp("strangers")
    data = write_words(folder / "data", SPEAKERS)
    config = {
        "base": "speech-digits",
        "network": {"hidden": [8]},
        "training": {"epochs": 1, "quiet_s": 0.1},
        "encoder": {"audio": {"bands": 8, "levels": 4}},
    }
    for speaker in SPEAKERS[:2]:
        fit(data, config=config, leave_out=[speaker], out=folder / f"runs/without-{speaker}")
    return folder


def arguments(folder: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    add_arguments(parser)
    return parser.parse_args(["--data", str(folder / "data"), "--runs", str(folder / "runs"), *more])


def test_each_speaker_is_judged_in_each_condition(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(arguments(trained))["runs"]["runs"]
    assert list(results["speakers"]) == ["ann", "bob"]
    for speaker, loss in results["validation_loss"].items():
        history = json.loads((trained / f"runs/without-{speaker}/metrics.json").read_text())
        assert loss == pytest.approx(history["validation_loss"][0], rel=0.02), "but for the bank"
    assert all(set(each) == set(CONDITIONS) for each in results["speakers"].values())
    for name, matrix in results["confusion"].items():
        counts = np.array(matrix)
        assert counts.sum() == 40
        mean = np.mean([each[name] for each in results["speakers"].values()])
        assert counts.trace() / 40 == pytest.approx(mean)
        assert results["conditions"][name]["mean"] == pytest.approx(mean)
    assert "ann" in capsys.readouterr().out


def test_the_first_run_tells_as_much_as_its_own_test(trained: Path) -> None:
    own = fit(
        trained / "data",
        config=(trained / "runs/without-ann/config.toml"),
        leave_out=["ann"],
        out=trained / "runs/without-ann",
    ).test
    assert own is not None
    found = run(arguments(trained, "--conditions", "clean"))["runs"]["runs"]["speakers"]
    assert found["ann"]["clean"] == own.bank


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"runs": Path("none")}, r"none: has no without-SPEAKER/best\.pt: give"),
        ({}, "the data have no recordings of ann: give"),
    ],
)
def test_wrong_folders_are_refused_before_anything_is_judged(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Path], sentence: str
) -> None:
    monkeypatch.setattr(strangers, "classify", None)
    given = arguments(trained)
    if not change:
        given.data = write_words(tmp_path / "data", ("zoe",))
    given.runs = [*given.runs, ("more", change.get("runs", given.runs[0][1]))]
    with pytest.raises(SystemExit, match=sentence):
        run(given)


def test_a_word_that_is_taken_for_none_is_missed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "base": "speech-digits",
        "network": {"hidden": [8]},
        "training": {"epochs": 1},
        "encoder": {"audio": {"bands": 8, "levels": 4}},
        "others": {"silence": 3.0},
    }
    runs = tmp_path / "spotting"
    fit(trained / "data", config=config, leave_out=["ann"], out=runs / "without-ann")
    given = arguments(trained, "--conditions", "clean", "--plot", str(tmp_path / "confusions.png"))
    given.runs = [("spotting", runs)]
    monkeypatch.setattr(strangers, "classify", _always(len(WORDS), of=len(WORDS) + 1))
    results = run(given)["runs"]["spotting"]
    assert results["labels"] == WORDS
    assert results["heard"] == [*WORDS, "silence"]
    assert {tuple(row[:-1]) for row in results["confusion"]["clean"]} == {(0,) * len(WORDS)}
    assert results["conditions"]["clean"]["mean"] == 0.0
    assert results["conditions"]["clean"]["missed"] == 1.0
    assert "missed: 100.0%" in capsys.readouterr().out


def _always(answer: int, *, of: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    def classify(network: object, front: object, items: Sequence[object], tail: int) -> Any:  # noqa: ARG001
        return torch.full((len(items),), answer), torch.full((len(items), of), 1 / of)

    return classify


def test_networks_of_other_words_are_refused(trained: Path, tmp_path: Path) -> None:
    given = arguments(trained)
    digits = tmp_path / "data"
    digits.mkdir()
    for path in sorted((trained / "data").glob("*.wav")):
        if not path.name.startswith("1_"):
            (digits / path.name).write_bytes(path.read_bytes())
    given.data = digits
    with pytest.raises(SystemExit, match="know other words than the data: give --data"):
        run(given)


def test_runs_of_other_speakers_are_not_chosen_among_and_a_name_may_have_any_folder(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = tmp_path / "rate=3"
    shutil.copytree(trained / "runs/without-ann", fewer / "without-ann")
    found = run(arguments(trained, "--runs", f"n={fewer}", "--runs", str(fewer), "--conditions", "clean", "--quick"))
    assert list(found["runs"]) == ["runs", "n", "rate=3"]
    assert found["chosen"] == {}
    assert "give runs of the same speakers" in capsys.readouterr().err


def test_several_quiet_starts_are_compared(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []

    def front(encoder: EncoderSpec, augment: AugmentSpec, steps: int) -> AudioFront:
        starts.append(steps)
        return AudioFront(encoder, augment, steps)

    monkeypatch.setattr(strangers, "AudioFront", front)
    found = run(arguments(trained, "--conditions", "clean", "--quiet-s", "0", "0.3", "--quick"))
    assert list(found["runs"]) == ["runs, 0 s of quiet", "runs, 0.3 s of quiet"]
    run(arguments(trained, "--conditions", "clean", "--quick"))
    assert starts == [0, 0, 30, 30, 10, 10], "of two speakers; the last as trained"


def test_a_quiet_start_that_is_there_twice_is_refused(trained: Path) -> None:
    with pytest.raises(SystemExit, match="--quiet-s: a number is there twice"):
        run(arguments(trained, "--quiet-s", "0.1", "0.1"))


def test_several_runs_are_told_apart_by_name(trained: Path, tmp_path: Path) -> None:
    runs = str(trained / "runs")
    picture = tmp_path / "confusions.png"
    found = run(
        arguments(trained, "--runs", f"again={runs}", "--conditions", "clean", "--plot", str(picture), "--quick")
    )
    assert list(found["runs"]) == ["runs", "again"]
    assert found["runs"]["again"] == found["runs"]["runs"]
    assert {each["runs"] for each in found["chosen"].values()} == {"runs"}, "the first of equals"
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit, match="two have one name: write NAME=DIR"):
        run(arguments(trained, "--runs", runs))


def test_a_speaker_has_no_say_in_what_is_chosen_for_it() -> None:
    accuracies = {
        "one": {"ann": {"clean": 0.9}, "bob": {"clean": 0.5}, "cas": {"clean": 0.6}},
        "two": {"ann": {"clean": 0.2}, "bob": {"clean": 0.6}, "cas": {"clean": 0.7}},
    }
    assert chosen_by_others(accuracies) == {
        "ann": {"runs": "two", "clean": 0.2},
        "bob": {"runs": "one", "clean": 0.5},
        "cas": {"runs": "one", "clean": 0.6},
    }
    del accuracies["two"]["cas"]
    assert chosen_by_others(accuracies) == {}, "not over the same speakers"


@pytest.mark.parametrize("decibels", [20, 10, 5])
def test_noise_is_as_loud_as_it_says(decibels: int) -> None:
    word = (0.1 * np.sin(np.arange(8_000) / 3)).astype(np.float32)
    noisy = CONDITIONS[f"noise, {decibels} dB"](word, 8_000, np.random.default_rng(0))
    ratio = np.square(word, dtype=np.float64).mean() / np.square(noisy - word, dtype=np.float64).mean()
    assert 10 * np.log10(ratio) == pytest.approx(decibels, abs=0.3)


def test_a_telephone_passes_its_band_alone() -> None:
    seconds = np.arange(8_000) / 8_000
    low, middle, high = (np.sin(2 * np.pi * hz * seconds) for hz in (100, 1_000, 3_700))
    heard = CONDITIONS["telephone"]((low + middle + high).astype(np.float32), 8_000, np.random.default_rng(0))
    np.testing.assert_allclose(heard, middle, atol=1e-4)
