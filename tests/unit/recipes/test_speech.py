"""How the shipped speech models are made: who is heard in training, and how a network is judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_model.readout import decide
from hetsyn_model.readout import probabilities as decided
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.training.data import DataError
from recipes.speech import experiments
from recipes.speech.experiments import judge
from recipes.speech.judge import wilson
from recipes.speech.people import PARTS, Division, File, divide, files
from recipes.speech.plan import PLAN
from recipes.speech.pool import MOST_REPEATS, Clip, Draws, Folders, Pool, clip, of_noise, of_people, phrase, splice
from recipes.speech.training import probabilities
from recipes.speech.vocabulary import COMMANDS, DIGITS, FREQUENT, RARE_DIGITS, UNKNOWN, vocabulary
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


def test_a_run_that_nobody_trained_or_judged_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"digits-0: has no network yet: run python -m recipes.speech train digits-0"):
        judge("digits-0", tmp_path, Folders.under(tmp_path), "test")
    monkeypatch.setattr(experiments, "load_model", lambda _: None)
    monkeypatch.setattr(experiments, "RESULTS", tmp_path)
    with pytest.raises(DataError, match=r"digits-0: has no threshold yet: run python -m recipes.speech validate"):
        judge("digits-0", tmp_path, Folders.under(tmp_path), "test")


def test_held_out_words_are_no_word_of_a_model() -> None:
    assert not set(Division.load().held_out_words) & {*DIGITS, *COMMANDS}


def test_a_recording_is_known_by_its_loud_part() -> None:
    assert word("one").active == (2400, 5600)
    assert clip(np.zeros(800, np.float32), 0, "a", 0, "person", "one") is None


def test_an_epoch_draws_every_class_alike_and_nobody_more_than_five_times() -> None:
    clips = [word(name, f"s{n}", n) for name in DIGITS for n in range(2 if name in RARE_DIGITS else 30)]
    clips += [word(name, f"v{n}", n, source) for name in DIGITS for n in range(20) for source in ("studio", "voice")]
    pool = Pool(clips, Draws(digit=60, studio=0.2, voices=0.2), WORDS)
    drawn = pool.epoch(np.random.default_rng(0))
    assert Counter(one.word for one in drawn) == dict.fromkeys(DIGITS, 60)
    said = Counter((one.word, one.speaker) for one in drawn if one.source == "person")
    assert max(said.values()) <= MOST_REPEATS
    assert [one.speaker for one in pool.epoch(np.random.default_rng(0))] == [one.speaker for one in drawn]


def test_halves_of_two_words_are_no_word() -> None:
    made = splice(word("two"), word("seven"), WORDS.word(UNKNOWN), np.random.default_rng(0))
    assert made is not None
    assert WORDS.classes[WORDS.class_of_word[made.label]] == UNKNOWN
    assert splice(word("two"), word("two"), 0, np.random.default_rng(0)) is None


def test_words_in_a_row_are_no_word() -> None:
    made = phrase([word("two"), word("seven"), word("one")], WORDS.word(UNKNOWN), np.random.default_rng(0))
    assert WORDS.classes[WORDS.class_of_word[made.label]] == UNKNOWN
    assert made.length > 2 * word("two").length


def test_every_word_of_the_data_has_a_class() -> None:
    for model in ("digits", "commands"):
        words = vocabulary(model)
        answered = {name: words.classes[index] for name, index in zip(words.words, words.class_of_word, strict=True)}
        assert all(answered[name] == (name if name in words.named else UNKNOWN) for name in FREQUENT)
    assert vocabulary("digits", rejects=False).class_of_word.count(-1) == len(FREQUENT) - len(DIGITS) + 2


def test_noise_is_the_same_in_every_run_and_none_is_a_word() -> None:
    first, second = of_noise(WORDS), of_noise(WORDS)
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(first, second, strict=True))
    assert not any(one.word for one in first)


@pytest.mark.parametrize(("power", "rule"), [(0, "sum_softmax"), (3, "late_softmax")])
def test_a_network_is_judged_by_the_decision_that_is_served(power: int, rule: str) -> None:
    logits, steps = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([50, 17, 1])
    spec = DecisionSpec(rule)  # type: ignore[arg-type]
    served = decided(spec, decide(spec, logits, steps), steps)
    torch.testing.assert_close(probabilities(logits, steps, power).float(), served, rtol=1e-5, atol=1e-6)


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilsons_interval_has_the_share_in_it(right: int, wrong: int) -> None:
    low, high = wilson(right, right + wrong)
    share = right / (right + wrong) if right + wrong else 0.5
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


def test_teachers_are_runs_of_the_plan_with_its_classes() -> None:
    for recipe in PLAN.values():
        for teacher in recipe.teachers:
            assert PLAN[teacher].vocabulary == recipe.vocabulary
