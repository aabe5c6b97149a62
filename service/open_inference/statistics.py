"""What the statistics extension of the Open Inference Protocol reports of a model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

KINDS = (
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip


class Statistics:
    """Of one version of a model: numbers and nanoseconds."""

    def __init__(self) -> None:
        self._durations = {kind: {"count": 0, "ns": 0} for kind in KINDS}
        self._inferred = 0
        self._last_ms = 0

    def answered(self, total_ns: int, timing: Mapping[str, float] | None) -> None:
        """Count a chunk that was answered.

        Args:
            total_ns: from when it was decoded.
            timing: of ``/infer``; None if the chunk was applied before.
        """
        self._last_ms = int(time.time() * 1e3)
        self._add("success", total_ns)
        if timing is not None:
            self._inferred += 1
            self._add("queue", int(1e6 * timing["queue_ms"]))
            self._add("compute_infer", int(1e6 * timing["engine_ms"]))
            self._add("compute_input", 0)
            self._add("compute_output", int(1e6 * timing["store_ms"]))

    def failed(self, total_ns: int) -> None:
        """Count a chunk that was refused."""
        self._add("fail", total_ns)

    def as_json(self) -> dict[str, Any]:
        """As the protocol writes it, without the model's name."""
        return {
            "last_inference": self._last_ms,
            "inference_count": self._inferred,
            "execution_count": self._inferred,
            "inference_stats": self._durations,
            "batch_stats": [],
            "memory_usage": [],
            "response_stats": {},
        }

    def _add(self, kind: str, ns: int) -> None:
        duration = self._durations[kind]
        duration["count"] += 1
        duration["ns"] += ns
