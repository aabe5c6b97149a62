"""Synthesise recordings with every text-to-speech engine at hand: 8 kHz mono 16-bit WAV, close-trimmed.

A speaker is one voice of one engine. Generated audio stays out of the repository: it is cheap to make again and its
licence depends on the engines that made it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from hetsyn_model.training.datasets.data import DataError
from recipes.speech.voices.programs import Espeak, Festival, Flite, Pico
from recipes.speech.voices.speech import Prosody, Samples, SpeechEngine, SpeechError, Voice

RATE_HZ: Final = 8000
WORKERS: Final = 2
# Telephone-band words shorter or longer than this are a synthesis accident, not a digit.
MIN_DURATION_S: Final = 0.15
MAX_DURATION_S: Final = 1.2
TRIM_BELOW_PEAK_DB: Final = 40.0
TRIM_FRAME_S: Final = 0.005
TRIM_KEEP_S: Final = 0.015
ATTEMPTS: Final = 4
PUNCTUATION: Final = ("", ".", ".", "?", ",", "!")
SHOW_EVERY: Final = 100  # recordings

# Never in the training corpus: `rms` is a natural voice (unit statistics of a real American
# speaker) that demos and evaluation play to the model, so the model is never trained on it.
HELD_OUT: Final = frozenset({"flite-rms"})

ENGINES: Final[tuple[SpeechEngine, ...]] = (Espeak(), Flite(), Festival(), Pico())


@dataclass(frozen=True)
class Take:
    """A recording to make.

    Attributes:
        label, number: the file's name has both.
        engine, voice: what speaks.
        attempts: what is read, and how. The first that gives a usable recording is kept.
    """

    label: str | int
    engine: SpeechEngine
    voice: Voice
    number: int
    attempts: Sequence[tuple[str, Prosody]]

    @property
    def file_name(self) -> str:
        """The name that the Free Spoken Digit Dataset gives a recording."""
        return f"{self.label}_{self.voice.speaker}_{self.number}.wav"


def installed(engines: Sequence[SpeechEngine] = ENGINES) -> list[SpeechEngine]:
    """Return the engines on this machine, and print how to install the others.

    Raises:
        DataError: there is none.
    """
    found = [engine for engine in engines if engine.installed()]
    missing = [f"{engine.name}: not installed: {engine.package}" for engine in engines if engine not in found]
    if not found:
        raise DataError("\n".join(["no text-to-speech engine found; install at least one:", *missing]))
    for line in missing:
        print(line, file=sys.stderr)
    return found


def some_prosody(rng: np.random.Generator) -> Prosody:
    return Prosody(float(rng.uniform(0.85, 1.25)), float(rng.uniform(0.9, 1.12)))


def digits(engines: Sequence[SpeechEngine]) -> list[Take]:
    """List the takes of each digit by each voice; a take depends on speaker, digit and number alone."""
    return [
        Take(digit, engine, voice, number, _attempts(voice, digit, number))
        for engine in engines
        for voice in engine.voices()
        if voice.speaker not in HELD_OUT
        for number in range(voice.takes)
        for digit in range(len(voice.words))
    ]


def _attempts(voice: Voice, digit: int, number: int) -> list[tuple[str, Prosody]]:
    key = hashlib.sha256(f"0/{voice.speaker}/{digit}/{number}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(key[:8], "little"))
    return [
        (voice.words[digit] + PUNCTUATION[rng.integers(len(PUNCTUATION))], some_prosody(rng)) for _ in range(ATTEMPTS)
    ]


def trim(samples: Samples, rate_hz: int) -> Samples:
    """Cut leading and trailing silence, keeping 15 ms on each side.

    Frames 40 dB below the loudest 5 ms frame are silence, so the level does not matter.

    Args:
        samples: [n].
        rate_hz: of the samples.

    Returns:
        The rest; nothing of an all-zero input.
    """
    frame = max(1, round(TRIM_FRAME_S * rate_hz))
    padded = np.pad(samples, (0, -len(samples) % frame))
    energy = np.square(padded.reshape(-1, frame)).mean(axis=1)
    loudest = energy.max(initial=0.0)
    if loudest == 0.0:
        return samples[:0]
    loud = np.flatnonzero(energy > loudest * 10 ** (-TRIM_BELOW_PEAK_DB / 10))
    keep = round(TRIM_KEEP_S * rate_hz)
    return samples[max(0, loud[0] * frame - keep) : (loud[-1] + 1) * frame + keep]


def prepare(samples: Samples, rate_hz: int) -> NDArray[np.int16]:
    """Turn an engine's samples into corpus audio: 8 kHz int16, trimmed, at their natural level.

    Args:
        samples: [n], in [-1, 1].
        rate_hz: of the samples.

    Returns:
        Samples [m].

    Raises:
        SpeechError: the result is silent, clipped, or not 0.15 to 1.2 s long.
    """
    if len(samples) == 0 or float(np.abs(samples).max()) < 0.01:
        raise SpeechError("silent")
    # One full-scale sample may be a normalised peak; several are a flat top.
    if np.count_nonzero(np.abs(samples) >= 0.999) > 3:
        raise SpeechError("clipped")
    narrow = trim(soxr.resample(samples, rate_hz, RATE_HZ, quality="VHQ"), RATE_HZ)
    duration_s = len(narrow) / RATE_HZ
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        raise SpeechError(f"{duration_s:.2f} s long")
    # The band limit can overshoot the engine's own peak: scale only then.
    narrow = narrow * min(1.0, 0.99 / float(np.abs(narrow).max()))
    return np.round(narrow * 32767.0).astype(np.int16)


def synthesise(out: Path, takes: Sequence[Take]) -> int:
    """Write recordings, and return how many are there. Existing files are kept, so it can restart."""
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for done, is_there in enumerate(pool.map(lambda take: _write(out / take.file_name, take), takes), 1):
            written += is_there
            if done % SHOW_EVERY == 0 or done == len(takes):
                print(f"{done} of {len(takes)} recordings", flush=True)
    return written


def _write(path: Path, take: Take) -> bool:
    """Tell whether the recording is there now; every attempt may fail."""
    if path.exists():
        return True
    for text, prosody in take.attempts:
        try:
            pcm = prepare(*take.engine.speak(text, take.voice, prosody))
        except SpeechError:
            continue
        partial = path.with_suffix(".part")  # an interrupted run leaves no half file for a restart to keep
        soundfile.write(partial, pcm, RATE_HZ, "PCM_16", format="WAV")
        partial.replace(path)
        return True
    return False
