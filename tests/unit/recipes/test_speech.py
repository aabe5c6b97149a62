"""How the shipped speech models are made: who is heard in training, and how a network is judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hetsyn_model.readout import decide
from hetsyn_model.readout import probabilities as decided
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.datasets.data import DataError
from recipes.speech.people import PARTS, Division, files
from recipes.speech.pool import Clip, clip, of_people
from recipes.speech.training import probabilities
from recipes.speech.vocabulary import vocabulary

WORDS = vocabulary("digits")


def word(name: str, speaker: str = "a", take: int = 0, source: str = "person") -> Clip:
    """A tone of 0.4 s within 1 s of near silence."""
    audio = np.full(8000, 1e-5, np.float32)
    audio[2400:5600] = 0.3 * np.sin(np.arange(3200, dtype=np.float32))
    made = clip(audio, WORDS.word(name), speaker, take, source, name)  # type: ignore[arg-type]
    assert made is not None
    return made


def test_nobody_is_in_two_parts() -> None:
    division = Division.load()
    counts = Counter(speaker for part in PARTS for speaker in getattr(division, part))
    assert set(counts.values()) == {1}
    assert min(len(division.validation), len(division.test)) > 90


def test_people_are_read_under_both_names_and_those_who_are_not_listed_are_left_out(tmp_path: Path) -> None:
    known, stranger = Division.load().train[0], "ffffffff"
    for name in (
        f"one/{known}_nohash_0.wav", f"two/{known}_3_v2.flac", f"one/{stranger}_nohash_0.wav",
        "_background_noise_/pink_noise.wav",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, word("one").audio, 8000)
    found = of_people(tmp_path, Division.load(), WORDS, "train")
    assert [(one.word, one.speaker, one.take) for one in found] == [("one", known, 0), ("two", known, 3)]
    (tmp_path / "one/mine.wav").touch()
    with pytest.raises(DataError, match=r"mine.wav: the name is not SPEAKER_nohash_TAKE.wav"):
        files(tmp_path)
    with pytest.raises(DataError, match="put Google Speech Commands there"):
        files(tmp_path / "none")


@pytest.mark.parametrize(("power", "rule"), [(0, "sum_softmax"), (3, "late_softmax")])
def test_a_network_is_judged_by_the_decision_that_is_served(power: int, rule: str) -> None:
    logits, steps = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([50, 17, 1])
    spec = DecisionSpec(rule)  # type: ignore[arg-type]
    served = decided(spec, decide(spec, logits, steps), steps)
    torch.testing.assert_close(probabilities(logits, steps, power).float(), served, rtol=1e-5, atol=1e-6)
