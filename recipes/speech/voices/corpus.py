"""Synthesise a corpus of the spoken English digits with every text-to-speech engine at hand.

A speaker is one voice of one engine. Every engine that is installed contributes its voices, the others are
reported with the package that would bring them. The audio is written as 8 kHz mono 16-bit WAV,
``{digit}_{speaker}_{take}.wav``, close-trimmed. Generated audio stays out of
the repository: it is cheap to make again and its licence depends on the engines that made it.
"""

from __future__ import annotations

import hashlib
import wave
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
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

# Never in the training corpus: `rms` is a natural voice (unit statistics of a real American
# speaker) that demos and evaluation play to the model, so the model is never trained on it.
HELD_OUT: Final = frozenset({"flite-rms"})

ENGINES: Final[tuple[SpeechEngine, ...]] = (Pico(), Flite(), Festival(), Espeak())


@dataclass(frozen=True)
class CorpusReport:
    """The corpus after a run.

    Attributes:
        files_by_engine: number of the wanted files that exist now, by engine.
        files_by_speaker: the same by speaker.
        missing: how to install each engine that is not installed, by engine.
        made: number of files that this run wrote.
        rejected: names of files that failed the checks in every attempt.
    """

    files_by_engine: Mapping[str, int]
    files_by_speaker: Mapping[str, int]
    missing: Mapping[str, str]
    made: int
    rejected: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(self.files_by_engine.values())


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


def synthesise(
    out_dir: Path,
    *,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    available: Sequence[SpeechEngine] = ENGINES,
) -> CorpusReport:
    """Write the corpus and report it. Existing files are kept, so it can restart.

    A file's content depends on seed, speaker, word and take alone.

    Args:
        out_dir: folder of the files.
        seed: of pitch, tempo and punctuation.
        on_progress: called with (done, wanted).
        available: the engines to choose from.

    Returns:
        The corpus now.

    Raises:
        DataError: no engine is installed.
    """
    present = [engine for engine in available if engine.installed()]
    missing = {engine.name: engine.package for engine in available if engine not in present}
    if not present:
        hints = "\n".join(f"  {name}: {package}" for name, package in missing.items())
        raise DataError(f"no text-to-speech engine found; install at least one:\n{hints}")
    out_dir.mkdir(parents=True, exist_ok=True)
    jobs = [
        (engine, voice, label, text, take)
        for engine in present
        for voice in engine.voices()
        if voice.speaker not in HELD_OUT
        for take in range(voice.takes)
        for label, text in enumerate(voice.words)
    ]
    made = 0
    rejected: list[str] = []
    files_by_engine: Counter[str] = Counter()
    files_by_speaker: Counter[str] = Counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = {pool.submit(_make, out_dir, seed, *job): job for job in jobs}
        for done, future in enumerate(as_completed(futures), start=1):
            engine, voice, label, _, take = futures[future]
            written = future.result()
            if written is None:
                rejected.append(file_name(label, voice.speaker, take))
            else:
                made += written
                files_by_engine[engine.name] += 1
                files_by_speaker[voice.speaker] += 1
            if on_progress is not None:
                on_progress(done, len(jobs))
    rejected.sort()
    return CorpusReport(files_by_engine, files_by_speaker, missing, made, tuple(rejected))


def file_name(label: str | int, speaker: str, take: int) -> str:
    """The name of a recording's file, as the Free Spoken Digit Dataset has it."""
    return f"{label}_{speaker}_{take}.wav"


def write_wav(path: Path, pcm: NDArray[np.int16]) -> None:
    """Write a recording aside and rename it, so that an interrupted run leaves no half file for a restart to keep."""
    partial = path.with_suffix(".part")
    with wave.open(str(partial), "wb") as writer:
        writer.setparams((1, 2, RATE_HZ, len(pcm), "NONE", "not compressed"))
        writer.writeframes(pcm.astype("<i2").tobytes())
    partial.replace(path)


def _make(
    out_dir: Path, seed: int, engine: SpeechEngine, voice: Voice, label: int, text: str, take: int
) -> bool | None:
    """Write one file: True when made, False when it was there, None when every attempt failed."""
    path = out_dir / file_name(label, voice.speaker, take)
    if path.exists():
        return False
    key = hashlib.sha256(f"{seed}/{voice.speaker}/{label}/{take}".encode()).digest()
    draw = np.random.default_rng(int.from_bytes(key[:8], "little"))
    for _ in range(ATTEMPTS):
        read = text + PUNCTUATION[draw.integers(len(PUNCTUATION))]
        prosody = Prosody(float(draw.uniform(0.85, 1.25)), float(draw.uniform(0.9, 1.12)))
        try:
            pcm = prepare(*engine.speak(read, voice, prosody))
        except SpeechError:
            continue
        write_wav(path, pcm)
        return True
    return None
