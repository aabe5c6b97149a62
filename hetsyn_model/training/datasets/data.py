"""Reads recordings of spoken words from files and folders, and makes batches of spikes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from hetsyn_client.sources.formats import read_sound
from hetsyn_model.events import Events
from hetsyn_model.spec.errors import InputError, ModelError

NAME = re.compile(r"(?P<label>[^_]+)_(?P<speaker>[^_]+)_(?P<take>\d+)\.wav")


class DataError(ModelError):
    """Files that training cannot use; the message names the file and what is expected."""

    code = "bad-data"


@contextmanager
def raising_data_errors() -> Iterator[None]:
    """Turn what the readers of ``hetsyn_client`` raise into DataError."""
    try:
        yield
    except ModelError:
        raise
    except InputError as error:
        raise DataError(str(error)) from error


@dataclass(frozen=True)
class Recording:
    """One spoken word.

    Attributes:
        audio: float32 [samples] in [-1, 1] at the data set's rate.
        speaker: name of the speaker; empty if unknown.
        take: number among the speaker's recordings of the word; -1 if unknown.
    """

    audio: NDArray[np.float32]
    label: int
    speaker: str
    take: int

    @property
    def group(self) -> str:
        return self.speaker

    @property
    def length(self) -> int:
        return self.audio.size

    def identity(self) -> tuple[str, tuple[NDArray[np.float32], ...]]:
        return f"{self.label} {self.speaker} {self.take} {self.audio.size}", (self.audio,)


@raising_data_errors()
def read_wav(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """Read a recording: float32 [samples] in [-1, 1], channels averaged, resampled to ``rate_hz``."""
    if re.search("[\ud800-\udfff]", str(path)):  # the speaker is part of it
        raise DataError(f"{str(path)!r}: the name is not in UTF-8: rename the file")
    samples, own_rate = read_sound(path)
    mono = np.asarray(samples / 32768 if samples.ndim == 1 else samples.mean(1), np.float32)
    if mono.size and own_rate != rate_hz:  # two samples at 48 kHz are none at 8 kHz
        mono = np.asarray(soxr.resample(mono, own_rate, rate_hz), np.float32)
    if not mono.size:
        raise DataError(f"{path}: contains no samples")
    return mono


def read_folder(folder: Path, labels: Sequence[str], rate_hz: int) -> list[Recording]:
    """Read every ``{label}_{speaker}_{take}.wav`` of a folder, sorted by name; all labels have to be in ``labels``."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    recordings = []
    for path in sorted(folder.glob("*.wav")):
        match = NAME.fullmatch(path.name)
        if match is None:
            raise DataError(
                f"{path}: the name is not label_speaker_take.wav: rename it, or make a folder for each class"
            )
        if match["label"] not in labels:
            raise DataError(f"{path}: label {match['label']!r} is not one of {list(labels)}")
        recordings.append(
            Recording(read_wav(path, rate_hz), list(labels).index(match["label"]), match["speaker"], int(match["take"]))
        )
    if not recordings:
        raise DataError(f"{folder}: contains no label_speaker_take.wav")
    return recordings


class SpikeLists(Protocol):
    """Spikes by step, then unit."""

    @property
    def steps(self) -> NDArray[np.int32]: ...

    @property
    def units(self) -> NDArray[np.int32]: ...


def collate(samples: Sequence[SpikeLists], channels: int, steps: int) -> Events:
    """Combine recordings of spikes to events of [batch, steps, channels]."""
    row = np.concatenate([sample.steps.astype(np.int64) + index * steps for index, sample in enumerate(samples)])
    splits = np.zeros(len(samples) * steps + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=len(samples) * steps), out=splits[1:])
    units = np.concatenate([sample.units for sample in samples])
    return Events(
        len(samples), steps, channels, torch.from_numpy(splits), torch.from_numpy(units), torch.ones(units.size)
    )
