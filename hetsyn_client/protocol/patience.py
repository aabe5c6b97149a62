"""Decides how often, and for how long, a client tries again."""

from __future__ import annotations

LONGEST_PAUSE_S = 30.0
LONGEST_OWN_PAUSE_S = 2.0  # limit if the server names no pause, so that its return is noticed soon


class Patience:
    """Counts failures in a row, and the time that they took.

    Args:
        repeats: how often to try again; 0 for never.
        patience_s: least time of the tries after the server has answered once.

    Attributes:
        failures: number of failures in a row.
    """

    def __init__(self, repeats: int, patience_s: float) -> None:
        self.failures = 0
        self._repeats = repeats
        self._patience_s = patience_s if repeats else 0.0
        self._left_s = 0.0

    def answered(self) -> None:
        """Note that the server has answered, so that it should come back."""
        self.failures = 0
        self._left_s = self._patience_s

    @property
    def is_over(self) -> bool:
        """Return whether the next failure is the last."""
        return self.failures >= self._repeats and self._left_s <= 0

    def pause_s(self, asked_s: float, waited_s: float) -> float:
        """Note a failure, and compute the pause after it: 0.1 s first, then twice as long each time.

        Args:
            asked_s: the server's wish; 0 for none.
            waited_s: seconds that the client waited for the server without an answer.
        """
        own_s = min(LONGEST_OWN_PAUSE_S, 0.1 * 2.0 ** min(self.failures, 10))
        pause_s = min(LONGEST_PAUSE_S, max(own_s, asked_s))
        self.failures += 1
        self._left_s -= pause_s + waited_s
        return pause_s
