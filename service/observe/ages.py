"""How old open sessions are."""

from __future__ import annotations

from collections.abc import Iterator

from service.observe.timings import Histogram

_BOUNDS_S = (60.0, 600.0, 3_600.0, 21_600.0, 86_400.0)
_NAMES = ("<1m", "1m-10m", "10m-1h", "1h-6h", "6h-1d", ">1d")


class Ages:
    """Counts sessions by their age."""

    def __init__(self) -> None:
        self._histogram = Histogram(_BOUNDS_S)

    def observe(self, age_s: float) -> None:
        """Count a session."""
        self._histogram.observe(age_s)

    def by_name(self) -> Iterator[tuple[str, int]]:
        """List the name of each range of ages, and the number of sessions in it."""
        return zip(_NAMES, self._histogram.counts, strict=True)
