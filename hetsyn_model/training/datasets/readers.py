"""Reads data sets by their path: folders of recordings, HDF5 and NumPy files of spikes or values, CSV files of series.

Folders of SHD, SSC and MNIST and the lists of Speech Commands are recognised by their names. They say which examples
test, and some say which validate.
"""

from __future__ import annotations

import re
from pathlib import Path

from hetsyn_model.training.config import Config
from hetsyn_model.training.datasets.data import DataError, Recording, read_folder, read_wav
from hetsyn_model.training.datasets.examples import Examples, Kind, Part
from hetsyn_model.training.datasets.read_arrays import kind_of_arrays, read_arrays
from hetsyn_model.training.datasets.read_csv import read_csv
from hetsyn_model.training.datasets.read_hdf5 import read_hdf5, read_hdf5_folder, spike_file
from hetsyn_model.training.datasets.read_idx import is_idx_folder, read_idx_folder

FORMS = (
    "a folder of class/*.wav, a folder of label_speaker_take.wav, spikes in SHD's form (.h5), arrays (.npz), "
    "series (.csv), or a folder of SHD's, SSC's or MNIST's files"
)
MAX_SAMPLES = 1_600_000  # of a recording: a batch of longer ones fills the memory
# lists of Speech Commands: a line is class/file.wav; files in neither list are trained on
_LISTS: dict[Part, str] = {"validation": "validation_list.txt", "test": "testing_list.txt"}


def kind_of(path: Path) -> Kind:
    """Find the kind of data at a path: by its name, by the names in a folder, or by the arrays of a ``.npz`` file."""
    if not path.exists():
        raise DataError(f"{path}: no such {'file' if path.suffix else 'folder'}")
    if path.is_dir():
        return _kind_of_folder(path)
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return "spikes"
    if suffix == ".csv":
        return "values"
    if suffix == ".npz":
        return kind_of_arrays(path)
    if suffix in (".gz", ".zip"):
        raise DataError(f"{path}: is compressed: unpack it first, with gunzip or unzip")
    raise DataError(f"{path}: not data that hetsyn trains on: give {FORMS}")


def _kind_of_folder(folder: Path) -> Kind:
    has: dict[Kind, bool] = {"spikes": spike_file(folder) is not None, "values": is_idx_folder(folder)}
    found = [kind for kind, there in has.items() if there]
    if found and any(next(folder.glob(pattern), None) for pattern in ("*.wav", "*/*.wav")):
        found.append("audio")
    if len(found) > 1:
        names = {"spikes": "spikes in SHD's form", "values": "MNIST's files", "audio": "recordings"}
        raise DataError(
            f"{folder}: has {' and '.join(names[kind] for kind in found)}: give each data set a folder of its own"
        )
    return found[0] if found else "audio"


def read(path: Path, config: Config) -> Examples:
    """Read the examples at a path (FORMS). It does not check that every class has some.

    ``config`` gives the rate of audio, the step of spikes, and pattern and column of groups.

    Raises:
        DataError: it cannot be read; the message says which file, row or key is wrong.
    """
    kind = kind_of(path)
    if path.is_dir():
        train = spike_file(path)
        if train is not None:
            return read_hdf5_folder(train, config)
        return read_idx_folder(path, config) if kind == "values" else _read_recordings(path, config)
    if path.suffix.lower() == ".npz":
        return read_arrays(path, config)
    return read_hdf5(path, config) if kind == "spikes" else read_csv(path, config)


def _read_recordings(folder: Path, config: Config) -> Examples:
    rate_hz = config.encoder.audio.sample_rate_hz
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    flat = sorted(folder.glob("*.wav"))
    if flat and classes:
        raise DataError(
            f"{folder}: contains both wav files and folders: give class/*.wav, or label_speaker_take.wav alone"
        )
    if flat:
        labels = tuple(sorted({path.name.partition("_")[0] for path in flat}))
        return _checked(Examples("audio", tuple(read_folder(folder, labels, rate_hz)), labels, str(folder)), rate_hz)
    if not classes:
        raise DataError(f"{folder}: contains no recordings: give {FORMS}")
    pattern = _pattern(config.split.group_pattern)
    listed = _listed(folder)
    recordings = []
    parts: list[Part] = []
    for label, sub in enumerate(classes):
        paths = sorted(path for path in sub.iterdir() if path.suffix.lower() == ".wav" and path.name[0] != ".")
        if not paths:
            raise DataError(f"{sub}: class {sub.name!r} has no wav files: add some, or delete the folder")
        for path in paths:
            match = pattern.fullmatch(f"{path.stem}.wav")  # the suffix in any case
            recordings.append(Recording(read_wav(path, rate_hz), label, match["group"] if match else "", -1))
            parts.append(listed.get(f"{sub.name}/{path.name}", "train"))
    lacking = [name for part, name in _LISTS.items() if listed and part not in parts]
    if lacking:
        raise DataError(f"{folder / lacking[0]}: names no recording of the folder: take the list of this data set")
    own = tuple(parts) if listed else None
    return _checked(
        Examples("audio", tuple(recordings), tuple(sub.name for sub in classes), str(folder), parts=own), rate_hz
    )


def _listed(folder: Path) -> dict[str, Part]:
    """Read the use of recordings by their names, ``class/file.wav``, from the lists of Speech Commands, if any."""
    there = [name for name in _LISTS.values() if (folder / name).exists()]
    if len(there) == 1:
        other = next(name for name in _LISTS.values() if name not in there)
        raise DataError(f"{folder}: has {there[0]}, but no {other}: give both lists, or neither")
    listed: dict[str, Part] = {}
    for part, name in _LISTS.items() if there else ():
        try:
            lines = (folder / name).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{folder / name}: cannot be read as lines of class/file.wav ({error})") from error
        for line in filter(None, (text.strip() for text in lines)):
            if listed.setdefault(line, part) != part:
                raise DataError(f"{folder / name}: {line} is in both lists: keep it in one")
    return listed


def _checked(examples: Examples, rate_hz: int) -> Examples:
    longest = max(item.length for item in examples.items)
    if longest > MAX_SAMPLES:
        raise DataError(
            f"{examples.source}: a recording has {longest / rate_hz:.0f} s: cut recordings into pieces of at most "
            f"{MAX_SAMPLES // rate_hz} s, each of one class"
        )
    return examples


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise DataError(f"split.group_pattern: not a regular expression ({error})") from error
    if "group" not in pattern.groupindex:
        raise DataError("split.group_pattern: has no part (?P<group>…), which is the speaker's name")
    return pattern
