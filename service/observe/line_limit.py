"""Limits the lines of log a second."""

from __future__ import annotations

import time

from service.clock import Clock


class LineLimit:
    """Counts the lines of the current second, at most ``most``, and the suppressed ones."""

    def __init__(self, most: int, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._since_s = clock()
        self._lines = 0
        self._left_out = 0

    def admit(self) -> int | None:
        """Count a line. Returns None to suppress it, else the number of lines suppressed since the last report."""
        now_s, reported = self._clock(), 0
        if now_s - self._since_s >= 1.0:
            reported, self._left_out = self._left_out, 0
            self._since_s, self._lines = now_s, 0
        if self._lines >= self._most:
            self._left_out += 1
            return None
        self._lines += 1
        return reported
