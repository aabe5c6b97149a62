"""Adds classes for input that is no word of the data: ``unknown``, other speech, and ``silence``, quiet and noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hetsyn_model.spec import SpecError
from hetsyn_model.training.datasets.data import NAME, DataError, Recording, read_wav
from hetsyn_model.training.datasets.examples import Examples, Part
from hetsyn_model.training.datasets.split import SplitSpec

UNKNOWN: Final = "unknown"
SILENCE: Final = "silence"
NOISES: Final = 10  # groups of noise, so that a split by group has some on every side
WHOLLY_QUIET: Final = 0.1  # share of the examples of silence that are zeros
LEVEL_DB: Final = (-80.0, -20.0)  # the noise's standard deviation relative to full scale
STEEPEST: Final = 2.0  # slope of the noise's power over frequency: white 0, pink 1, brown 2
SWELL_DB: Final = 6.0  # standard deviation of the noise's level at four points
QUIETER_DB: Final = 20.0  # a piece this far below the loudest of its file is a pause

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class OthersSpec:
    """Classes to add to data of sound that lack them.

    Attributes:
        speech: folder of wav files without any word of the data, at any depth; pieces of them become the class
            ``unknown``. Empty: none.
        unknown: most examples of ``unknown``, as a multiple of the data's mean class.
        silence: examples of ``silence``, quiet and noise, as a multiple of the data's mean class; 0: none.
        piece_s: shortest and longest example. Longer speech is cut at random.
        seed: for cuts and noise; apart from the training's seed, so that all seeds have the same examples.
    """

    speech: str = ""
    unknown: float = 3.0
    silence: float = 0.0
    piece_s: tuple[float, float] = (0.3, 0.9)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.unknown > 0 or self.silence < 0:
            raise SpecError(f"others: unknown {self.unknown} is not above 0, or silence {self.silence} is below 0")
        low, high = self.piece_s
        if not 0.1 <= low <= high <= 5:
            raise SpecError(f"others.piece_s: {low} to {high} is not from 0.1 to 5 s, the shortest first")
        if not 0 <= self.seed < 2**32:
            raise SpecError(f"others.seed: {self.seed} is not from 0 to {2**32 - 1}")


def with_others(examples: Examples, spec: OthersSpec, rate_hz: int, split: SplitSpec) -> Examples:
    """Append examples of the added classes; the same for the same files and specs.

    Args:
        examples: of sound, unless nothing is added.
        split: shares of the added examples that validate and test, if the data have their own division.
    """
    added = [label for label, wanted in ((UNKNOWN, spec.speech), (SILENCE, spec.silence)) if wanted]
    if not added:
        return examples
    if examples.kind != "audio":
        raise DataError(
            f"others: {examples.source} contains {examples.kind}, and only sound can have them: leave it out"
        )
    twice = [label for label in added if label in examples.labels]
    if twice:
        key = "speech" if twice[0] == UNKNOWN else "silence"
        raise DataError(f"others.{key}: {examples.source} has a class {twice[0]!r} already: leave the key out")
    mean = len(examples.items) / max(1, len(examples.labels))
    has_groups = all(item.group for item in examples.items)
    recordings: list[Recording] = []
    for index, label in enumerate(added):
        rng = np.random.default_rng([spec.seed, 0x07E5, label == SILENCE])
        if label == UNKNOWN:
            every = list(_pieces(Path(spec.speech), spec.piece_s, rate_hz, rng))
            chosen = sorted(rng.permutation(len(every))[: max(1, round(spec.unknown * mean))].tolist())
            found = [every[number] for number in chosen]
        else:
            count = max(NOISES, round(spec.silence * mean))
            found = [(f"noise-{n % NOISES}", _noise(spec.piece_s, rate_hz, rng)) for n in range(count)]
        takes: Counter[str] = Counter()
        for group, audio in found:
            number = len(examples.labels) + index
            recordings.append(Recording(audio, number, group if has_groups else "", takes[group]))
            takes[group] += 1
    parts = None
    if examples.parts is not None:
        parts = examples.parts + _parts(recordings, split, np.random.default_rng([spec.seed, 0x5B11]))
    labels = (*examples.labels, *added)
    return replace(examples, items=(*examples.items, *recordings), labels=labels, parts=parts)


def _pieces(
    folder: Path, piece_s: tuple[float, float], rate_hz: int, rng: np.random.Generator
) -> Iterator[tuple[str, Audio]]:
    """Yield pieces of a folder's recordings, each with its speaker, or else its file's name."""
    if not folder.is_dir():
        raise DataError(f"others.speech: {folder} is no folder: give one of wav files")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".wav" and path.name[0] != "."]
    if not paths:
        raise DataError(f"others.speech: {folder} has no wav files: give a folder of other speech")
    for path in paths:
        match = NAME.fullmatch(f"{path.stem}.wav")
        group = match["speaker"] if match else path.stem
        for piece in _cut(read_wav(path, rate_hz), piece_s, rate_hz, rng):
            yield group, piece


def _cut(audio: Audio, piece_s: tuple[float, float], rate_hz: int, rng: np.random.Generator) -> list[Audio]:
    """Cut a recording into pieces, without its pauses."""
    shortest, longest = (round(duration_s * rate_hz) for duration_s in piece_s)
    pieces, at = [], 0
    while audio.size - at > longest:
        length = int(rng.integers(shortest, longest + 1))
        pieces.append(audio[at : at + length])
        at += length
    if not pieces or audio.size - at >= shortest:
        pieces.append(audio[at:])
    power = np.array([np.square(piece, dtype=np.float64).mean() for piece in pieces])
    loud = power >= power.max() * 10 ** (-QUIETER_DB / 10)
    return [piece for piece, is_loud in zip(pieces, loud, strict=True) if is_loud and piece.any()]


def _noise(piece_s: tuple[float, float], rate_hz: int, rng: np.random.Generator) -> Audio:
    """Make quiet, or noise of random colour and level that swells and fades."""
    samples = round(rng.uniform(*piece_s) * rate_hz)
    if rng.random() < WHOLLY_QUIET:
        return np.zeros(samples, np.float32)
    spectrum = np.fft.rfft(rng.normal(size=samples))
    noise = np.fft.irfft(spectrum / np.arange(1.0, spectrum.size + 1) ** (rng.uniform(0, STEEPEST) / 2), samples)
    swell_db = np.interp(np.linspace(0, 3, samples), np.arange(4), rng.normal(0.0, SWELL_DB, 4))
    level = 10 ** ((rng.uniform(*LEVEL_DB) + swell_db) / 20)
    return np.asarray(np.clip(level * noise / noise.std(), -1.0, 1.0), np.float32)


def _parts(recordings: list[Recording], split: SplitSpec, rng: np.random.Generator) -> tuple[Part, ...]:
    """Draw the use of each recording, by the shares."""
    draws = rng.random(len(recordings)).tolist()
    return tuple(
        "validation" if draw < split.validation else "test" if draw < split.validation + split.test else "train"
        for draw in draws
    )
