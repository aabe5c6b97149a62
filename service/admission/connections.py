"""The connections of a server, and which of them makes room for another."""

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
            reason: under which it is counted.
        """


class Connections:
    """All connections, up to a number. Used from one event loop.

    When all places are taken, the connection that has been longest without a complete request is closed: idle, or in
    the middle of one. A WebSocket stays, and so does a connection whose answer is under way.

    Args:
        limits: of connections.
        counters: count the connections that the server ends, by reason.
        budget: of their clients.
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
        """Take a connection in; False if there is no room, and none that waits."""
        if len(self._all) >= self.limits.max_connections:
            if not self._waiting:
                return False
            longest = next(iter(self._waiting))
            self.leave(longest)
            longest.end("displaced")
        self._all.add(connection)
        return True

    def wait(self, connection: Waiting) -> None:
        """Put a connection to the end of the row: it is new, or its last request is answered."""
        self._waiting[connection] = None
        self._waiting.move_to_end(connection)

    def work(self, connection: Waiting) -> None:
        """Take a connection out of the row: its request is complete."""
        self._waiting.pop(connection, None)

    def leave(self, connection: object) -> None:
        """Forget a connection; it may have left before."""
        self._all.discard(connection)
        self._waiting.pop(connection, None)  # type: ignore[call-overload]  # another one is not in the row
