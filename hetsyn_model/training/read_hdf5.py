"""Spikes in the form of SHD and SSC: ``spikes/times``, ``spikes/units`` and ``labels``, with names in ``extra``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hetsyn_model.training.config import Config
from hetsyn_model.training.data import DataError
from hetsyn_model.training.examples import Examples, indexed
from hetsyn_model.training.read_arrays import channels_of, check_names, labels_of, streams_of


def read_hdf5(path: Path, config: Config) -> Examples:
    """An HDF5 file in SHD's form. A channel is a unit; ``encoder.spikes`` of the configuration says how long a step is.

    Raises:
        DataError: not such a file, or h5py is not installed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise DataError(f"{path}: HDF5 files need h5py: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            times = [np.asarray(row, np.float64) for row in file["spikes/times"][:]]
            units = [np.asarray(row) for row in file["spikes/units"][:]]
            labels = labels_of(str(path), np.asarray(file["labels"][:]))
            speakers = np.asarray(file["extra/speaker"][:]) if "extra/speaker" in file else None
            keys = [_text(key) for key in file["extra/keys"][:]] if "extra/keys" in file else None
    except DataError:
        raise  # a ValueError too
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not in SHD's form (spikes/times, spikes/units, labels): {error}") from error
    for name, rows in (("spikes/units", units), ("labels", labels), ("extra/speaker", speakers)):
        if rows is not None and len(rows) != len(times):
            raise DataError(f"{path}: {len(rows)} entries in {name}, but {len(times)} in spikes/times")
    check_names(str(path), labels, keys, "extra/keys")
    numbers, names = indexed(labels, keys)
    groups = [""] * len(times) if speakers is None else [_text(speaker) for speaker in speakers.tolist()]
    streams = streams_of(path, times, units, numbers, groups, config.encoder.spikes)
    return Examples("spikes", streams, names, str(path), channels_of(path, streams, config.encoder.spikes))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
