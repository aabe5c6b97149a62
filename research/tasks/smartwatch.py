"""Recordings of a watch during shoulder exercises, from the package ``seglearn``.

Ten people did seven exercises of physiotherapy, some twenty times each, once with either arm, and wore a watch with an
accelerometer and a gyroscope (Burns et al., *Shoulder physiotherapy exercise recognition: machine learning the inertial
signals from a smartwatch*, Physiological Measurement 39, 2018, arXiv 1802.01489). seglearn ships 140 of these
recordings under its BSD licence (Copyright (c) 2018, David M. Burns). Its ``datasets.py`` names the channels and 50 Hz;
the full names and the units are those of the authors' data set (github.com/dmbee/SPAR-dataset): multiples of g, rad/s.

    python -m research.tasks.smartwatch watch.npz      windows of three seconds for hetsyn train, the people as groups
    python -m research.tasks.smartwatch abduction.csv  one recording for hetsyn stream
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hetsyn_model.training.datasets.examples import Series
from research.tasks.task import INSTALL, MissingData

FILE = "watch_dataset.npy"
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")  # acceleration, then the rate of rotation, along the watch's axes
STEP_S = 0.02
WINDOW_S = 3.0
STREAMED = (1, 1, "right")  # person, exercise and arm of the recording for a stream
EXERCISES = (  # in the file PEN, ABD, FEL, IR, ER, TRAP, ROW
    *("pendulum", "abduction", "forward elevation", "internal rotation"),
    *("external rotation", "lower trapezius row", "bent over row"),
)


@dataclass(frozen=True)
class WatchRecording:
    """One exercise of one person.

    Attributes:
        values: float32 [steps, 6], as CHANNELS.
        exercise: index into EXERCISES.
        person: 1 to 10.
        arm: ``left`` or ``right``.
    """

    values: NDArray[np.float32]
    exercise: int
    person: int
    arm: str


@cache
def read_watch(folder: Path | None = None) -> tuple[WatchRecording, ...]:
    """Read all recordings, by person, exercise and arm.

    Args:
        folder: of the file; None for the installed package, which is not imported.

    Raises:
        MissingData: the file is not there, or it is another one.
    """
    package = find_spec("seglearn")
    if folder is None and (package is None or package.origin is None):
        raise MissingData(f"the watch's recordings come with seglearn: {INSTALL}")
    path = (folder or Path(str(package and package.origin)).parent / "data") / FILE
    try:
        # a dictionary with a list of arrays: numpy keeps these as a pickle
        saved = np.load(path, allow_pickle=True).item()
        columns = (saved["X"], saved["y"], saved["subject"], saved["side"])
        recordings = [
            WatchRecording(
                np.ascontiguousarray(values, np.float32), int(exercise), int(person), "right" if side else "left"
            )
            for values, exercise, person, side in zip(*columns, strict=True)
        ]
    except (OSError, ValueError, KeyError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise MissingData(
            f"{path}: not seglearn's recordings ({error}): give --data with the folder of {FILE}, or leave it out"
        ) from error
    return tuple(sorted(recordings, key=lambda r: (r.person, r.exercise, r.arm)))


def people(recordings: Sequence[WatchRecording]) -> tuple[int, ...]:
    """Everybody in the recordings, in order."""
    return tuple(sorted({recording.person for recording in recordings}))


def windows(recordings: Sequence[WatchRecording], steps: int) -> list[Series]:
    """Cut recordings into windows of ``steps`` that do not overlap. What is left at the end is dropped.

    Groups are people, ``person-01`` the first.
    """
    return [
        Series(recording.values[start : start + steps], recording.exercise, f"person-{recording.person:02d}")
        for recording in recordings
        for start in range(0, len(recording.values) - steps + 1, steps)
    ]


def main() -> None:
    """Write the windows for ``hetsyn train``, or one recording for ``hetsyn stream``."""
    parser = argparse.ArgumentParser(prog="python -m research.tasks.smartwatch", description=main.__doc__)
    parser.add_argument("out", type=Path, help=".npz file for everybody's windows; .csv for an abduction of person 1")
    parser.add_argument("--data", type=Path, help=f"folder of {FILE}; default: that of the installed seglearn")
    chosen = parser.parse_args()
    if chosen.out.suffix not in (".npz", ".csv"):
        parser.error(f"{chosen.out}: end it in .npz for windows to train on, or in .csv for a recording to stream")
    try:
        recordings = read_watch(chosen.data)
    except MissingData as error:
        parser.error(str(error))
    if chosen.out.suffix == ".npz":
        parts = windows(recordings, round(WINDOW_S / STEP_S))
        np.savez_compressed(
            chosen.out,
            values=np.stack([part.values for part in parts]),
            labels=np.array([part.label for part in parts]),
            label_names=np.array(EXERCISES),
            groups=np.array([part.group for part in parts]),
        )
        print(f"{chosen.out}: {len(parts)} windows of {len(people(recordings))} people")
        return
    values = next(r.values for r in recordings if (r.person, r.exercise, r.arm) == STREAMED)
    rows = values.astype(str)  # the shortest text of each float32
    np.savetxt(chosen.out, rows, fmt="%s", delimiter=",", header=",".join(CHANNELS), comments="")
    print(f"{chosen.out}: {len(values)} rows of {len(CHANNELS)} channels, {len(values) * STEP_S:.1f} s")


if __name__ == "__main__":
    main()
