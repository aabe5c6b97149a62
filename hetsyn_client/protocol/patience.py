"""Decides how often, and for how long, a client tries again."""

from __future__ import annotations

from hetsyn_client.access import REPEATS, TIMEOUT_S

LONGEST_PAUSE_S = 30.0
LONGEST_OWN_PAUSE_S = 2.0  # limit if the server names no pause, so that its return is noticed soon
LONGEST_REPEAT_S = TIMEOUT_S + REPEATS * (LONGEST_PAUSE_S + 2 * TIMEOUT_S)
"""Seconds after a server has counted a chunk, until which our client may send it again, with the default options.

Its answer is awaited, and then each try: a pause, a connection, and its first answer. A server keeps the last reply of
a session for as long.
"""


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
        self._failed_s: float | None = None  # when, and the pause after it
        self._pause_s = 0.0

    def answered(self) -> None:
        """Note that the server has answered, so that it should come back."""
        self.failures = 0
        self._left_s, self._failed_s = self._patience_s, None

    def is_over(self, now_s: float, waited_s: float) -> bool:
        """Return whether a failure is the last.

        Args:
            now_s: seconds of a clock that never goes back.
            waited_s: seconds that the client waited for the server without an answer.
        """
        if self._failed_s is not None:  # a server may take its time to say "later"
            self._left_s -= max(0.0, now_s - self._failed_s - self._pause_s - waited_s)
        self._failed_s = now_s
        return self.failures >= self._repeats and self._left_s <= 0

    def pause_s(self, asked_s: float, waited_s: float) -> float:
        """Compute the pause after a failure that is not the last: 0.1 s first, then twice as long each time.

        Args:
            asked_s: the server's wish; 0 for none.
            waited_s: as of ``is_over``.
        """
        own_s = min(LONGEST_OWN_PAUSE_S, 0.1 * 2.0 ** min(self.failures, 10))
        pause_s = self._pause_s = min(LONGEST_PAUSE_S, max(own_s, asked_s))
        self.failures += 1
        self._left_s -= pause_s + waited_s
        return pause_s
