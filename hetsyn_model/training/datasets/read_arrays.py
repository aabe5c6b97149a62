"""Reads data sets of ``.npz`` files, or of the same arrays from Python.

    labels            [n], numbers or texts
    groups            [n], optional: speaker, person, machine
    label_names       [classes], optional, where labels are numbers from 0

and one of

    times, units, offsets   spikes: times [events], integers are steps, floats are seconds; int channels [events];
                            example i has the events from offsets[i] to before offsets[i + 1]; int [n + 1]; optional
                            steps, int [n], length of each
    spikes                  0 or 1, [n, steps, channels]; optional steps, int [n], length of each
    values                  real numbers, [n, steps, channels], optional steps; or [rows, channels] with offsets [n + 1]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hetsyn_client.sources.formats import MOST_STEPS, check_labels, load_arrays, naming, spikes_of
from hetsyn_model.training.config import Config, NetworkConfig, SpikesConfig
from hetsyn_model.training.datasets.data import DataError, raising_data_errors
from hetsyn_model.training.datasets.examples import Examples, Kind, Series, SpikeStream, indexed

Arrays = Mapping[str, NDArray[Any]]
MAX_CHANNELS = 1_000_000
_KEYS = "times, units and offsets (spikes), spikes (dense), or values"


@raising_data_errors()
def kind_of_arrays(path: Path) -> Kind:
    """Find out whether a ``.npz`` file has spikes or values."""
    return _kind(str(path), load_arrays(path))


@raising_data_errors()
def read_arrays(path: Path, config: Config) -> Examples:
    """Read a ``.npz`` file."""
    return examples_of(load_arrays(path), config, str(path))


def _kind(source: str, arrays: Arrays) -> Kind:
    if "values" in arrays:
        return "values"
    if "spikes" in arrays or "times" in arrays:
        return "spikes"
    raise DataError(f"{source}: has {', '.join(arrays) or 'no arrays'}: it needs labels, and {_KEYS}")


@raising_data_errors()
def examples_of(arrays: Arrays, config: Config, source: str) -> Examples:
    """Make examples of arrays by name, as in a ``.npz`` file; ``source`` names them in messages."""
    kind = _kind(source, arrays)
    if "labels" not in arrays:
        raise DataError(f"{source}: has no labels: add an array with one number or text for each example")
    labels = labels_of(source, _one_axis(source, arrays, "labels"))
    names = [str(name) for name in arrays["label_names"].tolist()] if "label_names" in arrays else None
    check_labels(source, labels, names, "label_names")
    numbers, texts = indexed(labels, names)
    groups = [str(group) for group in _groups(source, arrays, len(labels))]
    if kind == "values":
        series = _series(source, arrays, numbers, groups)
        return Examples("values", series, texts, source, series[0].values.shape[1])
    if "times" in arrays:
        streams = _events(source, arrays, numbers, groups, config.encoder.spikes)
        channels = channels_of(source, streams, config.network)
        return Examples("spikes", streams, texts, source, channels, is_guess=not config.network.channels)
    streams = _dense(source, arrays, numbers, groups, config.encoder.spikes)
    channels = channels_of(source, streams, config.network, arrays["spikes"].shape[2])
    return Examples("spikes", streams, texts, source, channels)


def labels_of(source: str, labels: NDArray[Any]) -> list[object]:
    """Convert labels to numbers or texts, one an example."""
    if labels.ndim != 1:
        raise DataError(f"{source}: labels has the shape {labels.shape}: give one number or text for each example")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError(f"{source}: the label of example {int(np.isfinite(labels).argmin())} is not a number: give one")
    return [label.decode() if isinstance(label, bytes) else label for label in labels.tolist()]


def _one_axis(source: str, arrays: Arrays, name: str) -> NDArray[Any]:
    if arrays[name].ndim != 1 or not arrays[name].size:
        raise DataError(f"{source}: {name} has the shape {arrays[name].shape}: give one axis, with an entry or more")
    return arrays[name]


def _groups(source: str, arrays: Arrays, count: int) -> list[object]:
    if "groups" not in arrays:
        return [""] * count
    groups = _one_axis(source, arrays, "groups").tolist()
    _check_count(source, "groups", len(groups), count)
    return list(groups)


def _check_count(source: str, name: str, found: int, count: int) -> None:
    if found != count:
        raise DataError(f"{source}: {found} examples in {name}, but {count} labels: give each example one label")


def _slices(source: str, arrays: Arrays, events: int, count: int) -> list[slice]:
    if "offsets" not in arrays:
        raise DataError(f"{source}: has no offsets: add int [examples + 1], where each example begins, and the end")
    offsets = _one_axis(source, arrays, "offsets").astype(np.int64)
    _check_count(source, "offsets", len(offsets) - 1, count)
    if offsets[0] != 0 or offsets[-1] != events or (np.diff(offsets) < 0).any():
        raise DataError(f"{source}: offsets do not go up from 0 to {events}, the number of rows")
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(offsets)]


def _events(
    source: str, arrays: Arrays, labels: Sequence[int], groups: Sequence[str], config: SpikesConfig
) -> tuple[SpikeStream, ...]:
    if "units" not in arrays:
        raise DataError(f"{source}: has times but no units: add the channel of each spike")
    times, units = arrays["times"], arrays["units"]
    if times.shape != units.shape or times.ndim != 1:
        raise DataError(f"{source}: times {times.shape} and units {units.shape} are not one list each, of one length")
    parts = _slices(source, arrays, len(times), len(labels))
    lengths = _lengths(source, arrays, len(labels), MOST_STEPS) if "steps" in arrays else None
    return streams_of(source, ((times[part], units[part]) for part in parts), labels, groups, config, lengths)


def streams_of(
    source: str | Path,
    spikes: Iterable[tuple[NDArray[Any], NDArray[Any]]],
    labels: Sequence[int],
    groups: Sequence[str],
    config: SpikesConfig,
    lengths: Sequence[int] | None = None,
) -> tuple[SpikeStream, ...]:
    """Make streams of times and units (``spikes_of``); without ``lengths``, each ends with its last spike."""
    streams = []
    ends = [None] * len(labels) if lengths is None else lengths
    for number, ((times, units), label, group, end) in enumerate(zip(spikes, labels, groups, ends, strict=True)):
        if end is None and config.longest_s and times.dtype.kind == "f" and times.shape == units.shape:
            is_late = times.astype(np.float64) >= config.longest_s  # they may be beyond the limit of an uncut stream
            times, units = times[~is_late], units[~is_late]
        with naming(f"{source}: example {number}"):
            _, step, unit = spikes_of(times, units, config.step_s, end)
        if unit.max(initial=0) >= MAX_CHANNELS:
            raise DataError(f"{source}: example {number} has a unit that is not below {MAX_CHANNELS:,}")
        kept = slice(np.searchsorted(step, _longest(config, MOST_STEPS)))
        length = int(step[kept].max(initial=0)) + 1 if end is None else _longest(config, end)
        streams.append(SpikeStream(step[kept].astype(np.int32), unit[kept].astype(np.int32), length, label, group))
    return tuple(streams)


def _longest(config: SpikesConfig, length: int) -> int:
    """Cut a length as configured."""
    return min(length, max(1, math.ceil(config.longest_s / config.step_s - 1e-9))) if config.longest_s else length


def channels_of(
    source: str | Path, streams: Sequence[SpikeStream], config: NetworkConfig, known: int | None = None
) -> int:
    """Count the channels of streams: as configured, else as ``known``, else the highest unit and one."""
    highest = max((int(stream.units.max()) for stream in streams if stream.units.size), default=0)
    if config.channels and highest >= config.channels:
        raise DataError(f"{source}: unit {highest} is beyond network.channels = {config.channels}")
    return config.channels or known or highest + 1


def _lengths(source: str, arrays: Arrays, count: int, longest: int) -> list[int]:
    if "steps" not in arrays:
        return [longest] * count
    steps = _one_axis(source, arrays, "steps")
    _check_count(source, "steps", len(steps), count)
    if steps.dtype.kind not in "iu" or int(steps.min()) < 1 or int(steps.max()) > longest:
        raise DataError(f"{source}: steps are not whole numbers from 1 to {longest}")
    return [int(length) for length in steps]


def _three_axes(source: str, arrays: Arrays, name: str, count: int) -> NDArray[Any]:
    array = arrays[name]
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise DataError(f"{source}: {name} has the shape {array.shape}: give [examples, steps, channels]")
    _check_count(source, name, len(array), count)
    return array


def _dense(
    source: str, arrays: Arrays, labels: Sequence[int], groups: Sequence[str], config: SpikesConfig
) -> tuple[SpikeStream, ...]:
    spikes = _three_axes(source, arrays, "spikes", len(labels))
    if not np.isin(spikes, (0, 1)).all():
        raise DataError(f"{source}: spikes has entries other than 0 and 1: give real numbers as values")
    streams = []
    lengths = _lengths(source, arrays, len(labels), spikes.shape[1])
    for rows, whole, label, group in zip(spikes, lengths, labels, groups, strict=True):
        length = _longest(config, whole)
        step, unit = np.nonzero(rows[:length])
        streams.append(SpikeStream.of(step, unit, length, label, group))
    return tuple(streams)


def _series(source: str, arrays: Arrays, labels: Sequence[int], groups: Sequence[str]) -> tuple[Series, ...]:
    values = arrays["values"]
    if values.dtype.kind not in "fiub":
        raise DataError(f"{source}: values are {values.dtype}: give numbers")
    if values.ndim == 2:
        rows = [values[part] for part in _slices(source, arrays, len(values), len(labels))]
    else:
        values = _three_axes(source, arrays, "values", len(labels))
        rows = [
            row[:length]
            for row, length in zip(values, _lengths(source, arrays, len(labels), values.shape[1]), strict=True)
        ]
    return tuple(
        Series(checked(source, number, row), label, group)
        for number, (row, label, group) in enumerate(zip(rows, labels, groups, strict=True))
    )


def checked(source: str, number: int, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Convert the rows of an example to float32, which must be finite."""
    if not rows.size:
        raise DataError(f"{source}: example {number} has no rows")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, and is refused
        values = np.asarray(rows, np.float32)
    if not np.isfinite(values).all():
        step, channel = np.argwhere(~np.isfinite(values))[0].tolist()
        raise DataError(
            f"{source}: example {number} has {values[step, channel]} at step {step}, channel {channel}: replace values "
            "that are not finite, or leave the example out"
        )
    return np.ascontiguousarray(values)


