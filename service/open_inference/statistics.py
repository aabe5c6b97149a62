"""Counts what the statistics extension of the Open Inference Protocol reports of a model."""

from __future__ import annotations

import time
from typing import Any

from service.observe.watch import Watch

KINDS = (
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip


class Statistics:
    """Counts and nanoseconds of one version of a model."""

    def __init__(self) -> None:
        self._durations = {kind: {"count": 0, "ns": 0} for kind in KINDS}
        self._inferred = 0
        self._executed = 0.0
        self._last_ms = 0

    def answered(self, watch: Watch) -> None:
        """Count a chunk that was answered now.

        Args:
            watch: its time, decoding included. A replayed chunk has no computed part.
        """
        self._last_ms = int(time.time() * 1e3)
        queue_s = watch.queue_s
        self._add("success", queue_s + watch.ran.engine_s + watch.store_s)
        if watch.ran.batches:
            self._inferred += 1
            self._executed += watch.ran.batches
            self._add("queue", queue_s)
            self._add("compute_infer", watch.ran.engine_s)
            self._add("compute_input", 0.0)
            self._add("compute_output", watch.store_s)

    def failed(self, total_s: float) -> None:
        """Count a chunk that was refused."""
        self._add("fail", total_s)

    def as_json(self) -> dict[str, Any]:
        """Write the statistics as the protocol has them, without the model's name."""
        return {
            "last_inference": self._last_ms,
            "inference_count": self._inferred,
            "execution_count": round(self._executed),
            "inference_stats": self._durations,
            "batch_stats": [],
            "memory_usage": [],
            "response_stats": {},
        }

    def _add(self, kind: str, seconds: float) -> None:
        duration = self._durations[kind]
        duration["count"] += 1
        duration["ns"] += int(1e9 * seconds)
