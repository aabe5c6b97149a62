"""HDF5 files in the form of SHD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np


def write_h5(
    path: Path,
    times: Sequence[Sequence[float]],
    units: Sequence[Sequence[int]],
    labels: Sequence[int] | None = None,
    keys: Sequence[str] | None = None,
    kind: str = "float64",
) -> None:
    """Write examples: times of a type, units, and the number and name of each label."""
    with h5py.File(path, "w") as file:
        for name, rows, dtype in (("times", times, kind), ("units", units, "uint16")):
            data = file.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(np.dtype(dtype)))
            for number, row in enumerate(rows):
                data[number] = np.asarray(row, dtype)
        if labels is not None:
            file["labels"] = np.asarray(labels)
        if keys is not None:
            file["extra/keys"] = [key.encode() for key in keys]
