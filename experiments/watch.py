"""Recordings of a watch during shoulder exercises, from the package ``seglearn``.

Ten people did seven exercises of physiotherapy, some twenty times each, once with either arm, and wore a watch with an
accelerometer and a gyroscope (Burns et al., *Shoulder physiotherapy exercise recognition: machine learning the inertial
signals from a smartwatch*, Physiological Measurement 39, 2018, arXiv 1802.01489). seglearn ships 140 of these
recordings under its BSD licence (Copyright (c) 2018, David M. Burns). Its ``datasets.py`` says: six channels, 50 Hz.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.task import MissingData
from hetsyn_client.extras import install_command

FILE = "watch_dataset.npy"
CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")  # acceleration, then the rate of rotation, along the watch's axes
STEP_S = 0.02
# the file's names are PEN, ABD, FEL, IR, ER, TRAP, ROW
EXERCISES = (
    "pendulum",
    "abduction",
    "forward elevation",
    "internal rotation",
    "external rotation",
    "trapezius extension",
    "row",
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
    """All recordings, by person, exercise and arm.

    Args:
        folder: of the file; None for the installed package, which is not imported.

    Raises:
        MissingData: the file is not there, or it is another one.
    """
    package = find_spec("seglearn")
    if folder is None and (package is None or package.origin is None):
        raise MissingData(f"the watch's recordings come with seglearn: {install_command('experiments')}")
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


def windows(recordings: Sequence[WatchRecording], steps: int) -> list[tuple[WatchRecording, NDArray[np.float32]]]:
    """All windows of so many steps that do not overlap, each with its recording; what is left at the end is dropped."""
    return [
        (recording, recording.values[start : start + steps])
        for recording in recordings
        for start in range(0, len(recording.values) - steps + 1, steps)
    ]
