"""Estimates the time of a batch from earlier ones: one line, ``fixed + a * steps + b * spikes``. Pure.

The times are noisy: a thread's CPU time includes what a neighbour steals from a virtual machine. So a batch corrects
only ``RATE`` of its error, and counts as at most twice its estimate. A hiccup adds a quarter, and eight times the cost
is learned in ten batches. Batches of all sizes correct the same line, so a wrong estimate loses up to a quarter with
each.
"""

from __future__ import annotations

from math import inf

RATE = 0.25  # share of the error that a batch corrects
MOST = 2.0  # a batch counts as at most this multiple of its estimate
LEAST_S = 1e-6  # a batch counts as at least this
FIXED = 1 / 16  # share of a first batch's time that a smaller batch is estimated to take too
SETTLED = 16  # batches after which a first one that was measured a hundred times too long is forgotten


class CostLine:
    """The time of batches of one kind."""

    __slots__ = ("_event_s", "_fixed_s", "_measured", "_step_s")

    def __init__(self) -> None:
        self._fixed_s = inf
        self._step_s = self._event_s = 0.0
        self._measured = 0

    @property
    def is_settled(self) -> bool:
        """Return whether the estimate is based on more than a few batches."""
        return self._measured >= SETTLED

    def seconds(self, steps: int, events: int) -> float:
        """Estimate the seconds of a batch; inf if none has run.

        Args:
            steps: network steps of all its streams, plus one a stream for its fixed cost.
            events: spikes of all its streams.
        """
        return self._fixed_s + self._step_s * steps + self._event_s * events

    def observe(self, steps: int, events: int, seconds: float) -> None:
        """Correct the line by a batch that ran.

        Each term is corrected in proportion to its part of the time. So none becomes negative, and terms that the
        batches cannot tell apart are too large rather than too small.
        """
        seconds = max(seconds, LEAST_S)
        self._measured += 1
        if self._measured == 1:  # the steps or the spikes may cause all of it; a spike costs no more than a step
            self._fixed_s, self._step_s, self._event_s = FIXED * seconds, seconds / steps, seconds / max(steps, events)
            return
        fixed_s, steps_s, events_s = self._fixed_s, self._step_s * steps, self._event_s * events
        expected_s = fixed_s + steps_s + events_s
        error_s = min(seconds, MOST * expected_s) - expected_s
        share = RATE * error_s / (fixed_s**2 + steps_s**2 + events_s**2)
        self._fixed_s *= 1 + share * fixed_s
        self._step_s *= 1 + share * steps_s
        self._event_s *= 1 + share * events_s
