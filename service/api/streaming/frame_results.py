"""Collects the results of a frame of ``WS /streams``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, cast

import numpy as np

from hetsyn_client.columns import APPLIED, Results
from hetsyn_client.results import Classified, Outcome, classified
from service.problem import Problem
from service.session.session import Answer, PlainReply
from service.wire.many_frames import Chunks, pack_results

IN_COLUMNS = ("label", "probabilities")
SAID_BESIDE = tuple(name for name in Classified.__annotations__ if name not in IN_COLUMNS)
BESIDE = (*SAID_BESIDE, "events")
"""Members of an outcome that a row has beside its columns, if there is something in them."""
HAS_BESIDE = any(name in classified(None, None) for name in SAID_BESIDE)
"""Whether every row has such."""

_more_of, _total_of = attrgetter("more"), attrgetter("session.known.progress.total_steps")
_kept_of = attrgetter("session.known.progress.last.reply")


class FrameResults:
    """The results of a frame, as they come.

    Args:
        outputs: the model's outputs; 0 without probabilities.
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

    def is_applied(self, row: int) -> bool:
        return bool(self._status[row] == APPLIED)

    def set_all(self, rows: Sequence[int], outcomes: Sequence[Answer | Problem]) -> None:
        """Store the outcomes of some rows, which ascend."""
        kept = None if HAS_BESIDE else _plain_replies(outcomes)
        if kept is None:
            for row, outcome in zip(rows, outcomes, strict=True):
                self.set(row, outcome if isinstance(outcome, Problem) else outcome.outcome)
            return
        steps, label, probabilities = zip(*kept, strict=True)
        to = slice(None) if len(rows) == len(self._status) else np.array(rows)
        self._total_steps[to], self._steps[to], self._label[to] = list(map(_total_of, outcomes)), steps, label
        self._probabilities[to] = np.frombuffer(b"".join(probabilities), np.float32).reshape(len(rows), -1)
        self._status[to] = APPLIED
        self.applied += len(rows)

    def set(self, row: int, outcome: Outcome | Problem | None) -> None:
        """Store the outcome of one row. None: LEAVE, which has no result."""
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
        """Add a row's members that have no column."""
        members = cast(dict[str, Any], said)
        if more := {name: value for name in BESIDE if (value := members.get(name)) not in (None, [])}:
            self._more[row] = more

    def packed(self) -> bytes:
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


def _plain_replies(outcomes: Sequence[Answer | Problem]) -> list[PlainReply] | None:
    """Return the replies of rows that all have nothing but columns; else None."""
    if set(map(type, outcomes)) != {Answer} or any(map(_more_of, outcomes)):
        return None
    kept = list(map(_kept_of, outcomes))
    return kept if set(map(type, kept)) == {PlainReply} else None
