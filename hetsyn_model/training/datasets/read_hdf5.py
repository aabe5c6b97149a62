"""Reads spikes in the form of SHD and SSC: ``spikes/times``, ``spikes/units`` and ``labels``, with names in ``extra``.

One file, or a folder with ``NAME_train.h5``, ``NAME_test.h5`` and perhaps ``NAME_valid.h5``, as SHD and SSC come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hetsyn_model.training.config import Config
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import Examples, Part, indexed
from hetsyn_model.training.datasets.read_arrays import channels_of, check_names, labels_of, streams_of

if TYPE_CHECKING:
    import h5py

TRAIN = "_train.h5"
ROWS_AT_ONCE = 1024  # rows of variable length: SSC has half a billion spikes, too many to read at once


def read_hdf5(path: Path, config: Config) -> Examples:
    """Read an HDF5 file in the form of SHD, with the steps of ``encoder.spikes`` in the configuration."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise DataError(f"{path}: HDF5 files need h5py: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            if not all(name in file for name in ("spikes/times", "spikes/units", "labels")):
                raise DataError(f"{path}: not in SHD's form, which has spikes/times, spikes/units and labels")
            return _read(file, path, config)
    except DataError:
        raise  # DataError is a ValueError
    except (OSError, RuntimeError) as error:  # RuntimeError: h5py's, for broken tables
        raise DataError(f"{path}: not an HDF5 file, or damaged: get it again, and unpack it ({error})") from error
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not in SHD's form ({error})") from error


def _read(file: h5py.File, path: Path, config: Config) -> Examples:
    times, units = file["spikes/times"], file["spikes/units"]
    labels = labels_of(str(path), np.asarray(file["labels"][:]))
    speakers = np.asarray(file["extra/speaker"][:]) if "extra/speaker" in file else None
    keys = [_text(key) for key in file["extra/keys"][:]] if "extra/keys" in file else None
    for name, rows in (("spikes/units", units), ("labels", labels), ("extra/speaker", speakers)):
        if rows is not None and len(rows) != len(times):
            raise DataError(f"{path}: {len(rows)} entries in {name}, but {len(times)} in spikes/times")
    check_names(str(path), labels, keys, "extra/keys")
    numbers, names = indexed(labels, keys)
    groups = [""] * len(times) if speakers is None else [_text(speaker) for speaker in speakers.tolist()]
    streams = streams_of(path, _rows(times), _rows(units), numbers, groups, config.encoder.spikes)
    channels = channels_of(path, streams, config.network)
    return Examples("spikes", streams, names, str(path), channels, is_guess=not config.network.channels)


def _rows(data: h5py.Dataset) -> Iterator[NDArray[Any]]:
    for start in range(0, len(data), ROWS_AT_ONCE):
        for row in data[start : start + ROWS_AT_ONCE]:
            yield np.asarray(row)


def spike_file(folder: Path) -> Path | None:
    """Find the training file of a folder in SHD's form; None for another folder."""
    found = sorted(folder.glob(f"*{TRAIN}"))
    if len(found) > 1:
        raise DataError(f"{folder}: has {found[0].name} and {found[1].name}: give each data set a folder of its own")
    packed = sorted([*folder.glob(f"*{TRAIN}.gz"), *folder.glob(f"*{TRAIN}.zip")])
    if packed and not found:
        raise DataError(f"{packed[0]}: is compressed: unpack the files of this folder first, with gunzip or unzip")
    return found[0] if found else None


def read_hdf5_folder(train: Path, config: Config) -> Examples:
    """Read the files of a data set: ``train`` (:func:`spike_file`), one to test, and perhaps one to validate."""
    stem = train.name.removesuffix(TRAIN)
    paths: dict[Part, Path] = {
        "train": train,
        "validation": train.with_name(f"{stem}_valid.h5"),
        "test": train.with_name(f"{stem}_test.h5"),
    }
    if not paths["test"].exists():
        raise DataError(f"{train.parent}: has {train.name}, but no {stem}_test.h5: add it, or give the file alone")
    files = {part: read_hdf5(path, config) for part, path in paths.items() if path.exists()}
    empty = next((part for part, each in files.items() if not each.items), None)
    if empty is not None:
        raise DataError(f"{paths[empty]}: has no examples: download it again, or give the training file alone")
    channels = max(each.channels for each in files.values())
    first = replace(files["train"], channels=channels)
    parts = {part: replace(each, channels=channels).as_of(first) for part, each in files.items()}
    return replace(
        first,
        items=tuple(item for each in parts.values() for item in each.items),
        source=str(train.parent),
        parts=tuple(part for part, each in parts.items() for _ in each.items),
    )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
