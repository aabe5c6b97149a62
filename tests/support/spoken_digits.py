"""A folder of spoken digits, made of tones."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np


def write_words(folder: Path, speakers: tuple[str, ...]) -> Path:
    """Digits as tones: takes 0 (validation) and 1 of each speaker."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for speaker in speakers:
        for digit in range(10):
            for take in (0, 1):
                n = np.arange(1200)
                tone = np.sin(2 * np.pi * (250 + 330 * digit) * n / 8000) * np.hanning(n.size)
                pcm = (12000 * tone + 30 * rng.normal(size=n.size)).astype("<i2")
                with wave.open(str(folder / f"{digit}_{speaker}_{take}.wav"), "wb") as file:
                    file.setparams((1, 2, 8000, n.size, "NONE", "not compressed"))
                    file.writeframes(pcm.tobytes())
    return folder
