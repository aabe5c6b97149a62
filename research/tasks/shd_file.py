"""The files of the Spiking Heidelberg Digits, read as the paper's reference reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from hetsyn_model.training.datasets.data import DataError

SHD_CHANNELS: Final = 700
SHD_STEPS: Final = 250
SHD_BIN_S: Final = 4e-3
TRAIN_FILE: Final = "shd_train.h5"
TEST_FILE: Final = "shd_test.h5"
KEYS: Final = (  # by label
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
)


@dataclass(frozen=True)
class SpikeRecording:
    """One SHD sample: its events, sorted by step, then unit; no repeats.

    Attributes:
        steps: step of each event.
        units: channel of each event.
        label: class.
        speaker: number.
    """

    steps: NDArray[np.int32]
    units: NDArray[np.int32]
    label: int
    speaker: int


def read_shd(path: Path) -> list[SpikeRecording]:
    """Read an SHD HDF5 file, binned as the paper's reference does.

    250 bins of 4 ms, bin b holds times in ((b-1) * 4 ms, b * 4 ms]; repeats collapse to one; channel
    700 - unit, unit 0 dropped; times above 0.996 s dropped.

    Raises:
        DataError: not an HDF5 file in SHD's layout, or one with other sounds.
    """
    try:
        with h5py.File(path, "r") as file:
            if "source" in file.attrs:  # SHD has no such attribute; files of synthesised voices have it
                raise DataError(f"{path}: not SHD, but made by {file.attrs['source']}: https://zenkelab.org has SHD")
            times, units, labels = file["spikes/times"][:], file["spikes/units"][:], file["labels"][:]
            speakers = file["extra/speaker"][:]
    except (OSError, KeyError) as error:
        raise DataError(
            f"{path}: not an SHD file (spikes/times, spikes/units, labels, extra/speaker): {error}"
        ) from error
    samples, is_there = [], np.zeros((SHD_STEPS + 1) * SHD_CHANNELS, np.bool_)
    for time_s, unit, label, speaker in zip(times, units, labels, speakers, strict=True):
        if unit.size and not 0 <= unit.min() <= unit.max() <= SHD_CHANNELS:
            raise DataError(f"{path}: units from {unit.min()} to {unit.max()}: SHD has 0 to {SHD_CHANNELS - 1}")
        step = _bins_of_float16()[time_s.view(np.uint16)] if time_s.dtype == np.float16 else _bins(time_s)
        cells = (step * SHD_CHANNELS + SHD_CHANNELS - unit)[unit > 0]
        is_there[cells] = True  # sorts and drops repeats in a fifth of the time of np.unique
        steps, channels = np.divmod(np.flatnonzero(is_there[: SHD_STEPS * SHD_CHANNELS]).astype(np.int32), SHD_CHANNELS)
        is_there[cells] = False
        samples.append(SpikeRecording(steps, channels, int(label), int(speaker)))
    return samples


def _bins(time_s: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    """Compute the bin of each time; SHD_STEPS for those after the last."""
    wide = np.nan_to_num(time_s.astype(np.float64), nan=np.inf).clip(min=0.0)
    is_inside = wide <= (SHD_STEPS - 1) * SHD_BIN_S
    bins = np.ceil(np.where(is_inside, wide, 0.0) / SHD_BIN_S - 1e-9)
    return np.where(is_inside, bins, SHD_STEPS).astype(np.int32)


@cache
def _bins_of_float16() -> NDArray[np.int32]:
    """Compute the bin of every float16, by its bits: SHD stores times so, and there are only 65,536 of them."""
    return _bins(np.arange(2**16, dtype=np.uint16).view(np.float16))