def as_arrays(
    data: Arrays | NDArray[Any] | torch.Tensor | Sequence[NDArray[Any] | torch.Tensor],
    labels: Sequence[object] | NDArray[Any] | torch.Tensor | None,
    groups: Sequence[object] | NDArray[Any] | None,
) -> dict[str, NDArray[Any]]:
    """Collect arrays by the names of a ``.npz`` file.

    Args:
        data: arrays by name; or spikes or values, [examples, steps, channels] or a list of [steps, channels].
        labels: one an example; None if ``data`` has them.
    """
    if isinstance(data, Mapping):
        named = {name: np.asarray(array) for name, array in data.items()}
    elif isinstance(data, np.ndarray | torch.Tensor):
        named = _named(_array(data))
    else:
        rows = [_array(each) for each in data]
        if not rows or any(row.ndim != 2 or row.shape[1] != rows[0].shape[1] for row in rows):
            raise DataError("a list of examples needs arrays [steps, channels], all of the same channels")
        lengths = [len(row) for row in rows]
        if _is_spikes(*rows):
            dense = np.zeros((len(rows), max(lengths), rows[0].shape[1]), bool)
            for index, row in enumerate(rows):
                dense[index, : len(row)] = row
            named = {"spikes": dense, "steps": np.array(lengths)}
        else:
            named = {"values": np.concatenate(rows), "offsets": np.concatenate([[0], np.cumsum(lengths)])}
    if labels is not None:
        named["labels"] = _array(labels)
    if groups is not None:
        named["groups"] = _array(groups)
    return named


def _named(array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"spikes" if _is_spikes(array) else "values": array}


def _is_spikes(*arrays: NDArray[Any]) -> bool:
    return all(array.dtype == bool or bool(np.isin(array, (0, 1)).all()) for array in arrays)


def _array(values: object) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
