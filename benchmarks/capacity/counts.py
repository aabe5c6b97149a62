"""What a simulation counts, and says at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np


@dataclass(frozen=True)
class Simulated:
    """What the simulation says of a load.

    Attributes:
        seconds: simulated time, after the warm-up.
        answered_per_s: chunks answered well.
        refused_per_s: chunks refused with 503.
        p50_ms: median latency of the answered ones, from when they were sent.
        p99_ms: 99th percentile of the same.
        mean_ms: mean of the same.
        mean_batch: chunks of a batch.
        cold_turns_per_s: turns of loops that had no work for a while.
        in_service: chunks between their sending and their answer, on average over time.
        busy: share of time that each part works, the mean over its members: ``client``, ``proxy``, ``loop``, ``store``.
    """

    seconds: float
    answered_per_s: float
    refused_per_s: float
    p50_ms: float
    p99_ms: float
    mean_ms: float
    mean_batch: float
    cold_turns_per_s: float
    in_service: float
    busy: dict[str, float]


class Counts:
    """Chunks, batches and latencies since ``begin``."""

    def __init__(self) -> None:
        self._inside = 0
        self.begin(0.0)

    def begin(self, now_s: float) -> None:
        """Forget what was counted so far; chunks that are on their way stay so."""
        self._since_s = self._changed_s = now_s
        self._latencies_s: list[float] = []
        self._refused = self._batches = self._chunks = self.cold_turns = 0
        self._inside_s = 0.0

    def sent(self, now_s: float) -> None:
        self._move(now_s, 1)

    def left(self, now_s: float, latency_s: float, *, is_good: bool) -> None:
        """A chunk is answered, or refused."""
        self._move(now_s, -1)
        if is_good:
            self._latencies_s.append(latency_s)
        else:
            self._refused += 1

    def batched(self, chunks: int) -> None:
        self._batches += 1
        self._chunks += chunks

    def _move(self, now_s: float, more: int) -> None:
        self._inside_s += self._inside * (now_s - self._changed_s)
        self._changed_s = now_s
        self._inside += more

    def result(self, now_s: float, busy_s: Mapping[str, float]) -> Simulated:
        """What the simulation says.

        Args:
            now_s: its end.
            busy_s: time that each part worked, the mean over its members.
        """
        self._move(now_s, 0)
        seconds = now_s - self._since_s
        latencies_ms = 1e3 * np.array(self._latencies_s or [inf])
        p50_ms, p99_ms = np.quantile(latencies_ms, (0.5, 0.99), method="lower")
        return Simulated(
            seconds=seconds,
            answered_per_s=len(self._latencies_s) / seconds,
            refused_per_s=self._refused / seconds,
            p50_ms=float(p50_ms),
            p99_ms=float(p99_ms),
            mean_ms=float(latencies_ms.mean()),
            mean_batch=self._chunks / max(1, self._batches),
            cold_turns_per_s=self.cold_turns / seconds,
            in_service=self._inside_s / seconds,
            busy={name: part_s / seconds for name, part_s in busy_s.items()},
        )
