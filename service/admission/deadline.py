"""A deadline that can be postponed cheaply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Deadline:
    """Calls a function at a time, unless it is postponed. Postponing takes no new timer.

    Args:
        late: called at that time.

    Attributes:
        due_s: the time, on the event loop's clock; infinite for none.
    """

    __slots__ = ("_late", "_loop", "_timer", "due_s")

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.due_s = inf

    def set(self, due_s: float) -> None:
        """Set the time, on the event loop's clock."""
        self.due_s = due_s
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._wake)

    def close(self) -> None:
        """Cancel the call."""
        self.due_s = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        if self.due_s <= self._loop.time():
            self.due_s = inf
            self._late()
        elif self.due_s < inf:
            self.set(self.due_s)
