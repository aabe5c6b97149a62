"""Reads images of IDX files, the format of MNIST and Fashion-MNIST: four files in a folder, with or without gzip.

    train-images-idx3-ubyte   train-labels-idx1-ubyte   t10k-images-idx3-ubyte   t10k-labels-idx1-ubyte

An image becomes a series of grey values from 0 to 1: a row a step, or a pixel a step as in sequential MNIST.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hetsyn_model.training.config import Config
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import Examples, Part, Series, indexed

Images = NDArray[np.uint8]  # [n, rows, columns]
_PARTS: Final[dict[Part, str]] = {"train": "train", "test": "t10k"}
MAX_VALUES = 1_000_000_000  # twenty times MNIST
_UBYTE = 8  # code of the values' type in the third byte


def is_idx_folder(folder: Path) -> bool:
    """Return whether a folder has IDX files."""
    return any(_file(folder, prefix, "images", 3) for prefix in _PARTS.values())


def read_idx_images(folder: Path, part: Part) -> tuple[Images, NDArray[np.int64]]:
    """Read images, uint8 [n, rows, columns], and their classes, int64 [n]."""
    prefix = _PARTS[part]
    arrays = []
    for what, axes in (("images", 3), ("labels", 1)):
        path = _file(folder, prefix, what, axes)
        if path is None:
            raise DataError(f"{folder}: has no {prefix}-{what}-idx{axes}-ubyte, compressed or not")
        arrays.append(read_idx(path, axes))
    images, labels = arrays
    if len(images) != len(labels):
        raise DataError(f"{folder}: {len(images)} images, but {len(labels)} labels in {prefix}: give files of one set")
    return images, labels.astype(np.int64)


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Read the array of an IDX file of bytes, with or without gzip."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or head[:4] != bytes((0, 0, _UBYTE, axes)):
                raise DataError(f"{path}: not an IDX file of bytes with {axes} {'axis' if axes == 1 else 'axes'}")
            shape = [int(n) for n in np.frombuffer(head, ">u4", axes, offset=4)]
            expected = math.prod(shape)
            if expected > MAX_VALUES:
                raise DataError(f"{path}: has {expected} values by its head, above {MAX_VALUES:,}: download it again")
            content = file.read(expected + 1)  # a small file may unpack to more than the memory
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}): download it again") from error
    if len(content) != expected:
        found = len(content) if len(content) < expected else f"more than {expected}"
        raise DataError(f"{path}: has {found} values, but {expected} by its head: download it again")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_idx_folder(folder: Path, config: Config) -> Examples:
    """Read a folder's images as series; ``encoder.values.scan`` says whether a step is a row or a pixel."""
    items: list[tuple[Any, NDArray[np.float32]]] = []
    parts: list[Part] = []
    shapes = set[tuple[int, ...]]()
    for part in _PARTS:
        images, labels = read_idx_images(folder, part)
        if not images.size:
            raise DataError(f"{folder}: has no images in {_PARTS[part]}")
        shapes.add(images.shape[1:])
        if len(shapes) > 1:
            raise DataError(f"{folder}: images of {' and '.join(_size(shape) for shape in sorted(shapes))} pixels")
        columns = images.shape[2] if config.encoder.values.scan == "row" else 1
        values = images.reshape(len(images), -1, columns).astype(np.float32) / 255
        items += zip(labels.tolist(), values, strict=True)
        parts += [part] * len(labels)
    numbers, names = indexed([label for label, _ in items])
    series = tuple(Series(values, number) for number, (_, values) in zip(numbers, items, strict=True))
    return Examples("values", series, names, str(folder), series[0].values.shape[1], tuple(parts))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def _file(folder: Path, prefix: str, what: str, axes: int) -> Path | None:
    """Find one of the files by its usual names."""
    names = [f"{prefix}-{what}{mark}idx{axes}-ubyte{end}" for mark in "-." for end in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)
