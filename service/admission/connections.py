"""Limits the connections of a server, and the time of each: an idle one is closed to make room for another."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Protocol

from service.admission.budget import Budget
from service.observe.counters import Counters
from service.settings import Limits


class Waiting(Protocol):
    """A connection without a complete request."""

    def end(self, reason: str) -> None:
        """Close the connection; ``reason`` is a label of the metric."""


class Connections:
    """Counts all connections, up to a limit. Used from one event loop.

    At the limit, the connection that has been longest without a complete request is closed: idle, or in the middle of
    one. WebSockets stay, and so do connections that wait for an answer.

    Attributes:
        waiting: connections without a complete request, longest first. Each enters when it is new or answered, and
            leaves when its request is complete.
    """

    def __init__(self, limits: Limits, counters: Counters, budget: Budget) -> None:
        self.limits = limits
        self.counters = counters
        self.budget = budget
        self._all: set[object] = set()
        self.waiting: OrderedDict[Waiting, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: object) -> bool:
        """Admit a connection. Returns False if there is no room, and no waiting connection to close."""
        if len(self._all) >= self.limits.max_connections:
            if not self.waiting:
                return False
            longest = next(iter(self.waiting))
            self.leave(longest)
            longest.end("displaced")
        self._all.add(connection)
        return True

    def leave(self, connection: object) -> None:
        """Forget a connection; repeated calls do nothing."""
        self._all.discard(connection)
        self.waiting.pop(connection, None)  # type: ignore[call-overload]  # other objects are not among the waiting


class Deadline:
    """Calls a function at a time, unless it is postponed. Postponing takes no new timer.

    ``due_s`` is that time, on the event loop's clock; infinite for none.
    """

    __slots__ = ("_late", "_loop", "_timer", "due_s")

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.due_s = inf

    def set(self, due_s: float) -> None:
        self.due_s = due_s
        if self._timer is not None:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._wake)

    def close(self) -> None:
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
