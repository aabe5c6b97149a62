"""Times a chunk by part: for the histograms, for traces, and for clients that ask for it.

Seconds are those of ``time.perf_counter``.
"""

from __future__ import annotations

import time
from typing import NamedTuple


class Ran(NamedTuple):
    """The segments in which a chunk was computed, together with others.

    Attributes:
        begun_s: when the first one began; 0 before.
        engine_s: seconds of all.
        batches: segments; one counts as the chunk's share of it.
    """

    begun_s: float = 0.0
    engine_s: float = 0.0
    batches: float = 0.0

    def and_then(self, next_one: Ran) -> Ran:
        """Add a segment."""
        return Ran(self.begun_s or next_one.begun_s, self.engine_s + next_one.engine_s, self.batches + next_one.batches)


NOT_RUN = Ran()


class Watch(NamedTuple):
    """The time of one chunk.

    Attributes:
        started_s: when the chunk came.
        store_s: seconds of its commits.
    """

    started_s: float
    ran: Ran = NOT_RUN
    store_s: float = 0.0

    @property
    def queue_s(self) -> float:
        """Return the seconds until now that neither the engine nor the store took."""
        return max(0.0, time.perf_counter() - self.started_s - self.ran.engine_s - self.store_s)
