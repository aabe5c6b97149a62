"""The results of a frame of ``WS /streams``, while they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from hetsyn_client.columns import APPLIED, Chunks, Results, pack_results
from hetsyn_client.results import Classified, Outcome, classified
from service.problem import Problem
from service.registry.rows import AppliedRows

IN_COLUMNS = ("label", "probabilities")
SAID_BESIDE = tuple(name for name in Classified.__annotations__ if name not in IN_COLUMNS)
BESIDE = (*SAID_BESIDE, "events")
"""Members of an outcome that a row has beside its columns, if there is something in them."""
HAS_BESIDE = any(name in classified(None, None) for name in SAID_BESIDE)
"""Whether every row has such."""


class FrameResults:
    """The results of a frame, while they come.

    Args:
        chunks: of the frame.
        outputs: of the model; 0 where it gives no probabilities.
        labels: index of each.

    Attributes:
        applied: rows that were applied.
    """

    def __init__(self, chunks: Chunks, outputs: int, labels: Mapping[str, int]) -> None:
        count = len(chunks.seq)
        self._chunks = chunks
        self._labels = labels
        self._total_steps, self._label = np.zeros(count, np.uint64), np.full(count, -1, np.int32)
        self._status, self._steps = np.zeros(count, np.uint32), np.zeros(count, np.uint32)
        self._probabilities = np.zeros((count, outputs), np.float32)
        self._more: dict[int, dict[str, Any]] = {}
        self.applied = 0

    def missing(self) -> list[int]:
        """Rows without an outcome."""
        missing: list[int] = np.flatnonzero(self._status == 0).tolist()
        return missing

    def set_rows(self, rows: AppliedRows) -> None:
        """Rows that were applied together."""
        numbers = rows.numbers
        self._total_steps[numbers] = rows.total_steps
        self._label[numbers] = rows.label
        self._steps[numbers] = rows.steps
        self._probabilities[numbers] = rows.probabilities
        self._status[numbers] = APPLIED
        self.applied += len(numbers)
        if HAS_BESIDE:
            for number, label, shares in zip(numbers, rows.label.tolist(), rows.probabilities.tolist(), strict=True):
                self._add(number, classified(None if label < 0 else rows.labels[label], shares))

    def set(self, row: int, outcome: Outcome | Problem | None) -> None:
        """A row that was applied or refused; None where there is nothing to say."""
        if isinstance(outcome, Problem):
            self._status[row] = outcome.status
            self._more[row] = outcome.row()
            return
        self._status[row] = APPLIED
        if outcome is not None:
            self.applied += 1
            self._total_steps[row], self._steps[row] = outcome["total_steps"], outcome["steps"]
            if (label := outcome["label"]) is not None:
                self._label[row] = self._labels[label]
            if (probabilities := outcome["probabilities"]) is not None:
                self._probabilities[row] = probabilities
            self._add(row, outcome)

    def _add(self, row: int, said: Classified) -> None:
        """Add what a row has beside its columns."""
        members = cast(dict[str, Any], said)
        if more := {name: value for name in BESIDE if (value := members.get(name))}:
            self._more[row] = more

    def packed(self) -> bytes:
        """The frame."""
        chunks = self._chunks
        return pack_results(
            Results(
                chunks.seq,
                self._total_steps,
                chunks.handle,
                chunks.action,
                self._status,
                self._steps,
                self._label,
                self._probabilities,
                self._more,
            )
        )
