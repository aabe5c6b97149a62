"""Reads files to stream: a recording, or the spikes or values of one stream.

.wav    uncompressed samples; FLAC, Ogg and other formats of libsndfile, under any other suffix
.npy    numbers [steps, channels]
.csv    a row a step and a column a channel, with a line of names above them or without
.npz    ``values`` [steps, channels]; or ``spikes``, 0 or 1, [steps, channels]; or ``times`` and ``units`` [spikes],
        the times in steps if they are integers, else in seconds, and optionally ``steps``, the length
.h5     spikes of many examples in the form of SHD: ``spikes/times`` and ``spikes/units``, optionally ``labels`` and
        ``extra/keys``, their names
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError
from hetsyn_client.sources.bodies import events_body, values_body
from hetsyn_client.sources.chunks import Chunk, array_chunks
from hetsyn_client.sources.formats import (
    Spikes,
    check_readable,
    h5_columns,
    h5_spikes,
    load_arrays,
    naming,
    read_sound,
    spikes_of,
    text,
)
from hetsyn_client.values import check_values

H5 = (".h5", ".hdf5")
SUFFIXES = (".npz", ".npy", ".csv", *H5)
"""Of files with spikes or values; any other file is a recording."""


def recording_chunks(path: str | Path, chunk_s: float = 0.1) -> Iterator[Chunk]:
    """Cut a recording into chunks; InputError if it is no sound file."""
    yield from array_chunks(*read_sound(Path(path)), chunk_s)


def step_chunks(
    path: Path, chunk_s: float, step_s: float, *, takes_values: bool, example: int | None = None
) -> Iterator[Chunk]:
    """Cut a file of spikes or values into chunks. The forms are those above.

    Args:
        step_s: length of a step of the model.
        takes_values: the model takes values. Else zeros and ones are spikes.
        example: number of an example of a .h5 file; None for the only one.

    Raises:
        InputError: the file has another form, or has values and the model takes spikes.
    """
    content = _read_h5(path, step_s, example) if path.suffix.lower() in H5 else _read(path, step_s)
    if not takes_values and not isinstance(content, Spikes):
        content = _as_spikes(path, content)
    steps = content.steps if isinstance(content, Spikes) else len(content)
    if not isinstance(content, Spikes):
        with naming(path):
            content = check_values(content)  # before any part is sent, so that errors name the file's steps
    if not steps:
        raise InputError(f"{path}: has no steps: give a file with input")
    length = max(1, round(chunk_s / step_s))
    begins = range(0, steps, length)
    for begin in begins:
        end = min(steps, begin + length)
        if isinstance(content, Spikes):
            first, last = np.searchsorted(content.step, (begin, end))
            body = events_body(end - begin, content.step[first:last] - begin, content.unit[first:last])
        else:
            body = values_body(content[begin:end])
        yield Chunk(body, end * step_s, end == steps)


def _read(path: Path, step_s: float) -> Spikes | NDArray[Any]:
    """Read the spikes of a file, or its numbers [steps, channels]."""
    if path.suffix.lower() == ".csv":
        return _matrix(path, _read_csv(path))
    arrays = load_arrays(path)
    if "values" in arrays:
        return _matrix(path, arrays["values"])
    if "spikes" in arrays:
        return _as_spikes(path, _matrix(path, arrays["spikes"]))
    if "times" in arrays and "units" in arrays:
        length = arrays.get("steps")
        if length is not None and not _is_count(length):
            raise InputError(f"{path}: steps is not a count: save how many steps the file has, or leave it out")
        if np.size(arrays.get("offsets", ())) > 2:
            raise InputError(f"{path}: has several examples, and a stream is one: save each in a file of its own")
        with naming(path):
            return spikes_of(arrays["times"], arrays["units"], step_s, None if length is None else int(length.item()))
    names = ", ".join(arrays) or "no array"
    raise InputError(f"{path}: has {names}: save values, or spikes, [steps, channels], or times and units")


def _is_count(number: NDArray[Any]) -> bool:
    if number.size != 1 or number.dtype.kind not in "iuf":
        return False
    return float(number.item()).is_integer()


def h5_labels(path: Path) -> list[str | None]:
    """Read the label of each example of a .h5 file; errors as of ``h5_columns``."""
    count, labels, names, _ = h5_columns(path)
    if labels is None:
        return [None] * count
    return [text(label) if names is None else names[label] for label in labels.tolist()]


def _read_h5(path: Path, step_s: float, example: int | None) -> Spikes:
    count = h5_columns(path).examples if example is None else 1
    if count != 1:
        raise InputError(f"{path}: has {count} examples, and a stream is one: hetsyn stream {path} sends each")
    [(times, units)] = h5_spikes(path, example or 0)
    with naming(path):
        return spikes_of(times, units, step_s)


NUMPY_ADVICE = "; use `usecols` to select a subset and avoid this error"  # numpy's advice, which does not apply here


def _read_csv(path: Path) -> NDArray[np.float64]:
    check_readable(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            names = 0 if [float(name) for name in file.readline().split(",")] else 1
    except ValueError:
        names = 1
    try:
        with warnings.catch_warnings(action="ignore"):  # the warning about no numbers; the caller raises an error
            return np.loadtxt(path, delimiter=",", skiprows=names, ndmin=2, encoding="utf-8-sig")
    except ValueError as error:
        raise InputError(
            f"{path}: {str(error).removesuffix(NUMPY_ADVICE).rstrip('.')}: give one stream, with commas between the "
            "columns, one column of numbers for each channel, and no others"
        ) from error


def _matrix(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise InputError(f"{path}: has {array.dtype} {list(array.shape)}: give one stream, numbers [steps, channels]")
    return array


def _as_spikes(path: Path, matrix: NDArray[Any]) -> Spikes:
    other = np.argwhere((matrix != 0) & (matrix != 1))
    if len(other):
        t, i = (int(index) for index in other[0])
        raise InputError(f"{path}: step {t}, channel {i} is {matrix[t, i]:g}: spikes are 0 or 1")
    step, unit = np.nonzero(matrix)
    return Spikes(len(matrix), step.astype(np.int64), unit.astype(np.int64))
