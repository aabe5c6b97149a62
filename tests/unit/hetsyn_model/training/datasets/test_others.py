"""The classes of what is no word of the data, added to made-up words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hetsyn_model.spec import SpecError
from hetsyn_model.training.config import ConfigError, load_config
from hetsyn_model.training.datasets.data import DataError, Recording
from hetsyn_model.training.datasets.examples import Examples, Part, digest_of
from hetsyn_model.training.datasets.others import OthersSpec, with_others
from hetsyn_model.training.datasets.split import SplitSpec
from hetsyn_model.training.prepared import prepare

RATE_HZ = 8_000


def made(labels: tuple[str, ...] = ("one", "two"), groups: str = "abc") -> Examples:
    rng = np.random.default_rng(0)
    items = [
        Recording(rng.normal(0, 0.1, 3_000).astype(np.float32), label, group, take)
        for label in range(len(labels))
        for group in (groups or [""])
        for take in range(4)
    ]
    return Examples("audio", tuple(items), labels, "made")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A long recording with a pause in its midst, and short words of two voices in a folder below."""
    rng = np.random.default_rng(1)
    long = rng.normal(0, 0.1, 10 * RATE_HZ)
    long[4 * RATE_HZ : 6 * RATE_HZ] = 0
    (tmp_path / "words").mkdir()
    soundfile.write(tmp_path / "prompt.wav", long, RATE_HZ)
    for voice in ("eve", "fay"):
        soundfile.write(tmp_path / f"words/tree_{voice}_0.wav", rng.normal(0, 0.1, RATE_HZ // 2), RATE_HZ)
    return tmp_path


def added(spec: OthersSpec, examples: Examples | None = None) -> tuple[Examples, list[Recording]]:
    data = with_others(examples or made(), spec, RATE_HZ, SplitSpec())
    return data, [item for item in data.items[len((examples or made()).items) :] if isinstance(item, Recording)]


def test_nothing_is_added_unless_the_configuration_says_so() -> None:
    data = made()
    assert with_others(data, OthersSpec(), RATE_HZ, SplitSpec()) is data


def test_other_speech_is_cut_to_the_length_of_words_without_its_pauses(speech: Path) -> None:
    data, pieces = added(OthersSpec(str(speech), unknown=100.0, piece_s=(0.2, 0.5)))
    assert data.labels == ("one", "two", "unknown")
    assert {piece.label for piece in pieces} == {2}
    assert {piece.speaker for piece in pieces} == {"prompt", "eve", "fay"}
    assert all(0.2 * RATE_HZ <= piece.length <= 0.5 * RATE_HZ for piece in pieces)
    assert all(np.square(piece.audio).mean() > 1e-4 for piece in pieces), "no piece of the pause"
    cut = sum(piece.length for piece in pieces if piece.speaker == "prompt")
    assert 6.5 * RATE_HZ <= cut <= 8 * RATE_HZ + 2 * 0.5 * RATE_HZ


def test_there_are_as_many_as_the_configuration_says(speech: Path) -> None:
    _, pieces = added(OthersSpec(str(speech), unknown=0.5, silence=2.0, piece_s=(0.2, 0.5)))
    labels = [piece.label for piece in pieces]
    assert (labels.count(2), labels.count(3)) == (6, 24), "12 examples has the mean class"
    assert len({(piece.label, piece.speaker, piece.take) for piece in pieces}) == len(pieces)


def test_silence_is_quiet_and_noise_of_many_levels() -> None:
    data, noises = added(OthersSpec(silence=20.0))
    assert data.labels == ("one", "two", "silence")
    levels = np.array([np.sqrt(np.square(noise.audio, dtype=np.float64).mean()) for noise in noises])
    assert 0.05 < (levels == 0).mean() < 0.2
    heard_db = 20 * np.log10(levels[levels > 0])
    assert heard_db.min() < -70
    assert -35 < heard_db.max() <= 0
    assert len({noise.speaker for noise in noises}) == 10


def test_the_same_specification_adds_the_same_and_another_seed_others(speech: Path) -> None:
    spec = OthersSpec(str(speech), silence=1.0)
    assert digest_of(added(spec)[1]) == digest_of(added(spec)[1])
    assert digest_of(added(spec)[1]) != digest_of(added(replace(spec, seed=1))[1])


def test_data_that_say_what_validates_get_shares_of_the_added_ones() -> None:
    examples = made()
    train: Part = "train"
    examples = replace(examples, parts=(train,) * len(examples.items))
    data, noises = added(OthersSpec(silence=20.0), examples)
    assert data.parts is not None
    parts = data.parts[-len(noises) :]
    assert len(data.parts) == len(data.items)
    assert [0.05 < parts.count(part) / len(parts) < 0.25 for part in ("validation", "test")] == [True, True]


@pytest.mark.parametrize("by", ["group", "take"])
def test_every_division_has_them_on_both_sides(by: str, speech: Path) -> None:
    for n in range(20):
        soundfile.write(speech / f"words/tree_v{n}_0.wav", np.random.default_rng(n).normal(0, 0.1, 4_000), RATE_HZ)
    config = load_config(
        {
            "base": "speech-digits", "others": {"speech": str(speech), "silence": 3.0},
            "split": {"by": by, "test": 0.2 if by == "group" else 0.0},
        }
    )  # fmt: skip
    prepared = prepare(made(groups="abcdef"), config)
    assert prepared.labels == ("one", "two", "unknown", "silence")
    assert prepared.spec.outputs == 4
    for side in (prepared.data.real, prepared.data.validation):
        assert {item.label for item in side} == {0, 1, 2, 3}
    if by == "group":
        trained, judged = ({item.group for item in side} for side in (prepared.data.real, prepared.test))
        assert not trained & judged


@pytest.mark.parametrize(
    ("spec", "labels", "sentence"),
    [
        (OthersSpec("nowhere"), ("one", "two"), "nowhere is no folder: give"),
        (OthersSpec("."), ("one", "two"), r"has no wav files: give"),
        (OthersSpec("."), ("one", "unknown"), r"others\.speech: made has a class 'unknown' already: leave"),
        (OthersSpec(silence=1.0), ("one", "silence"), r"others\.silence: made has a class 'silence' already: leave"),
    ],
)
def test_what_cannot_be_added_is_refused(
    spec: OthersSpec, labels: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=sentence):
        with_others(made(labels), spec, RATE_HZ, SplitSpec())


def test_only_sound_can_have_them() -> None:
    with pytest.raises(DataError, match="contains spikes, and only sound"):
        with_others(replace(made(), kind="spikes"), OthersSpec(silence=1.0), RATE_HZ, SplitSpec())


@pytest.mark.parametrize(
    "wrong", [{"unknown": 0.0}, {"silence": -1.0}, {"piece_s": (0.5, 0.2)}, {"piece_s": (0.01, 0.2)}, {"seed": -1}]
)
def test_a_wrong_specification_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="others"):
        OthersSpec(**wrong)  # type: ignore[arg-type]


def test_a_configuration_that_rejects_every_class_is_refused() -> None:
    config = load_config({"base": "speech-digits", "rejected": ["one", "two"]})
    with pytest.raises(ConfigError, match="rejected: names every class"):
        prepare(made(), config)
