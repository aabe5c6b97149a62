"""Series in the form of aeon, sktime and timeseriesclassification.com (``.ts``) as ``hetsyn train`` takes them.

    python examples/ts_to_npz.py BasicMotions_TRAIN.ts train.npz

A line is an example: its channels, separated by ``:``, each a list of values separated by commas; at last the class.
Series may be of different lengths.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_ts(path: Path) -> dict[str, Any]:
    """Read a file as the arrays of a ``.npz`` file for ``hetsyn train``.

    Raises:
        ValueError: a line is not an example with a class; the message says which and why.
    """
    series: list[NDArray[np.float64]] = []
    labels: list[str] = []
    in_data = False
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8 ({error}): give a .ts file") from error
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not in_data:
            in_data = text.lower() == "@data"
        elif text and not text.startswith("#"):
            *channels, label = text.split(":")
            try:
                values = np.array([[float(value) for value in channel.split(",")] for channel in channels]).T
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: not lists of numbers, one a channel, all as long ({error}): "
                    "fill in missing values, and leave out times"
                ) from error
            if values.ndim != 2 or (series and values.shape[1] != series[0].shape[1]):
                raise ValueError(f"{path}, line {number}: give each example the same channels, and a class at the end")
            if not label.strip():
                raise ValueError(f"{path}, line {number}: has no class at its end: add one, or delete the line")
            if not np.isfinite(values).all():
                raise ValueError(f"{path}, line {number}: a value is not a finite number: fill in missing values")
            series.append(values)
            labels.append(label.strip())
    if not series:
        raise ValueError(f"{path}: no examples after a line @data: give a .ts file")
    offsets = np.cumsum([0, *(len(values) for values in series)])
    return {"values": np.concatenate(series), "offsets": offsets, "labels": np.array(labels)}


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/ts_to_npz.py FILE.ts FILE.npz")
    try:
        arrays = read_ts(Path(sys.argv[1]))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    np.savez_compressed(sys.argv[2], **arrays)
    print(f"{sys.argv[2]}: {len(arrays['labels'])} series of {arrays['values'].shape[1]} channels")


if __name__ == "__main__":
    main()
