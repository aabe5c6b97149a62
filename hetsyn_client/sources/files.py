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

import io
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError
from hetsyn_client.events import Integers, sort_events
from hetsyn_client.extras import install_command
from hetsyn_client.sources.bodies import events_body, values_body
from hetsyn_client.sources.chunks import Chunk, array_chunks
from hetsyn_client.sources.wav import read_wav
from hetsyn_client.values import check_values

DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    NotImplementedError,
    SyntaxError,
    TokenError,
    BadZipFile,
    zlib.error,
)
"""What numpy raises for a damaged file."""
H5 = (".h5", ".hdf5")
SUFFIXES = (".npz", ".npy", ".csv", *H5)
"""Of files with spikes or values; any other file is a recording."""


class Spikes(NamedTuple):
    """The spikes of a file.

    Attributes:
        steps: length of the file.
        step: int64 [spikes], ascending.
        unit: int64 [spikes].
    """

    steps: int
    step: Integers
    unit: Integers


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
        try:
            content = check_values(content)  # before any part is sent, so that errors name the file's steps
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
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
    _check_readable(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            return _matrix(path, _read_csv(path))
        with path.open("rb") as file:  # numpy does not close a damaged file
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return _matrix(path, loaded)
            with loaded:
                arrays = {name: loaded[name] for name in loaded.files}
    except DAMAGE as error:
        raise InputError(f"{path}: cannot be read as {suffix[1:]} ({error!s:.200}): write it with numpy") from error
    if "values" in arrays:
        return _matrix(path, arrays["values"])
    if "spikes" in arrays:
        return _as_spikes(path, _matrix(path, arrays["spikes"]))
    if "times" in arrays and "units" in arrays:
        return _events(path, arrays, step_s)
    names = ", ".join(arrays) or "no array"
    raise InputError(f"{path}: has {names}: save values, or spikes, [steps, channels], or times and units")


def h5_labels(path: Path) -> list[str | None]:
    """Read the label of each example of a .h5 file.

    Raises:
        InputError: it is no .h5 file, or h5py is missing.
    """
    with _open_h5(path) as file:
        count = len(file["spikes/times"])
        if "labels" not in file:
            return [None] * count
        labels = [_text(label) for label in file["labels"][:].tolist()]
        if "extra/keys" in file:
            names = [_text(name) for name in file["extra/keys"][:].tolist()]
            labels = [names[int(label)] for label in labels]
        if len(labels) != count:
            raise ValueError(f"{len(labels)} labels of {count} examples")
        return list(labels)


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name a file that you may read") from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read_h5(path: Path, step_s: float, example: int | None) -> Spikes:
    with _open_h5(path) as file:
        count = len(file["spikes/times"])
        if example is None and count != 1:
            raise InputError(f"{path}: has {count} examples, and a stream is one: hetsyn stream {path} sends each")
        arrays = {name: np.asarray(file[f"spikes/{name}"][example or 0]) for name in ("times", "units")}
    return _events(path, arrays, step_s)


@contextmanager
def _open_h5(path: Path) -> Iterator[Any]:
    try:
        import h5py  # an extra
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: HDF5 files need h5py: {install_command('train')}") from error
    _check_readable(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read ({str(error.args[0])[:200] if error.args else error}): give a whole HDF5 file in "
            "the form of SHD, with spikes/times, spikes/units and labels"
        ) from error


NUMPY_ADVICE = "; use `usecols` to select a subset and avoid this error"  # numpy's advice, which does not apply here


def _read_csv(path: Path) -> NDArray[np.float64]:
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline().split(",")
    try:
        names = 0 if [float(text) for text in first] else 1
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


def _events(path: Path, arrays: Mapping[str, NDArray[Any]], step_s: float) -> Spikes:
    times, units = arrays["times"], arrays["units"]
    if times.ndim != 1 or units.ndim != 1 or times.dtype.kind not in "iuf" or units.dtype.kind not in "iuf":
        raise InputError(f"{path}: times and units are not numbers [spikes]: save one of each for every spike")
    if not np.isfinite(times).all():
        raise InputError(f"{path}: a time is not finite: give the step or the second of each spike")
    if times.dtype.kind == "f":
        times = np.floor(
            times / step_s + 1e-9
        )  # a time at a step's beginning belongs to this step, in spite of rounding
    length = arrays.get("steps", times.max(initial=-1) + 1)
    if np.ndim(length) or np.asarray(length).dtype.kind not in "iuf" or not np.isfinite(length):
        raise InputError(f"{path}: steps is not a number: save how many steps the file has, or leave it out")
    steps = int(length)
    try:
        return Spikes(steps, *sort_events(steps, times, units))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_sound(path: Path) -> tuple[NDArray[Any], int]:
    """Read the samples of a recording, and their rate in Hz.

    They are int16 [n] of a WAV file of one channel and 16 bits, else float32 [n, channels].

    Raises:
        InputError: the file cannot be read, or has no sound.
    """
    _check_readable(path)
    content = path.read_bytes()
    if content.startswith(b"RIFF") or path.suffix.lower() == ".wav":
        try:
            header, samples = read_wav(content)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if header.encoding == "pcm_s16le" and header.channels == 1:
            if len(samples) % 2:
                raise InputError(f"{path}: {len(samples)} bytes are not a whole number of samples: send the whole file")
            return np.frombuffer(samples, "<i2"), header.rate_hz
    import soundfile  # most recordings do not need it

    try:
        frames, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").rstrip(".")
        raise InputError(
            f"{path}: cannot be read ({reason:.100}): give a whole recording (WAV, FLAC, Ogg, MP3), or "
            "spikes or values (.h5, .npz, .npy, .csv)"
        ) from error
    if not len(frames):
        raise InputError(f"{path}: has no sound: give a whole recording")
    return frames, rate_hz
