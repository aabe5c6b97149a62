"""The corpus writer with an engine made of tones: no text-to-speech program is needed."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hetsyn_model.training.datasets.data import DataError
from recipes.speech.voices import corpus as voices
from recipes.speech.voices.speech import Prosody, Samples, SpeechError, Voice

SOURCE_RATE_HZ = 16000


def tone(duration_s: float, *, rate_hz: int = SOURCE_RATE_HZ, level: float = 0.5) -> Samples:
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * 440.0 * times_s)).astype(np.float32)


class ToneEngine:
    """Says a digit as a tone between silences, its length the stretch; counts its calls."""

    name = "tone"
    package = "apt-get install tone-generator"

    def __init__(self, *speakers: str, present: bool = True, level: float = 0.5) -> None:
        self._speakers = speakers or ("tone-a", "tone-b")
        self._present = present
        self._level = level
        self.texts: list[str] = []

    def installed(self) -> bool:
        return self._present

    def voices(self) -> Sequence[Voice]:
        return [Voice(speaker, speaker, takes=2) for speaker in self._speakers]

    def speak(self, text: str, _voice: Voice, prosody: Prosody) -> tuple[Samples, int]:
        self.texts.append(text)
        silence = np.zeros(SOURCE_RATE_HZ // 4, dtype=np.float32)
        spoken = tone(0.4 * prosody.stretch, level=self._level)
        return np.concatenate([silence, spoken, silence]), SOURCE_RATE_HZ


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_writes_8_khz_mono_16_bit_files_named_digit_speaker_take(tmp_path: Path) -> None:
    assert voices.synthesise(tmp_path, voices.digits([ToneEngine()])) == 40

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        f"{digit}_{speaker_take}.wav"
        for digit in range(10)
        for speaker_take in ("tone-a_0", "tone-a_1", "tone-b_0", "tone-b_1")
    }
    with wave.open(str(tmp_path / "7_tone-a_1.wav")) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (8000, 1, 2)
        assert 0.15 <= reader.getnframes() / 8000 <= 1.2


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (tone(0.0), "silent"),
        (tone(0.5, level=0.001), "silent"),
        (np.clip(3 * tone(0.5), -1, 1), "clipped"),
        (tone(0.05), "0.05 s long"),
        (tone(2.0), "2.00 s long"),
    ],
)
def test_prepare_refuses_what_is_not_a_spoken_word(samples: Samples, reason: str) -> None:
    with pytest.raises(SpeechError, match=reason):
        voices.prepare(samples, SOURCE_RATE_HZ)


def test_restart_keeps_existing_files_and_fills_the_gaps(tmp_path: Path) -> None:
    voices.synthesise(tmp_path, voices.digits([ToneEngine()]))
    before = contents(tmp_path)
    (tmp_path / "4_tone-a_0.wav").unlink()
    (tmp_path / "5_tone-a_0.wav").write_bytes(b"kept as it is")

    engine = ToneEngine()
    assert voices.synthesise(tmp_path, voices.digits([engine])) == 40

    assert len(engine.texts) == 1
    assert contents(tmp_path) == before | {"5_tone-a_0.wav": b"kept as it is"}


def test_no_engine_at_all_says_what_to_install() -> None:
    with pytest.raises(DataError, match="apt-get install tone-generator"):
        voices.installed([ToneEngine(present=False)])


def test_held_out_speakers_never_enter_the_corpus() -> None:
    takes = voices.digits([ToneEngine("flite-rms", "tone-a")])
    assert {take.voice.speaker for take in takes} == {"tone-a"}


def test_progress_is_a_line_of_its_own_at_every_hundredth_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = ToneEngine(*(f"tone-{letter}" for letter in "abcdef"))
    voices.synthesise(tmp_path, voices.digits([engine]))
    assert capsys.readouterr().out == "100 of 120 recordings\n120 of 120 recordings\n"
