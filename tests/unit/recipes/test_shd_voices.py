"""German and English digits in SHD's form, spoken by an engine made of tones."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from hetsyn_model.encoder import Encoder
from hetsyn_model.training.data import DataError, read_wav
from recipes.speech.voices import digits, shd
from recipes.speech.voices.commands import speak_shd
from recipes.speech.voices.programs import Espeak, Pico
from recipes.speech.voices.shd_file import read_shd
from recipes.speech.voices.speech import (
    ENGLISH,
    GERMAN,
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


def test_twenty_classes_are_ten_english_digits_then_ten_german_ones() -> None:
    assert digits.KEYS[7] == "seven"
    assert digits.KEYS[17] == "sieben"
    assert len(digits.KEYS) == len(set(digits.KEYS)) == 20
    assert not set(GERMAN_DIGITS) & set(GERMAN)  # German words, and English ones with a German accent


def test_every_espeak_variant_speaks_both_languages_and_is_one_person() -> None:
    english, german = (digits._espeak(Espeak(), language) for language in digits.LANGUAGES)
    assert [voice.speaker for voice in english] == [voice.speaker for voice in german]
    assert len({voice.speaker for voice in german}) == len(german) >= 30
    assert all(voice.words == ENGLISH and voice.code.startswith("en") for voice in english)
    assert all(voice.words == GERMAN_DIGITS and voice.code.startswith("de+") for voice in german)
    assert all(re.fullmatch(r"[a-z0-9-]+", voice.speaker) for voice in german)


def test_picos_german_reads_german() -> None:
    (german,) = digits._pico(Pico(), "de")
    assert (german.speaker, german.words) == ("nanotts-de", GERMAN_DIGITS)
    assert {voice.speaker for voice in digits._pico(Pico(), "en")} == {"nanotts-us", "nanotts-gb"}


def test_the_same_person_in_two_programs_is_not_on_both_sides() -> None:
    assert digits.person("flite-kal16") == digits.person("festival-kal")
    assert digits.person("espeak-f1") == "espeak-f1"
    held_out = digits.is_held_out(["e", "b", "a", "c", "d", "c"])
    assert [name for name, is_test in held_out.items() if is_test] == ["c"]


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


def test_the_file_has_the_encoders_spikes(corpus: Path) -> None:
    """A step later and from the other end, as SHD is read; its unit 0 is lost."""
    shd.write_files(corpus, corpus)
    (recording,) = [r for r in read_shd(corpus / "shd_test.h5") if r.label == 13]
    audio = read_wav(corpus / "de/3_tone-c_0.wav", 8000)
    samples = np.zeros((-(-audio.size // 32) + shd.TAIL_STEPS) * 32)
    samples[: audio.size] = audio
    encoder = Encoder(shd.ENCODER)
    spikes, _ = encoder.step(torch.from_numpy(samples)[None], encoder.initial_state(1))
    steps, channels = spikes[0, :249].numpy().nonzero()
    encoded = {(step + 1, 700 - channel) for step, channel in zip(steps.tolist(), channels.tolist(), strict=True)}
    read = set(zip(recording.steps.tolist(), recording.units.tolist(), strict=True))
    assert read == {cell for cell in encoded if cell[1] < 700}
    assert len(read) > 20
    assert recording.speaker == 2


def test_every_recording_is_of_its_own_file(corpus: Path) -> None:
    shd.write_files(corpus, corpus)
    train = read_shd(corpus / "shd_train.h5")
    assert Counter(r.speaker for r in train) == {0: 10, 1: 20, 3: 20, 4: 20}  # tone-a knows no German
    assert all(r.label < 10 for r in train if r.speaker == 0)


def test_two_speakers_are_too_few(tmp_path: Path) -> None:
    digits.speak(tmp_path, readers=[digits.Reader(ToneEngine("tone-a", "tone-b"), voices)])
    with pytest.raises(DataError, match="too few"):
        shd.write_files(tmp_path, tmp_path)


def test_without_an_engine_the_error_names_a_package(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tone-generator"):
        digits.speak(tmp_path, readers=[digits.Reader(ToneEngine(present=False), voices)])


def test_the_command_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readers = [digits.Reader(ToneEngine(*SPEAKERS), voices)]
    monkeypatch.setattr(digits, "speak", partial(digits.speak, readers=readers))
    speak_shd(tmp_path, 0)
    assert f"{tmp_path / 'shd_test.h5'}: 20 recordings of 1 speakers" in capsys.readouterr().out
    assert (tmp_path / "shd_test.h5").exists()
