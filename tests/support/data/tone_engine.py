"""A speech engine made of tones: no text-to-speech program is needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recipes.speech.voices.speech import Prosody, Samples, Voice

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
