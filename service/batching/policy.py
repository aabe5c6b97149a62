"""Which waiting chunks form the next batch: pure, without event loop or clock.

The group (model, version, form) of the chunk that has waited longest goes first, so no group starves another;
within the group chunks go in order of arrival. A batch is cut where it would be too large or where one long chunk
would make the others wait for padding. While every engine is busy chunks gather by themselves; ``max_wait_s`` makes
an idle engine wait for more, which costs latency and is 0 unless told otherwise. A session never has two chunks
waiting, since its chunks run one after the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Waiting(NamedTuple):
    """A chunk that waits. steps: network steps that it will take. since_s: time of its arrival."""

    group: Hashable
    steps: int
    since_s: float


@dataclass(frozen=True)
class Run:
    """Run these, by their places among the waiting."""

    places: tuple[int, ...]


@dataclass(frozen=True)
class Wait:
    """Nothing yet; ask again when something arrives, or at this time."""

    until_s: float


@dataclass(frozen=True)
class BatchPolicy:
    """
    max_batch: chunks of a batch. max_padded_steps: its chunks times the steps of its longest. max_wait_s: for how
    long an idle engine waits for a batch to fill.
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
        places: list[int] = []
        longest, full = 0, False
        for place, item in enumerate(waiting):
            if item.group != first.group:
                continue
            longest_with = max(longest, item.steps)
            if len(places) == self.max_batch or (places and longest_with * (len(places) + 1) > self.max_padded_steps):
                full = True
                break
            places.append(place)
            longest = longest_with
        due_s = first.since_s + self.max_wait_s
        if full or len(places) == self.max_batch or now_s >= due_s:
            return Run(tuple(places))
        return Wait(due_s)
