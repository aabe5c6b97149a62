"""A node of the store in a simulation."""

from __future__ import annotations

from collections import deque

from benchmarks.capacity.events import Act, Events
from benchmarks.capacity.system import IDLE_S, NodeCosts


class Node:
    """A node of the store."""

    def __init__(self, events: Events, costs: NodeCosts) -> None:
        self._events = events
        self._costs = costs
        self._waiting: deque[tuple[int, Act]] = deque()
        self._is_busy = False
        self._idle_since_s = 0.0
        self.busy_s = 0.0

    def command(self, records: int, answer: Act) -> None:
        self._waiting.append((records, answer))
        if not self._is_busy:
            has_rested = self._events.now_s - self._idle_since_s >= IDLE_S
            self._turn(self._costs.cold_s if has_rested else 0.0)

    def _turn(self, more_s: float = 0.0) -> None:
        node, events = self._costs, self._events
        self._is_busy = bool(self._waiting)
        if not self._is_busy:
            self._idle_since_s = events.now_s
            return
        taken = [self._waiting.popleft() for _ in range(len(self._waiting) if node.shares_turns else 1)]
        records = sum(records for records, _ in taken)
        cost_s = events.some_s(more_s + node.turn_s + len(taken) * node.command_s + records * node.record_s)
        self.busy_s += cost_s

        def done() -> None:
            for _, answer in taken:
                answer()
            self._turn()

        # it takes no core from others: true of a disk, and of a store with processors of its own
        events.at(events.now_s + cost_s, done)
