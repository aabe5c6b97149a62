"""Chooses the chunks of the next batch among the waiting ones: pure, without event loop or clock.

Clients take turns (``backlog``). The first chunk of the client in turn leads the batch, and its group (model, version)
runs, so that no client and no group starves another. The group's other chunks follow in order of arrival, from any
client. A batch ends before a chunk that would make it too large, or so long that the others are mostly padding. While
all engines are busy, chunks gather anyway. ``max_wait_s`` makes an idle engine wait for more chunks, at the price of
latency; the default is 0. A session never has two chunks waiting, because its chunks run one after the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol


class Waiting(Protocol):
    """A chunk that waits.

    Attributes:
        group: model and version; all chunks of a batch have the same.
        steps: network steps that the chunk takes.
        since_s: when it arrived, in seconds of any clock.
        client: its sender.
    """

    @property
    def group(self) -> Hashable: ...
    @property
    def steps(self) -> int: ...
    @property
    def since_s(self) -> float: ...
    @property
    def client(self) -> str: ...


@dataclass(frozen=True)
class Run:
    """Run a batch now.

    Attributes:
        indices: its chunks among the waiting ones; the leading chunk comes first.
    """

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Wait:
    """Run nothing yet. Choose again when a chunk arrives, or at ``until_s``.

    Attributes:
        until_s: by the clock of ``Waiting.since_s``.
    """

    until_s: float


@dataclass(frozen=True)
class BatchPolicy:
    """Limits of a batch.

    Attributes:
        max_batch: limit of a batch's chunks.
        max_padded_steps: limit of its steps with padding: number of chunks times steps of the longest.
        max_wait_s: time that an idle engine waits for more chunks.
    """

    max_batch: int = 64
    max_padded_steps: int = 4_096
    max_wait_s: float = 0.0

    def choose(
        self, waiting: Sequence[Waiting], now_s: float, turns: Mapping[str, int] | None = None
    ) -> Run | Wait | None:
        """Choose what an idle engine does next.

        Args:
            waiting: chunks in order of arrival.
            now_s: time, by the clock of ``Waiting.since_s``.
            turns: each client's turn, for clients with a waiting chunk; the smallest is next. None: by arrival.

        Returns:
            None if no chunk waits.
        """
        if not waiting:
            return None
        leader = 0
        if turns is not None and len(turns) > 1:
            leader = min(range(len(waiting)), key=lambda index: turns[waiting[index].client])
        first, count = waiting[leader], len(waiting)
        padded_steps = count * max(map(_steps_of, waiting))
        if (
            count <= self.max_batch and padded_steps <= self.max_padded_steps and len(set(map(_group_of, waiting))) == 1
        ):  # all fit
            indices, full = [leader, *range(leader), *range(leader + 1, count)], False
        else:
            indices, full = self._first_of(waiting, leader)
        due_s = first.since_s + self.max_wait_s
        if full or len(indices) == self.max_batch or now_s >= due_s:
            return Run(tuple(indices))
        return Wait(due_s)

    def _first_of(self, waiting: Sequence[Waiting], leader: int) -> tuple[list[int], bool]:
        """Choose the chunks that follow a leader. Returns whether others of its group have no room, too."""
        first = waiting[leader]
        indices, longest = [leader], first.steps
        for index, item in enumerate(waiting):
            if index == leader or item.group != first.group:
                continue
            longest_with = max(longest, item.steps)
            if len(indices) == self.max_batch or longest_with * (len(indices) + 1) > self.max_padded_steps:
                return indices, True
            indices.append(index)
            longest = longest_with
        return indices, False


_group_of, _steps_of = attrgetter("group"), attrgetter("steps")
