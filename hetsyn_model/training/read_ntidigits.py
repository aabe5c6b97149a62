"""N-TIDIGITS18: digits of TIDIGITS as an artificial cochlea of 64 channels heard them, in one HDF5 file.

What is relied on (Anumula et al., Front. Neurosci. 12:23, 2018, and its public readers): ``train_labels`` and
``test_labels`` have names such as ``man-ae-a-7`` (gender, speaker, which of two recordings, digits); the groups
``train_timestamps`` (seconds), ``train_addresses`` (channels, 0 to 63), ``test_timestamps`` and ``test_addresses`` have
an array by each name. Names with one digit are the task of eleven classes, with "o" and "z" for a zero that was read as
"oh" and as "zero"; the others, sequences of digits, are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hetsyn_model.training.config import Config
from hetsyn_model.training.data import DataError
from hetsyn_model.training.examples import Examples, Part, indexed
from hetsyn_model.training.read_arrays import MAX_CHANNELS, streams_of

if TYPE_CHECKING:
    import h5py

CHANNELS = 64
_PARTS: dict[str, Part] = {"train": "train", "test": "test"}
_NAME = re.compile(r"(?P<speaker>[^-]+-[^-]+)-[^-]+-(?P<digits>[oz1-9]+)")


def is_ntidigits(file: h5py.File) -> bool:
    return "train_labels" in file or "test_labels" in file


def read_ntidigits(file: h5py.File, path: Path, config: Config) -> Examples:
    """The single digits of an opened file; the speaker is the group.

    Args:
        file: opened.
        path: of the file, for messages.
        config: of the run.

    Raises:
        DataError: something is missing, or a name or a channel is not as above.
    """
    names: list[str] = []
    groups: list[str] = []
    parts: list[Part] = []
    times: list[NDArray[Any]] = []
    units: list[NDArray[Any]] = []
    for prefix, part in _PARTS.items():
        keys = [f"{prefix}_{what}" for what in ("labels", "timestamps", "addresses")]
        missing = [key for key in keys if key not in file]
        if missing:
            raise DataError(f"{path}: has no {missing[0]}, which N-TIDIGITS has: download the file again")
        labels, timestamps, addresses = (file[key] for key in keys)
        for raw in labels[:]:
            name = raw.decode() if isinstance(raw, bytes) else str(raw)
            match = _NAME.fullmatch(name)
            if match is None:
                raise DataError(f"{path}: {name!r} in {keys[0]} is not GENDER-SPEAKER-RECORDING-DIGITS, as man-ae-a-7")
            if len(match["digits"]) > 1:
                continue
            absent = next((key for key in keys[1:] if name not in file[key]), None)
            if absent is not None:
                raise DataError(f"{path}: {absent} has no {name}: download the file again")
            names.append(match["digits"])
            groups.append(match["speaker"])
            parts.append(part)
            times.append(np.asarray(timestamps[name][:]))
            units.append(_whole(np.asarray(addresses[name][:])))
    if not names:
        raise DataError(f"{path}: has no recordings of a single digit, only of several")
    for prefix, part in _PARTS.items():
        if part not in parts:
            raise DataError(f"{path}: {prefix}_labels has no recording of a single digit: download the file again")
    numbers, labels = indexed(names)
    streams = streams_of(path, times, units, numbers, groups, config.encoder.spikes)
    highest = max((int(stream.units.max()) for stream in streams if stream.units.size), default=0)
    if highest >= CHANNELS:
        raise DataError(f"{path}: channel {highest} is beyond the {CHANNELS} of N-TIDIGITS: download the file again")
    channels = max(CHANNELS, config.network.channels)
    return Examples("spikes", streams, labels, str(path), channels, tuple(parts))


def _whole(units: NDArray[Any]) -> NDArray[Any]:
    """Channels as whole numbers, which some copies of the file have as floats."""
    if units.dtype.kind != "f" or not (np.abs(units) < MAX_CHANNELS).all() or (np.rint(units) != units).any():
        return units
    return units.astype(np.int64)
