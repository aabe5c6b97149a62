"""Strings of digits and false alarms: what is streamed, and how it is counted."""

from __future__ import annotations

import numpy as np
import pytest

from hetsyn_model.training.datasets.data import read_wav
from recipes.speech.pool import RATE_HZ, Clip, clip, loud_parts
from recipes.speech.streams import (
    errors,
    hear,
    judged,
    noisy,
    string_of,
)
from recipes.speech.vocabulary import DIGITS
from tests.support.paths import MODELS, ROOT


def shipped(speaker: str = "rms") -> list[Clip]:
    """The page's ten digits."""
    return loud_parts(
        clip(read_wav(path, RATE_HZ), speaker, 0, "person", path.stem)
        for path in sorted((ROOT / "service/page/recordings").glob("*.wav"))
    )


@pytest.mark.parametrize(
    ("heard", "wrong"),
    [("abc", (0, 0, 0)), ("axc", (1, 0, 0)), ("ac", (0, 1, 0)), ("abbc", (0, 0, 1)), ("", (0, 3, 0))],
)
def test_words_are_aligned_with_the_fewest_errors(heard: str, wrong: tuple[int, int, int]) -> None:
    assert errors("abc", heard) == wrong


@pytest.mark.process
def test_a_shipped_model_hears_a_string_of_the_pages_digits() -> None:
    string = noisy(string_of(shipped(), np.random.default_rng(0)), "pink")
    heard = hear(MODELS / "speech-digits", string)
    assert heard.model.startswith("speech-digits-")
    assert set(heard.words) <= set(DIGITS)
    assert judged(string, heard)["word_errors"] <= 0.2
