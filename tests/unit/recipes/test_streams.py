"""Strings of digits and false alarms: what is streamed, and how it is counted."""

from __future__ import annotations

import numpy as np
import pytest

from hetsyn_model.training.data import DataError, read_wav
from recipes.speech.pool import RATE_HZ, Clip, clip
from recipes.speech.streams import (
    PAUSES_S,
    POWER,
    WORDS,
    Heard,
    Stream,
    alarms,
    errors,
    hear,
    judged,
    noisy,
    string_of,
    strings,
)
from recipes.speech.vocabulary import DIGITS
from tests.support.paths import MODELS, ROOT


def shipped(speaker: str = "rms") -> list[Clip]:
    """The page's ten digits."""
    made = [
        clip(read_wav(path, RATE_HZ), 0, speaker, 0, "person", path.stem)
        for path in sorted((ROOT / "service/page/recordings").glob("*.wav"))
    ]
    return [one for one in made if one is not None]


@pytest.mark.parametrize(
    ("heard", "wrong"),
    [("abc", (0, 0, 0)), ("axc", (1, 0, 0)), ("ac", (0, 1, 0)), ("abbc", (0, 0, 1)), ("", (0, 3, 0))],
)
def test_words_are_aligned_with_the_fewest_errors(heard: str, wrong: tuple[int, int, int]) -> None:
    assert errors("abc", heard) == wrong


def test_a_string_has_its_words_where_it_says() -> None:
    clips = shipped()
    by = {one.word: one.spoken for one in clips}
    string = string_of(clips, np.random.default_rng(0))
    assert len(string.words) == WORDS
    said = []
    for word, (begin_s, end_s) in zip(string.words, string.spans_s, strict=True):
        cut = string.audio[round(begin_s * RATE_HZ) : round(end_s * RATE_HZ)]
        assert np.corrcoef(cut, by[word])[0, 1] > 0.999
        said.append(cut)
    assert np.square(np.concatenate(said)).mean() == pytest.approx(POWER, rel=1e-3)
    pauses = [later[0] - sooner[1] for sooner, later in zip(string.spans_s[:-1], string.spans_s[1:], strict=True)]
    assert min(pauses) >= PAUSES_S[0]


def test_each_string_is_of_another_person_with_several_digits() -> None:
    people = [one for speaker in "abc" for one in shipped(speaker)] + shipped("d")[:2]
    made = strings(people, 3)
    assert np.array_equal(made.audio, strings(people, 3).audio)
    assert len(made.words) == len(made.spans_s) == 3 * WORDS
    assert list(made.spans_s) == sorted(made.spans_s)
    with pytest.raises(DataError, match="only 3 people say 3 digits or more: give --strings 3"):
        strings(people, 4)


def test_named_utterances_that_meet_no_word_are_false_starts() -> None:
    said = Stream(np.zeros(RATE_HZ, np.float32), ("one", "five"), ((0.1, 0.3), (0.6, 0.9)))
    heard = Heard("digits-1", ("one", "two", "five"), ((0.0, 0.4), (0.42, 0.5), (0.55, 0.9)), 0)
    counts = judged(said, heard)
    assert (counts["words"], counts["insertions"], counts["false_starts"]) == (2, 1, 1)
    assert counts["word_errors"] == 0.5


def test_false_alarms_are_counted_by_the_hour() -> None:
    found = alarms(Stream(np.zeros(360 * RATE_HZ, np.float32)), Heard("digits-1", ("one", "two"), ((0, 1), (2, 3)), 5))
    assert (found["alarms"], found["utterances"], found["an_hour"]) == (2, 7, pytest.approx(20))


@pytest.mark.process
def test_a_shipped_model_hears_a_string_of_the_pages_digits() -> None:
    string = noisy(string_of(shipped(), np.random.default_rng(0)), "pink", 20.0)
    heard = hear(MODELS / "speech-digits", string)
    assert heard.model.startswith("speech-digits-")
    assert set(heard.words) <= set(DIGITS)
    assert judged(string, heard)["word_errors"] <= 0.2
