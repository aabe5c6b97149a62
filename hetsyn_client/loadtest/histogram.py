"""Counts of times, as cheap as an array operation a second.

HdrHistogram's own library takes microseconds of Python for each value that it records, and tens of milliseconds for
percentiles: at tens of thousands of chunks a second, the load generator would measure itself. So times are counted in
an array with the same resolution, and become an HDR histogram once, after the run.
"""

from __future__ import annotations

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

LONGEST_US = 3_600_000_000
DIGITS = 3
EXACT_BITS = 11  # of a value that a histogram of three digits keeps
HALF = 1 << (EXACT_BITS - 1)
CELLS = HALF * (LONGEST_US.bit_length() - EXACT_BITS + 2)

Integers = NDArray[np.int64]


class Histogram:
    """Microseconds, to three significant digits."""

    def __init__(self) -> None:
        self._counts = np.zeros(CELLS, np.int64)
        self._largest = 0

    def add(self, values_us: Integers) -> None:
        """Count values [n], each at least 1."""
        if not len(values_us):
            return
        shift = np.maximum(np.frexp(values_us.astype(np.float64))[1] - EXACT_BITS, 0)
        self._counts += np.bincount(shift * HALF + (values_us >> shift), minlength=CELLS)
        self._largest = max(self._largest, int(values_us.max()))

    def hdr(self) -> HdrHistogram:
        """The same in the form that HdrHistogram's libraries share."""
        histogram = HdrHistogram(1, LONGEST_US, DIGITS)
        cells = np.flatnonzero(self._counts)
        shift = np.maximum(cells // HALF - 1, 0)
        values = np.minimum((cells - shift * HALF) << shift, LONGEST_US)
        for value, count in zip(values.tolist(), self._counts[cells].tolist(), strict=True):
            histogram.record_value(value, count)
        histogram.max_value = max(histogram.max_value, self._largest)
        return histogram


def microseconds(seconds: list[float]) -> Integers:
    """Whole microseconds [n] of times, within the bounds of a histogram."""
    return np.clip((np.array(seconds, np.float64) * 1e6).astype(np.int64), 1, LONGEST_US)


def corrected(values_us: Integers, interval_us: int) -> Integers:
    """With the values of the requests that a slow one held up, one an interval; 0 adds none."""
    parts = [values_us]
    while interval_us and len(values_us := values_us[values_us > interval_us] - interval_us):
        parts.append(values_us)
    return np.concatenate(parts)
