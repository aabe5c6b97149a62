"""The people of Google Speech Commands, divided once: who trains, who validates, who tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import soundfile
import soxr

from hetsyn_model.training.datasets.data import DataError

Part = Literal["train", "validation", "test"]
PARTS: Final[tuple[Part, ...]] = ("train", "validation", "test")
DIVISION: Final = Path(__file__).with_name("results") / "people.json"

# SPEAKER_nohash_TAKE.wav, as Google Speech Commands has it, or SPEAKER_TAKE_SOURCE.flac
_NAME = re.compile(r"(?P<speaker>[0-9a-f]+)_(?:nohash_)?(?P<take>\d+)(?:_\w+)?\.(?:flac|wav)")


@dataclass(frozen=True)
class Division:
    """Who is for what.

    Attributes:
        train: speakers to train on.
        validation: speakers who choose epochs, seeds and thresholds.
        test: speakers who judge, once.
        held_out_words: words that nobody trains on; they show how words are refused that no network has heard.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    held_out_words: tuple[str, ...]

    @staticmethod
    def load(path: Path = DIVISION) -> Division:
        return Division(**{name: tuple(names) for name, names in json.loads(path.read_text()).items()})

    def part_of(self, speaker: str) -> Part | None:
        """Return what a speaker is for; None for one who is not listed."""
        return next((part for part in PARTS if speaker in getattr(self, part)), None)


@dataclass(frozen=True)
class File:
    """A recording on disk."""

    path: Path
    word: str
    speaker: str
    take: int


def files(folder: Path) -> list[File]:
    """List the recordings of a folder, by word, then name. Folders with an underscore in front have no words.

    Raises:
        DataError: there are none, or a file has another name.
    """
    found = []
    for path in sorted(path for end in ("flac", "wav") for path in folder.glob(f"[!_]*/*.{end}")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise DataError(f"{path}: the name is not SPEAKER_nohash_TAKE.wav")
        found.append(File(path, path.parent.name, match["speaker"], int(match["take"])))
    if not found:
        raise DataError(f"{folder}: contains no WORD/SPEAKER_nohash_TAKE.wav: put Google Speech Commands there")
    return found


def read_mono(path: Path, rate_hz: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Read a mono recording at a rate, float32 [samples]."""
    audio, own_rate_hz = soundfile.read(path, dtype="float32")
    if own_rate_hz != rate_hz:
        audio = soxr.resample(audio, own_rate_hz, rate_hz)
    return np.asarray(audio, np.float32)
