"""Rows of values as ``application/vnd.hetsyn.values``: float32, little endian, one row a step, one after the other.

The content type says how many numbers a row has: ``application/vnd.hetsyn.values;channels=3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError

MEDIA_TYPE = "application/vnd.hetsyn.values"

Values = NDArray[np.float32]


def content_type(channels: int) -> str:
    """Name the content type of rows of ``channels`` numbers."""
    return f"{MEDIA_TYPE};channels={channels}"


def pack_values(values: Sequence[Sequence[float]] | NDArray[Any]) -> tuple[bytes, str]:
    """Pack rows [steps, channels] of finite numbers, and name their content type; errors as ``rows_of``."""
    rows = rows_of(values)
    return rows.astype("<f4").tobytes(), content_type(rows.shape[1])


def rows_of(values: Sequence[Sequence[float]] | NDArray[Any], channels: int | None = None) -> Values:
    """Make rows of float32, [steps, channels].

    Args:
        channels: numbers that a row must have; None for any.

    Raises:
        InputError: not such a matrix, or a number beyond float32; the message names its index.
    """
    try:
        rows = np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"the values are no matrix of numbers ({error}): send one row a step, all alike") from error
    if rows.dtype.kind not in "biuf" or rows.ndim != 2 or not rows.shape[1]:
        raise InputError(
            f"the values have shape {list(rows.shape)} and type {rows.dtype}: send numbers [steps, channels]"
        )
    if channels is not None and rows.shape[1] != channels:
        raise InputError(f"the rows have {rows.shape[1]} values, but the stream has channels={channels}: send as many")
    return check_values(rows)


def check_values(numbers: NDArray[Any]) -> Values:
    """Make rows of float32, [steps, channels].

    Raises:
        InputError: a number is not finite, or beyond float32; the message names its index.
    """
    with np.errstate(over="ignore"):
        values: Values = numbers.astype(np.float32)
    if not np.isfinite(values).all():
        t, i = (int(index) for index in np.argwhere(~np.isfinite(values))[0])
        raise InputError(
            f"values[{t}][{i}] is {numbers[t, i]:g}: send finite numbers that float32 can hold, up to 3.4e38"
        )
    return values
