"""German and English digits in SHD's form, spoken by an engine made of tones."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hetsyn_model.training.data import DataError
from recipes.speech.voices import digits, shd
from recipes.speech.voices.speech import (
    ENGLISH,
    GERMAN_DIGITS,
    SpeechEngine,
    Voice,
)
from tests.support.tone_engine import ToneEngine

SPEAKERS = tuple(f"tone-{letter}" for letter in "abcde")


def voices(engine: SpeechEngine, language: digits.Language) -> list[Voice]:
    """All of them speak English, all but one German."""
    read = ENGLISH if language == "en" else GERMAN_DIGITS
    return [Voice(v.speaker, v.code, 1, read) for v in engine.voices() if language == "en" or v.speaker != "tone-a"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    engine = ToneEngine(*SPEAKERS)
    reports = digits.speak(tmp_path, readers=[digits.Reader(engine, voices)])
    assert {language: report.total for language, report in reports.items()} == {"en": 50, "de": 40}
    assert {text.rstrip(".?,!") for text in engine.texts} == {*ENGLISH, *GERMAN_DIGITS}
    return tmp_path


def test_the_files_are_in_shds_layout(corpus: Path) -> None:
    report = shd.write_files(corpus, corpus)
    assert report.recordings == {"shd_train.h5": 70, "shd_test.h5": 20}
    assert report.speakers == {"shd_train.h5": 4, "shd_test.h5": 1}
    speakers: list[set[int]] = []
    for name, count in report.recordings.items():
        with h5py.File(corpus / name) as file:
            times, units = file["spikes/times"], file["spikes/units"]
            assert times.shape == units.shape == file["labels"].shape == file["extra/speaker"].shape == (count,)
            assert h5py.check_vlen_dtype(times.dtype) == np.float16
            assert h5py.check_vlen_dtype(units.dtype) == np.uint16
            assert [key.decode() for key in file["extra/keys"]] == list(digits.KEYS)
            assert [voice.decode() for voice in file["extra/voices"]] == list(SPEAKERS)
            assert all(np.all(np.diff(row) >= 0) for row in times[:])
            assert max(int(row.max()) for row in units[:]) < shd.ENCODER.channels == 700
            assert set(file["labels"][:].tolist()) == set(range(20))
            speakers.append(set(file["extra/speaker"][:].tolist()))
    assert speakers == [{0, 1, 3, 4}, {2}]
    assert not list(corpus.glob("*.part"))


def test_two_speakers_are_too_few(tmp_path: Path) -> None:
    digits.speak(tmp_path, readers=[digits.Reader(ToneEngine("tone-a", "tone-b"), voices)])
    with pytest.raises(DataError, match="too few"):
        shd.write_files(tmp_path, tmp_path)
