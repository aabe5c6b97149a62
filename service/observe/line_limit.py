"""Lets a few lines of log through a second, where thousands could come at once."""

from __future__ import annotations

import time

from service.observe.clock import Clock


class LineLimit:
    """Counts the lines of the current second, and those that are left out.

    Args:
        most: lines in a second.
        clock: seconds.
    """

    def __init__(self, most: int, clock: Clock = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._since_s = clock()
        self._lines = 0
        self._left_out = 0

    def admit(self) -> int | None:
        """Count a line.

        Returns:
            None if the line is to be left out; else how many were left out before it and are not reported yet.
        """
        now_s, reported = self._clock(), 0
        if now_s - self._since_s >= 1.0:
            reported, self._left_out = self._left_out, 0
            self._since_s, self._lines = now_s, 0
        if self._lines >= self._most:
            self._left_out += 1
            return None
        self._lines += 1
        return reported
