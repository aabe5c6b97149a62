"""Reads spikes in the form of SHD and SSC: ``spikes/times``, ``spikes/units`` and ``labels``, with names in ``extra``.

One file, or a folder with ``NAME_train.h5``, ``NAME_test.h5`` and perhaps ``NAME_valid.h5``, as SHD and SSC come.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hetsyn_client.sources.formats import h5_columns, h5_spikes
from hetsyn_model.training.config import Config
from hetsyn_model.training.datasets.data import DataError, raising_data_errors
from hetsyn_model.training.datasets.examples import Examples, Part, indexed
from hetsyn_model.training.datasets.read_arrays import channels_of, labels_of, streams_of

TRAIN = "_train.h5"


@raising_data_errors()
def read_hdf5(path: Path, config: Config) -> Examples:
    """Read an HDF5 file in the form of SHD, with the steps of ``encoder.spikes`` in the configuration."""
    count, labels, keys, speakers = h5_columns(path)
    if labels is None:
        raise DataError(f"{path}: has no labels: add a number or text for each example")
    numbers, names = indexed(labels_of(str(path), labels), keys)
    streams = streams_of(path, h5_spikes(path), numbers, speakers or [""] * count, config.encoder.spikes)
    channels = channels_of(path, streams, config.network)
    return Examples("spikes", streams, names, str(path), channels, is_guess=not config.network.channels)


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
