"""Synthesise a corpus of the spoken English digits, or of other words, with every text-to-speech engine at hand.

A speaker is one voice of one engine. Every engine that is installed contributes its voices, the others are
reported with the package that would bring them. The audio is written as 8 kHz mono 16-bit WAV,
``{digit}_{speaker}_{take}.wav``, close-trimmed; another word stands in place of the digit. Generated audio stays out of
the repository: it is cheap to make again and its licence depends on the engines that made it. ``phonemes.csv`` in the
same folder has the phonemes of each recording whose engine reads phonemes.
"""

from __future__ import annotations

import csv
import hashlib
import io
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

from hetsyn_model.training.voices.kokoro import Kokoro
from hetsyn_model.training.voices.programs import Espeak, Festival, Flite, Pico
from hetsyn_model.training.voices.speech import ENGLISH, Prosody, Samples, SpeechEngine, SpeechError, Voice

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

PHONEMES: Final = "phonemes.csv"


def engines_with(accents: int = 0, seed: int = 0) -> tuple[SpeechEngine, ...]:
    """Every engine, with so many second-language accents of each of Kokoro's styles besides the voices as they are.

    Raises:
        RuntimeError: Kokoro, which alone has these accents, is not installed.
    """
    kokoro = Kokoro(accents, seed)
    if accents and not kokoro.installed():
        raise RuntimeError(f"accents need Kokoro, which is not installed: {kokoro.package}")
    return (kokoro, Pico(), Flite(), Festival(), Espeak())


ENGINES: Final = engines_with()


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
    engines: Sequence[str] | None = None,
    takes_scale: float = 1.0,
    on_progress: Callable[[int, int], None] | None = None,
    held_out: bool = False,
    available: Sequence[SpeechEngine] = ENGINES,
    words: Sequence[str] = (),
) -> CorpusReport:
    """Write the corpus and report it. Existing files are kept, so it can restart.

    A file's content depends on seed, speaker, word and take alone.

    Args:
        out_dir: folder of the files.
        seed: of pitch, tempo and punctuation.
        engines: names to use; all by default.
        takes_scale: factor on every voice's takes (one at least).
        on_progress: called with (done, wanted).
        held_out: write the speakers of HELD_OUT instead of all the others.
        available: the engines to choose from.
        words: English words to read in place of the digits, once a voice; only the voices that read English as it is
            written do.

    Returns:
        The corpus now.

    Raises:
        ValueError: an engine of that name is not available.
        RuntimeError: no engine is installed.
    """
    unknown = set(engines or ()) - {engine.name for engine in available}
    if unknown:
        raise ValueError(f"unknown engines: {', '.join(sorted(unknown))}")
    wanted = [engine for engine in available if engines is None or engine.name in engines]
    present = [engine for engine in wanted if engine.installed()]
    missing = {engine.name: engine.package for engine in wanted if engine not in present}
    if not present:
        hints = "\n".join(f"  {name}: {package}" for name, package in missing.items())
        raise RuntimeError(f"no text-to-speech engine found; install at least one:\n{hints}")
    out_dir.mkdir(parents=True, exist_ok=True)
    jobs = [
        (engine, voice, label, text, take)
        for engine in present
        for voice in engine.voices()
        if (voice.speaker in HELD_OUT) == held_out and (not words or voice.words == ENGLISH)
        for take in range(1 if words else max(1, round(voice.takes * takes_scale)))
        for label, text in ([(word, word) for word in words] or [(str(n), text) for n, text in enumerate(voice.words)])
    ]
    # before the files, so that a run that is stopped leaves none without its phonemes; of earlier runs' files too
    phonemes = read_phonemes(out_dir) | {
        file_name(label, voice.speaker, take): text for _, voice, label, text, take in jobs if voice.phonemes
    }
    _write_phonemes(out_dir, phonemes)
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
    _write_phonemes(out_dir, {name: of for name, of in phonemes.items() if (out_dir / name).exists()})
    return CorpusReport(files_by_engine, files_by_speaker, missing, made, tuple(rejected))


def file_name(label: str, speaker: str, take: int) -> str:
    """The name of a recording's file, as the Free Spoken Digit Dataset has it."""
    return f"{label}_{speaker}_{take}.wav"


def read_phonemes(folder: Path) -> dict[str, str]:
    """The phonemes of a corpus's recordings by the files' names, as far as they are known."""
    path = folder / PHONEMES
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["phonemes"] for row in csv.DictReader(file)}


def _write_phonemes(folder: Path, phonemes: Mapping[str, str]) -> None:
    path = folder / PHONEMES
    if not phonemes and not path.exists():
        return
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("file", "phonemes"), *sorted(phonemes.items())])
    partial = folder / f"{PHONEMES}.part"
    partial.write_text(text.getvalue(), encoding="utf-8")
    partial.replace(path)


def _make(
    out_dir: Path, seed: int, engine: SpeechEngine, voice: Voice, label: str, text: str, take: int
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
        # Written aside and renamed: an interrupted run leaves no half file that a restart keeps.
        partial = path.with_suffix(".part")
        with wave.open(str(partial), "wb") as writer:
            writer.setparams((1, 2, RATE_HZ, len(pcm), "NONE", "not compressed"))
            writer.writeframes(pcm.astype("<i2").tobytes())
        partial.replace(path)
        return True
    return None
