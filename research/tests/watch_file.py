"""A file in the form of seglearn's recordings of a watch, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from research.tasks.smartwatch import FILE


def write_watch(folder: Path, steps: int = 320, people: int = 10) -> Path:
    """A file of recordings in which each exercise turns at a speed of its own; returns the folder.

    Args:
        folder: for the file.
        steps: of the shortest recording; each is a step longer than the one before.
        people: who did all seven exercises with either arm.
    """
    rng = np.random.default_rng(0)
    keys = [(person, exercise, side) for person in range(1, people + 1) for exercise in range(7) for side in (0.0, 1.0)]
    series = []
    for index, (person, exercise, side) in enumerate(keys):
        at = np.arange(steps + index)[:, None] * (exercise + 1) * 0.04 + person
        series.append((side + 0.5) * np.sin(at + np.arange(6)) + rng.normal(0, 0.05, (steps + index, 6)))
    saved = {
        "X": series,
        "y": np.array([exercise for _, exercise, _ in keys]),
        "subject": np.array([person for person, _, _ in keys]),
        "side": np.array([side for *_, side in keys]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / FILE, np.array(saved, dtype=object), allow_pickle=True)
    return folder
