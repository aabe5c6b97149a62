"""Histograms that cost two additions a value: to a bucket's count, and to the sum."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Bounds of times: from a batch of one small chunk to a queue that is about to be refused."""

CHUNKS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Bounds of the chunks of a batch."""


class Histogram:
    """Counts values by bucket.

    Args:
        bounds: upper bounds of the buckets, ascending. One more bucket, without a bound, takes larger values.

    Attributes:
        counts: values in each bucket, [bounds + 1], not cumulative.
        total: sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value ``times`` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def cumulative(self) -> Iterator[tuple[float | None, int]]:
        """Yield each bound with the number of values up to it; at last None with the number of all values."""
        count = 0
        for bound, more in zip((*self.bounds, None), self.counts, strict=True):
            count += more
            yield bound, count
