"""Histograms as two plain numbers a value: one of the counts, and the sum."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Bounds of times: from a batch of one small chunk to a queue that is about to be refused."""

CHUNKS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Bounds of the chunks of a batch."""


class Histogram:
    """How often a value was at most so much.

    Args:
        bounds: of the buckets, ascending; the last bucket, above them all, has none.

    Attributes:
        bounds: see above.
        counts: of values by bucket, one more than there are bounds. Not cumulative.
        total: sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def cumulative(self) -> Iterator[tuple[float | None, int]]:
        """Each bound, and the number of values up to it; the last one, without a bound, is that of all."""
        count = 0
        for bound, more in zip((*self.bounds, None), self.counts, strict=True):
            count += more
            yield bound, count
