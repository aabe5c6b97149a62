"""How many streams hold a limit: which number to try next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf

GROWTH, SHRINKAGE = 1.3, 0.7


def next_streams(p99_ms: Mapping[int, float], limit_ms: float, start: int, tolerance: float) -> int | None:
    """The number of streams to try next; None when the largest that holds is known to within the tolerance.

    Args:
        p99_ms: of the numbers that were tried. tolerance: relative, of the smallest that fails.
    """
    if not p99_ms:
        return max(1, start)
    low, high = held(p99_ms, limit_ms), fails(p99_ms, limit_ms)
    if high == inf:
        return max(low + 1, ceil(low * GROWTH))
    if high - low <= max(1.0, tolerance * high):
        return None
    if low == 0:
        return max(1, int(high * SHRINKAGE))
    return int(low + high) // 2


def held(p99_ms: Mapping[int, float], limit_ms: float) -> int:
    """The largest number below all that fail that held the limit; 0 for none."""
    return max((n for n, p99 in p99_ms.items() if p99 < limit_ms and n < fails(p99_ms, limit_ms)), default=0)


def fails(p99_ms: Mapping[int, float], limit_ms: float) -> float:
    """The smallest number that failed; infinite for none."""
    return min((n for n, p99 in p99_ms.items() if not p99 < limit_ms), default=inf)
