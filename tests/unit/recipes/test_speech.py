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
from hetsyn_model.training.batch import Batch
from hetsyn_model.training.datasets.data import DataError
from recipes.speech.networks import Shape, make, readout
from recipes.speech.people import PARTS, Division, File, divide, files
from recipes.speech.pool import Clip, clip, of_people
from recipes.speech.training import encoder_spec, probabilities
from recipes.speech.vocabulary import RARE_DIGITS, vocabulary
from tests.support.paths import ROOT

WORDS = vocabulary("digits")


def word(name: str, speaker: str = "a", take: int = 0, source: str = "person") -> Clip:
    """A tone of 0.4 s within 1 s of near silence."""
    audio = np.full(8000, 1e-5, np.float32)
    audio[2400:5600] = 0.3 * np.sin(np.arange(3200, dtype=np.float32))
    made = clip(audio, WORDS.word(name), speaker, take, source, name)  # type: ignore[arg-type]
    assert made is not None
    return made


def test_nobody_is_in_two_parts_and_the_rare_digits_are_all_trained_on() -> None:
    division = Division.load()
    counts = Counter(speaker for part in PARTS for speaker in getattr(division, part))
    assert set(counts.values()) == {1}
    assert min(len(division.validation), len(division.test)) > 90
    rare = [ROOT / "none" / word for word in RARE_DIGITS]
    found = [File(path, path.name, speaker, 0) for path in rare for speaker in division.train[:2]]
    found += [File(ROOT, "go", f"{number:04x}", 0) for number in range(100)]
    divided = divide(found)
    assert set(division.train[:2]) <= set(divided.train)
    assert not set(divided.train) & (set(divided.validation) | set(divided.test))


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


@pytest.mark.parametrize("kind", ["hetsyn", "hetneu", "alif", "lif", "tanh", "gru", "cnn"])
def test_every_kind_of_network_hears_and_learns(kind: str) -> None:
    encoder = encoder_spec()
    model = make(Shape(kind, (6, 5) if kind != "cnn" else (3, 4, 5, 6)), encoder, outputs=4, seed=0)
    spikes = np.random.default_rng(0).random((2, 30, encoder.bands)) < 0.1  # level changes of bands
    batch = Batch.of(spikes.astype(np.float32), torch.tensor([1, 3]))
    heard = readout(model, batch)
    assert heard.shape == (2, 30, 4)
    torch.nn.functional.cross_entropy(heard.mean(1), batch.target).backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
