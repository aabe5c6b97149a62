"""How long a chunk took, by part: for the histograms, for traces, and for clients that ask for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Watch:
    """The time of one chunk. Seconds are those of ``time.perf_counter``.

    Args:
        started_s: when the chunk came; by default now.

    Attributes:
        started_s: see above.
        engine_begun_s: when its first segment began; 0 before.
        engine_s: seconds of the segments in which it was computed, together with others.
        store_s: seconds of its commits.
        batches: in which it was computed; a batch counts as the chunk's share of it.
    """

    __slots__ = ("batches", "engine_begun_s", "engine_s", "started_s", "store_s")

    def __init__(self, started_s: float | None = None) -> None:
        self.started_s = time.perf_counter() if started_s is None else started_s
        self.engine_begun_s = 0.0
        self.engine_s = 0.0
        self.store_s = 0.0
        self.batches = 0.0

    @property
    def queue_s(self) -> float:
        """Seconds until now that are neither of the engine nor of the store."""
        return max(0.0, time.perf_counter() - self.started_s - self.engine_s - self.store_s)

    def computed(self, begun_s: float, wall_s: float, chunks: int = 1) -> None:
        """A segment of the chunk was computed.

        Args:
            begun_s: when it began.
            wall_s: seconds that it took.
            chunks: that were computed together.
        """
        if not self.engine_begun_s:
            self.engine_begun_s = begun_s
        self.engine_s += wall_s
        self.batches += 1 / chunks

    async def stored(self, commit: Awaitable[T]) -> T:
        """The outcome of a commit, whose time counts as that of the store."""
        begun_s = time.perf_counter()
        try:
            return await commit
        finally:
            self.store_s += time.perf_counter() - begun_s
