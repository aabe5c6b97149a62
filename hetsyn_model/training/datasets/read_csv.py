"""Reads series of values from a CSV file: a row a step, with the columns series, label, optional group, and channels.

    series,label,group,x,y
    walk-1,walking,anna,0.12,9.81
    walk-1,walking,anna,0.15,9.78

The first column names the series, the second its label. The column ``group``, or ``split.group_column``, says whom or
what a series is from. All other columns are channels.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from hetsyn_model.training.config import Config
from hetsyn_model.training.datasets.data import DataError
from hetsyn_model.training.datasets.examples import Examples, Series, indexed


def read_csv(path: Path, config: Config) -> Examples:
    """Read a CSV file of series. An error of a row has its line."""
    rows: dict[str, list[list[float]]] = {}
    labels: dict[str, str] = {}
    groups: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            channels = [index for index in range(2, len(header)) if header[index] != config.split.group_column]
            if not channels:
                raise DataError(
                    f"{path}: the first line is not a header: series,label,group (optional),CHANNEL,…, "
                    "with commas between the columns"
                )
            if any(_is_measured(header[at]) for at in channels):
                raise DataError(
                    f"{path}: the first line has numbers for names of channels: put a header above it, "
                    "series,label,group (optional),CHANNEL,…"
                )
            group_at = header.index(config.split.group_column, 2) if len(channels) < len(header) - 2 else None
            for row in reader:
                if not row:
                    continue
                where = f"{path}: line {reader.line_num}"
                if len(row) != len(header):
                    raise DataError(f"{where} has {len(row)} columns, but the header has {len(header)}")
                series, label = row[0].strip(), row[1].strip()
                group = "" if group_at is None else row[group_at].strip()
                if labels.setdefault(series, label) != label or groups.setdefault(series, group) != group:
                    raise DataError(
                        f"{where}: series {series!r} has another label or group than before: the first column, "
                        f"{header[0]!r}, is the series, the second, {header[1]!r}, its label"
                    )
                rows.setdefault(series, []).append([_number(row[at], header[at], where) for at in channels])
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}): save it in UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    if not rows:
        raise DataError(f"{path}: contains no rows below its header")
    empty = [series for series, label in labels.items() if not label]
    if empty:
        raise DataError(f"{path}: series {empty[0]!r} has no label")
    numbers, names = indexed(list(labels.values()))
    items = tuple(
        Series(np.array(values, np.float32), number, groups[series])
        for (series, values), number in zip(rows.items(), numbers, strict=True)
    )
    return Examples("values", items, names, str(path), len(channels))


def _is_measured(name: str) -> bool:
    """Return whether a channel's name is a fraction, and so data. A whole number may be the channel's number."""
    try:
        float(name)
    except ValueError:
        return False
    return not name.isdecimal()


def _number(text: str, channel: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError(
            f"{where}: {text!r} in column {channel!r} is not a number: give one with a point, and no other columns"
        ) from None
    if not abs(value) <= float(np.finfo(np.float32).max):
        raise DataError(
            f"{where}: {text.strip()!r} in column {channel!r} is not a finite number: replace it, or leave the series "
            "out"
        )
    return value
