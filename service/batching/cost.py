"""How long a batch takes, by the batches that ran: one line, ``fixed + a * steps + b * spikes``. Pure.

The times are noisy: a thread's CPU time counts what a neighbour steals of a virtual machine. So a batch moves the line
by ``RATE`` of its error only, and counts as twice its estimate at most. A hiccup adds a quarter, and eight times the
cost is learnt in ten batches. Every batch moves the same line, of whatever size it is. So a wrong estimate cannot last:
it loses up to a quarter with each batch.
"""

from __future__ import annotations

from math import inf

RATE = 0.25  # of the error, that a batch corrects
MOST = 2.0  # estimates, that a batch counts as at most
LEAST_S = 1e-6  # that a batch counts as
FIXED = 1 / 16  # of a first batch's time: it is part of the estimate of a smaller batch
SETTLED = 16  # batches, after which a first one that was measured a hundred times too long is forgotten


class CostLine:
    """The time of batches of one kind."""

    __slots__ = ("_event_s", "_fixed_s", "_measured", "_step_s")

    def __init__(self) -> None:
        self._fixed_s = inf
        self._step_s = self._event_s = 0.0
        self._measured = 0

    @property
    def is_settled(self) -> bool:
        """Whether the estimate rests on more than a few batches."""
        return self._measured >= SETTLED

    def seconds(self, steps: int, events: int) -> float:
        """Time that a batch should take, in seconds; inf if none has run.

        Args:
            steps: network steps of all its streams, and one a stream for what each costs anyway.
            events: spikes of all its streams.
        """
        return self._fixed_s + self._step_s * steps + self._event_s * events

    def observe(self, steps: int, events: int, seconds: float) -> None:
        """Correct the line by a batch that ran.

        Each term is corrected in proportion to its part of the time. So none becomes negative, and a term that the
        batches do not tell from another one is rather too large than too small.
        """
        seconds = max(seconds, LEAST_S)
        self._measured += 1
        if self._measured == 1:  # all of it may be due to the steps, or to the spikes; none costs more than a step
            self._fixed_s, self._step_s, self._event_s = FIXED * seconds, seconds / steps, seconds / max(steps, events)
            return
        fixed_s, steps_s, events_s = self._fixed_s, self._step_s * steps, self._event_s * events
        expected_s = fixed_s + steps_s + events_s
        error_s = min(seconds, MOST * expected_s) - expected_s
        share = RATE * error_s / (fixed_s**2 + steps_s**2 + events_s**2)
        self._fixed_s *= 1 + share * fixed_s
        self._step_s *= 1 + share * steps_s
        self._event_s *= 1 + share * events_s
