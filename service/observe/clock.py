"""Clocks: their type, and one that steps of the machine's clock do not reach."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

Clock = Callable[[], float]
"""Returns seconds. The parameter that takes a clock says since when."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def since_boot() -> float:
    """Seconds since the machine started. On Linux, the time for which it was suspended counts too."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def boot_id() -> str:
    """Of this start of the machine: programs with the same one have the same ``since_boot``. Empty if unknown."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class SteadyClock:
    """Seconds since about 1970. They begin with the wall clock and go on with a clock that nobody sets.

    Args:
        wall: seconds since 1970, which may step.
        steady: seconds, which do not step.

    Attributes:
        steady: see above.
        offset_s: from ``steady`` to the time of this clock.
    """

    def __init__(self, wall: Clock = time.time, steady: Clock = since_boot) -> None:
        self.steady = steady
        self.offset_s = wall() - steady()

    def __call__(self) -> float:
        return self.steady() + self.offset_s
