"""Opens files of spikes, values and sound, and says what they mean: for training, the clients and the commands.

Times of spikes are steps if they are integers, and seconds if they are floats, in every format.

.npz    arrays by name; a .npy file is one array, ``values``
.h5     spikes of many examples in the form of SHD: ``spikes/times`` and ``spikes/units``, optionally ``labels``,
        ``extra/keys``, the names of the labels, and ``extra/speaker``
sound   WAV; FLAC, Ogg and other formats of libsndfile
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
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
from hetsyn_client.sources.wav import read_wav

MOST_STEPS = 100_000  # of times without a length: more is a mistake in the unit, 0.9 s given in milliseconds
ROWS_AT_ONCE = 1024  # rows of variable length: SSC has half a billion spikes, too many to read at once
DAMAGE = (OSError, ValueError, EOFError, MemoryError, RuntimeError, SyntaxError, TokenError, BadZipFile, zlib.error)
"""What numpy raises for a damaged file."""


class Spikes(NamedTuple):
    """The spikes of a stream.

    Attributes:
        steps: length of the stream.
        step: int64 [spikes], ascending.
        unit: int64 [spikes].
    """

    steps: int
    step: Integers
    unit: Integers


@contextmanager
def naming(source: str | Path) -> Iterator[None]:
    """Begin the message of an InputError with the name of what is read."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def spikes_of(times: NDArray[Any], units: NDArray[Any], step_s: float, length: int | None = None) -> Spikes:
    """Sort the spikes of a stream into steps, each pair of step and unit once.

    Args:
        times: [spikes], integers are steps, floats are seconds. A step includes its beginning and excludes its end.
        units: [spikes], channels.
        length: steps of the stream; None: it ends with the last spike.

    Raises:
        InputError: the arrays are no such numbers, or a time is beyond the stream; the message has both readings.
    """
    if times.ndim != 1 or units.ndim != 1 or times.dtype.kind not in "iuf" or units.dtype.kind not in "iuf":
        raise InputError(
            f"times and units, {times.dtype} {list(times.shape)} and {units.dtype} {list(units.shape)}, are not "
            "numbers [spikes]: save one of each for every spike"
        )
    wide = times.astype(np.float64)  # in float16, SHD's type, a quotient falls into another step
    if not np.isfinite(wide).all() or (wide < 0).any():
        raise InputError("a time is not finite, or below 0: give the step or the second of each spike, from 0 on")
    # a time at a step's beginning belongs to this step, in spite of rounding
    as_seconds = np.floor(wide / step_s + 1e-9)
    steps, other = (as_seconds, wide) if times.dtype.kind == "f" else (wide, as_seconds)
    last = steps.max(initial=-1)
    limit = MOST_STEPS if length is None else length
    if len(times) and last >= limit:
        mine, others = ("seconds", "steps") if times.dtype.kind == "f" else ("steps", "seconds")
        bound = f"at most {MOST_STEPS:,} steps are read" if length is None else f"the stream has {length} steps"
        raise InputError(
            f"the last time is {wide.max():.9g}, {times.dtype}: read as {mine} it is in step {last:.9g}, read as "
            f"{others} in step {other.max():.9g}, of {step_s:g} s each, and {bound}: save steps as integers and "
            "seconds as floats, or take longer steps"
        )
    return Spikes(int(last) + 1 if length is None else length, *sort_events(limit, steps.astype(np.int64), units))


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Load the arrays of a .npz file; the one of a .npy file is ``values``.

    Raises:
        InputError: it cannot be read.
    """
    check_readable(path)
    try:
        with path.open("rb") as file:  # numpy does not close a damaged file
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"values": loaded}
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except DAMAGE as error:
        kind = path.suffix.lower()[1:]
        raise InputError(f"{path}: cannot be read as {kind} ({error!s:.200}): write it with numpy") from error


def check_readable(path: Path) -> None:
    """Check that a file can be opened; InputError if not."""
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name a file that you may read") from error


class Columns(NamedTuple):
    """What a .h5 file says of its examples; None for what it lacks. With ``keys``, labels are their indices."""

    examples: int
    labels: NDArray[Any] | None
    keys: list[str] | None
    speakers: list[str] | None


def h5_columns(path: Path) -> Columns:
    """Read what a .h5 file says of its examples; InputError if it is no such file, or h5py is missing."""
    with _open_h5(path) as file:
        count = len(file["spikes/times"])
        labels, keys, speakers = (
            np.asarray(file[name][:]) if name in file else None for name in ("labels", "extra/keys", "extra/speaker")
        )
        for name, rows in (("spikes/units", file["spikes/units"]), ("labels", labels), ("extra/speaker", speakers)):
            if rows is not None and len(rows) != count:
                raise InputError(f"{path}: {len(rows)} entries in {name}, but {count} in spikes/times")
        names, people = (None if each is None else [text(one) for one in each.tolist()] for each in (keys, speakers))
    if labels is not None:
        check_labels(str(path), labels.tolist(), names, "extra/keys")
    return Columns(count, labels, names, people)


def h5_spikes(path: Path, example: int | None = None) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Read times and units of each example of a .h5 file, or of one; errors as of ``h5_columns``."""
    with _open_h5(path) as file:
        times, units = file["spikes/times"], file["spikes/units"]
        if example is not None:
            yield np.asarray(times[example]), np.asarray(units[example])
            return
        for begin in range(0, len(times), ROWS_AT_ONCE):
            rows = slice(begin, begin + ROWS_AT_ONCE)
            for each, channels in zip(times[rows], units[rows], strict=True):
                yield np.asarray(each), np.asarray(channels)


@contextmanager
def _open_h5(path: Path) -> Iterator[Any]:
    try:
        import h5py  # an extra
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: HDF5 files need h5py: {install_command('train')}") from error
    check_readable(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: cannot be read ({str(error.args[0])[:200] if error.args else error}): give a whole HDF5 file in "
            "the form of SHD, with spikes/times, spikes/units and labels"
        ) from error


def check_labels(source: str, labels: Sequence[object], names: Sequence[str] | None, key: str) -> None:
    """Check that labels are indices of the classes' names, if there are names; InputError if not."""
    if names is not None and not all(isinstance(label, int) and 0 <= label < len(names) for label in labels):
        raise InputError(f"{source}: labels are not numbers from 0 to {len(names) - 1}, one for each of {key}")


def text(value: object) -> str:
    """Decode a text of an HDF5 file; write a number."""
    return value.decode() if isinstance(value, bytes) else str(value)


def read_sound(path: Path) -> tuple[NDArray[Any], int]:
    """Read the samples of a recording, and their rate in Hz.

    They are int16 [n] of a WAV file of one channel and 16 bits, else float32 [n, channels].

    Raises:
        InputError: the file cannot be read, or has no sound.
    """
    check_readable(path)
    content = path.read_bytes()
    if content.startswith(b"RIFF") or path.suffix.lower() == ".wav":
        with naming(path):
            header, samples = read_wav(content)
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
