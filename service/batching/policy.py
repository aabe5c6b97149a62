"""Which waiting chunks form the next batch: pure, without event loop or clock.

The group (model, version, form) of the chunk that has waited longest goes first, so no group starves another;
within the group chunks go in order of arrival. A batch is cut where it would be too large or where one long chunk
would make the others wait for padding. While every engine is busy chunks gather by themselves; ``max_wait_s`` makes
an idle engine wait for more, which costs latency; the default is 0. A session never has two chunks
waiting, since its chunks run one after the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Waiting(NamedTuple):
    """A chunk that waits.

    Attributes:
        group: model, version and form; one batch has one group.
        steps: network steps that the chunk will take.
        since_s: when it arrived, in seconds of any clock.
    """

    group: Hashable
    steps: int
    since_s: float


@dataclass(frozen=True)
class Run:
    """Run these, by their indices among the waiting."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Wait:
    """Run nothing yet; choose again when a chunk arrives, or at this time."""

    until_s: float


@dataclass(frozen=True)
class BatchPolicy:
    """
    Attributes:
        max_batch: chunks of a batch.
        max_padded_steps: chunks of a batch times the steps of its longest.
        max_wait_s: for how long an idle engine waits for a batch to fill.
    """

    max_batch: int = 64
    max_padded_steps: int = 4_096
    max_wait_s: float = 0.0

    def choose(self, waiting: Sequence[Waiting], now_s: float) -> Run | Wait | None:
        """What an idle engine does next.

        Args:
            waiting: in order of arrival.

        Returns:
            None where nothing waits.
        """
        if not waiting:
            return None
        first = waiting[0]
        indices: list[int] = []
        longest, full = 0, False
        for index, item in enumerate(waiting):
            if item.group != first.group:
                continue
            longest_with = max(longest, item.steps)
            if len(indices) == self.max_batch or (
                indices and longest_with * (len(indices) + 1) > self.max_padded_steps
            ):
                full = True
                break
            indices.append(index)
            longest = longest_with
        due_s = first.since_s + self.max_wait_s
        if full or len(indices) == self.max_batch or now_s >= due_s:
            return Run(tuple(indices))
        return Wait(due_s)
