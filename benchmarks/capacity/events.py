"""The clock of a simulation, and a process that does one thing after the other."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count
from math import inf

Act = Callable[[], None]


class Events:
    """The clock, what is to happen, and who works now.

    Args:
        cores: that all who work share.
        spread: of the time that the same work takes: the standard deviation of its logarithm.
        seed: of this spread.
    """

    def __init__(self, cores: float = inf, spread: float = 0.0, seed: int = 0) -> None:
        self.now_s = 0.0
        self._spread = spread
        self._random = random.Random(seed)
        self._cores = cores
        self._working = 0
        self._order = count()
        self._heap: list[tuple[float, int, Act]] = []

    def at(self, when_s: float, act: Act) -> None:
        heapq.heappush(self._heap, (when_s, next(self._order), act))

    def work(self, cost_s: float, act: Act) -> float:
        """``act`` once a process has worked for so long; the time, longer where processes share cores."""
        self._working += 1
        spent_s = self.some_s(cost_s) * max(1.0, self._working / self._cores)

        def done() -> None:
            self._working -= 1
            act()

        self.at(self.now_s + spent_s, done)
        return spent_s

    def some_s(self, mean_s: float) -> float:
        """A time that work takes which takes so long on average."""
        spread = self._spread
        return mean_s * self._random.lognormvariate(-spread * spread / 2, spread) if spread else mean_s

    def run(self, until_s: float) -> None:
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self._heap)
            act()
        self.now_s = until_s


class Queue:
    """One process that does one thing after the other: a load generator, or a thread of a proxy."""

    def __init__(self, events: Events, cost_s: float, wake_s: float = 0.0) -> None:
        self._events = events
        self._cost_s = cost_s
        self._wake_s = wake_s  # for the first thing after a rest
        self._waiting: deque[Act] = deque()
        self._is_busy = False
        self.busy_s = 0.0

    def enter(self, act: Act) -> None:
        self._waiting.append(act)
        if not self._is_busy:
            self._next(self._wake_s)

    def _next(self, wake_s: float = 0.0) -> None:
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            act = self._waiting.popleft()

            def done() -> None:
                act()
                self._next()

            self.busy_s += self._events.work(wake_s + self._cost_s, done)
