"""Data sets: folders of spoken-word recordings, and SHD's HDF5 files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from hetsyn_model.events import Events

_NAME = re.compile(r"(?P<label>[^_]+)_(?P<speaker>[^_]+)_(?P<take>\d+)\.wav")
SHD_CHANNELS, SHD_STEPS, SHD_BIN_S = 700, 250, 4e-3


class DataError(ValueError):
    """Files that are not what training needs; the message names the file and what is expected."""


@dataclass(frozen=True)
class Recording:
    """One spoken word.

    Attributes:
        audio: float32 [samples] in [-1, 1] at the data set's rate.
        label: class of the word.
        speaker: who says it; empty where nobody says.
        take: number among the speaker's recordings of the word; -1 where there is none.
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


def read_wav(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """A recording of 16-bit PCM, its channels averaged.

    Args:
        path: of the file.
        rate_hz: sample rate of the result; a file of another rate is resampled.

    Returns:
        float32 [samples] in [-1, 1].

    Raises:
        DataError: not a 16-bit PCM wav, or empty.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.subtype != "PCM_16":
                raise DataError(f"{path}: is {file.subtype_info}: convert it to 16-bit PCM")
            own_rate, samples = file.samplerate, file.read(dtype="float32", always_2d=True)
    except UnicodeEncodeError as error:
        raise DataError(f"{str(path)!r}: the name is not in UTF-8: rename the file") from error
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: not a PCM wav file ({error.error_string})") from error
    mono = samples.mean(1, dtype=np.float32) if samples.size else np.zeros(0, np.float32)
    if mono.size and own_rate != rate_hz:  # two samples of 48 kHz are none of 8 kHz
        mono = np.asarray(soxr.resample(mono, own_rate, rate_hz), np.float32)
    if not mono.size:
        raise DataError(f"{path}: contains no samples")
    return mono


def read_folder(folder: Path, labels: Sequence[str], rate_hz: int) -> list[Recording]:
    """Every ``{label}_{speaker}_{take}.wav`` of a folder, sorted by name.

    Raises:
        DataError: no such folder, no such files, or a label that is not in ``labels``.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    recordings = []
    for path in sorted(folder.glob("*.wav")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise DataError(f"{path}: the name is not label_speaker_take.wav")
        if match["label"] not in labels:
            raise DataError(f"{path}: label {match['label']!r} is not one of {list(labels)}")
        recordings.append(
            Recording(read_wav(path, rate_hz), list(labels).index(match["label"]), match["speaker"], int(match["take"]))
        )
    if not recordings:
        raise DataError(f"{folder}: contains no label_speaker_take.wav")
    return recordings


def split_takes(recordings: Iterable[Recording], every: int) -> tuple[list[Recording], list[Recording]]:
    """Training and validation recordings: of each speaker and label, each ``every``-th take validates."""
    train: list[Recording] = []
    validation: list[Recording] = []
    for recording in recordings:
        (validation if recording.take % every == 0 else train).append(recording)
    return train, validation


@dataclass(frozen=True)
class SpikeRecording:
    """One SHD sample: its events, sorted by step, then unit; no repeats.

    Attributes:
        steps: step of each event.
        units: channel of each event.
        label: class.
        speaker: number; -1 where the file does not say.
    """

    steps: NDArray[np.int32]
    units: NDArray[np.int32]
    label: int
    speaker: int = -1


def read_shd(path: Path) -> list[SpikeRecording]:
    """An SHD HDF5 file, binned as the paper's reference does.

    250 bins of 4 ms, bin b holds times in ((b-1) * 4 ms, b * 4 ms]; repeats collapse to one; channel
    700 - unit, unit 0 dropped; times above 0.996 s dropped.

    Raises:
        DataError: not an HDF5 file in SHD's layout.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            times, units, labels = file["spikes/times"][:], file["spikes/units"][:], file["labels"][:]
            speakers = file["extra/speaker"][:] if "extra/speaker" in file else np.full(len(labels), -1)
    except (OSError, KeyError) as error:
        raise DataError(f"{path}: not an SHD file (spikes/times, spikes/units, labels): {error}") from error
    samples = []
    for time_s, unit, label, speaker in zip(times, units, labels, speakers, strict=True):
        wide = np.asarray(time_s, np.float64)  # stored as float16: compare bin edges in float64
        is_inside = (wide <= (SHD_STEPS - 1) * SHD_BIN_S) & (unit > 0)
        step = np.ceil(wide[is_inside] / SHD_BIN_S - 1e-9).astype(np.int64)
        cells = np.unique(step * SHD_CHANNELS + (SHD_CHANNELS - unit[is_inside].astype(np.int64)))
        samples.append(
            SpikeRecording(
                (cells // SHD_CHANNELS).astype(np.int32),
                (cells % SHD_CHANNELS).astype(np.int32),
                int(label),
                int(speaker),
            )
        )
    return samples


class SpikeLists(Protocol):
    """Spikes by step, then unit."""

    @property
    def steps(self) -> NDArray[np.int32]: ...

    @property
    def units(self) -> NDArray[np.int32]: ...


def collate(samples: Sequence[SpikeLists], channels: int = SHD_CHANNELS, steps: int = SHD_STEPS) -> Events:
    """A batch of spike recordings as events, [batch, steps, channels]."""
    row = np.concatenate([sample.steps.astype(np.int64) + index * steps for index, sample in enumerate(samples)])
    splits = np.zeros(len(samples) * steps + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=len(samples) * steps), out=splits[1:])
    units = np.concatenate([sample.units for sample in samples])
    return Events(
        len(samples), steps, channels, torch.from_numpy(splits), torch.from_numpy(units), torch.ones(units.size)
    )
