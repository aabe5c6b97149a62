"""Limits the connections of a server: an idle one is closed to make room for another."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from service.admission.budget import Budget
from service.observe.counters import Counters
from service.settings import Limits


class Waiting(Protocol):
    """A connection without a complete request."""

    def end(self, reason: str) -> None:
        """Close the connection.

        Args:
            reason: label of the metric.
        """


class Connections:
    """Counts all connections, up to a limit. Used from one event loop.

    At the limit, the connection that has been longest without a complete request is closed: idle, or in the middle of
    one. WebSockets stay, and so do connections that wait for an answer.

    Args:
        counters: count the connections that the server ends, by reason.
    """

    def __init__(self, limits: Limits, counters: Counters, budget: Budget) -> None:
        self.limits = limits
        self.counters = counters
        self.budget = budget
        self._all: set[object] = set()
        self._waiting: OrderedDict[Waiting, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: object) -> bool:
        """Admit a connection. Returns False if there is no room, and no waiting connection to close."""
        if len(self._all) >= self.limits.max_connections:
            if not self._waiting:
                return False
            longest = next(iter(self._waiting))
            self.leave(longest)
            longest.end("displaced")
        self._all.add(connection)
        return True

    def wait(self, connection: Waiting) -> None:
        """Append a connection to the waiting ones: it is new, or its last request is answered."""
        self._waiting[connection] = None
        self._waiting.move_to_end(connection)

    def work(self, connection: Waiting) -> None:
        """Remove a connection from the waiting ones: its request is complete."""
        self._waiting.pop(connection, None)

    def leave(self, connection: object) -> None:
        """Forget a connection; repeated calls do nothing."""
        self._all.discard(connection)
        self._waiting.pop(connection, None)  # type: ignore[call-overload]  # other objects are not among the waiting
