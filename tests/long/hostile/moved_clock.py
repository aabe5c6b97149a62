"""``hetsyn`` with a wall clock that a file moves: ``python moved_clock.py serve ...``. The monotonic clock is right.

The environment names the file (``HOSTILE_CLOCK``), which has the seconds by which the clock is ahead. It runs in the
environment of any checkout, so it imports nothing of this one.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "HOSTILE_CLOCK"


def move_clock(path: Path) -> None:
    """Let ``time.time`` and ``time.time_ns`` be ahead by the seconds in a file, from now on."""
    right, right_ns = time.time, time.time_ns

    def ahead_s() -> float:
        with suppress(OSError, ValueError):
            return float(path.read_text())
        return 0.0

    time.time = lambda: right() + ahead_s()
    time.time_ns = lambda: right_ns() + int(1e9 * ahead_s())


if __name__ == "__main__":
    move_clock(Path(os.environ[VARIABLE]))
    from hetsyn import main

    sys.argv[0] = "hetsyn"
    main()
