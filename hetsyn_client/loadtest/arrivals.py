"""When chunks are due: streams of one period, each with its own phase. Pure, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np


@dataclass(frozen=True)
class Schedule:
    """Chunk n of a stream is due at its phase + n periods, in seconds from the start.

    Attributes:
        period_s: between two chunks of a stream.
        phases_s: one a stream, ascending, all below the period.
    """

    period_s: float
    phases_s: tuple[float, ...]

    def due_s(self, stream: int, chunk: int) -> float:
        return self.phases_s[stream] + chunk * self.period_s

    def due_before(self, stream: int, until_s: float) -> int:
        """How many chunks of the stream are due before a time."""
        return max(0, ceil((until_s - self.phases_s[stream]) / self.period_s))

    def walk(self) -> Iterator[tuple[float, int]]:
        """(due_s, stream) of every chunk, in order of time, endless.

        All streams have one period, so their order repeats and no queue of timers is needed.
        """
        chunk = 0
        while True:
            begin_s = chunk * self.period_s
            for stream, phase_s in enumerate(self.phases_s):
                yield begin_s + phase_s, stream
            chunk += 1


def random_schedule(streams: int, period_s: float, seed: int) -> Schedule:
    """Phases drawn uniformly from the period: the streams are not synchronised."""
    phases = np.sort(np.random.default_rng((seed, 1)).uniform(0, period_s, streams))
    return Schedule(period_s, tuple(phases.tolist()))


def first_session_chunks(streams: int, session_chunks: int, seed: int) -> list[int]:
    """Length of each stream's first session. They differ, so that later sessions do not all end in one period."""
    lengths: list[int] = np.random.default_rng((seed, 2)).integers(1, session_chunks + 1, streams).tolist()
    return lengths


def first_chunks(streams: int, chunks: int, seed: int) -> list[int]:
    """Index of each stream's first chunk in the load."""
    indices: list[int] = np.random.default_rng((seed, 3)).integers(0, chunks, streams).tolist()
    return indices
