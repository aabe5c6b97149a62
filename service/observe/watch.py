"""Times a chunk by part: for the histograms, for traces, and for clients that ask for it."""

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
        engine_begun_s: when its first segment began; 0 before.
        engine_s: seconds of the segments in which it was computed, together with others.
        store_s: seconds of its commits.
        batches: the chunk's shares of the batches in which it was computed, added up.
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
        """Return the seconds until now that neither the engine nor the store took."""
        return max(0.0, time.perf_counter() - self.started_s - self.engine_s - self.store_s)

    def computed(self, begun_s: float, wall_s: float, chunks: int = 1) -> None:
        """Count a computed segment of the chunk.

        Args:
            begun_s: when it began.
            wall_s: its seconds.
            chunks: number of chunks that were computed together.
        """
        if not self.engine_begun_s:
            self.engine_begun_s = begun_s
        self.engine_s += wall_s
        self.batches += 1 / chunks

    async def stored(self, commit: Awaitable[T]) -> T:
        """Await a commit, count its time, and return its outcome."""
        begun_s = time.perf_counter()
        try:
            return await commit
        finally:
            self.store_s += time.perf_counter() - begun_s
