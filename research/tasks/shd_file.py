"""The files of the Spiking Heidelberg Digits, read as the paper's reference reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import SpikeStream

SHD_CHANNELS: Final = 700
SHD_STEPS: Final = 250
SHD_BIN_S: Final = 4e-3
TRAIN_FILE: Final = "shd_train.h5"
TEST_FILE: Final = "shd_test.h5"
KEYS: Final = (  # by label
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
)


def read_shd(path: Path) -> list[SpikeStream]:
    """Read an SHD HDF5 file, binned as the paper's reference does; groups are the numbers of speakers.

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
    streams = []
    for time_s, unit, label, speaker in zip(times, units, labels, speakers, strict=True):
        if unit.size and not 0 <= unit.min() <= unit.max() <= SHD_CHANNELS:
            raise DataError(f"{path}: units from {unit.min()} to {unit.max()}: SHD has 0 to {SHD_CHANNELS - 1}")
        step = _bins(time_s)
        kept = (step < SHD_STEPS) & (unit > 0)
        streams.append(SpikeStream.of(step[kept], SHD_CHANNELS - unit[kept], SHD_STEPS, int(label), str(speaker)))
    return streams


def _bins(time_s: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
    """Compute the bin of each time; SHD_STEPS for those after the last."""
    wide = np.nan_to_num(time_s.astype(np.float64), nan=np.inf).clip(min=0.0)
    is_inside = wide <= (SHD_STEPS - 1) * SHD_BIN_S
    bins = np.ceil(np.where(is_inside, wide, 0.0) / SHD_BIN_S - 1e-9)
    return np.where(is_inside, bins, SHD_STEPS).astype(np.int32)
