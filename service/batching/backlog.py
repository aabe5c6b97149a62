"""Limits the chunks that wait for the engine, and chooses the client in turn and the next batch. Pure.

The unit of work is a step, because a request's bytes do not tell its cost: 12 bytes can ask for 20,000 steps. A limit
of expected seconds would depend on earlier measurements: the same chunk would be admitted now and refused later. A step
takes up to 20 us in an exact network, and 0.5 us in a bank, where ``SPIKES_A_STEP`` spikes take as long. Of audio and
values only the steps count, because the encoder makes the spikes.

Clients take turns. A new client goes to the end of the queue, and so does the client of a batch's leading chunk. The
first chunk of the client in turn leads the batch, and its group (model, version) runs. So a chunk waits for at most one
segment of each other client, and no group starves another. The group's other chunks follow in order of arrival, from
any client. A batch ends before a chunk that would make it too large, or so long that the others are mostly padding.
An idle engine waits for none: while all engines are busy, chunks gather anyway.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, inf
from operator import attrgetter
from typing import Protocol

from service.errors import RETRY_S, Overloaded

SPIKES_A_STEP = 8
# A client with nothing queued may use twice the limit, and chunks below 0.1% of it are always admitted. So a busy
# client cannot lock out others, nor can an attacker with a thousand addresses, each with a long chunk.
NEWCOMERS_LIMIT = 2
SHORT_SHARE = 1e-3


class Working(Protocol):
    """A chunk in the backlog, with its units of work that are not done."""

    client: str
    work: int


_client_of, _work_of = attrgetter("client"), attrgetter("work")


class Backlog:
    """The queued work of a server.

    Args:
        max_work: units that may wait in all.
        client_share: share of ``max_work`` that one client may have waiting, above 0, up to 1.

    Attributes:
        turns: turn of each client with work here; the smallest is next.
        unit_s: expected seconds of a unit of work; 0 before the first batch.
    """

    def __init__(self, max_work: float, client_share: float, threads: int) -> None:
        self._max_work = max_work
        self._max_of_client = max_work * client_share
        self._threads = threads
        self._work = 0
        self._of_client: dict[str, int] = {}
        self._turns: dict[str, int] = {}
        self._last_turn = 0
        self.unit_s = 0.0
        self.turns: Mapping[str, int] = self._turns

    @property
    def work(self) -> int:
        return self._work

    def enter_all(self, client: str, chunks: Sequence[Working]) -> bool:
        """Admit chunks of a client together. Returns False, and admits none, if some may have no room (``enter``)."""
        work = sum(map(_work_of, chunks))
        own = self._of_client.get(client)
        if (own or 0) + work > self._max_of_client or self._work + work > self._max_work:
            return False
        if own is None:
            self.to_the_end(client)
        self._of_client[client] = (own or 0) + work
        self._work += work
        return True

    def enter(self, chunk: Working) -> None:
        """Admit a chunk, or raise Overloaded, which says when to try again.

        A client with nothing here may exceed the limit, because its turn comes soon.
        """
        client, work = chunk.client, chunk.work
        of_client = self._of_client.get(client)
        if of_client is not None and of_client + work > self._max_of_client:
            # the client has its share of the engine's time
            excess, threads = of_client + work - self._max_of_client, self._threads / len(self._of_client)
            raise self._full(f"{of_client} steps of this client are waiting", excess, threads)
        limit = self._max_work
        if of_client is None:
            limit = inf if work <= limit * SHORT_SHARE else limit * NEWCOMERS_LIMIT
        if self._work + work > limit and self._work:
            # do not reveal how many the others have
            raise self._full(
                "the server has as many steps as it takes", self._work + work - self._max_work, self._threads
            )
        if of_client is None:
            self.to_the_end(client)
        self._of_client[client] = (of_client or 0) + work
        self._work += work

    def progress(self, chunk: Working, work: int) -> None:
        """Subtract the finished part of a chunk. The last unit stays until the chunk leaves."""
        work = min(work, chunk.work - 1)
        chunk.work -= work
        self._work -= work
        self._of_client[chunk.client] -= work

    def leave(self, chunks: Sequence[Working]) -> None:
        """Remove chunks that are done, refused or dropped."""
        for client, of_client in groupby(chunks, _client_of):
            work = sum(map(_work_of, of_client))
            self._work -= work
            left = self._of_client[client] - work
            if left:
                self._of_client[client] = left
            else:
                del self._of_client[client], self._turns[client]

    def to_the_end(self, client: str) -> None:
        """Move a client to the end of the queue: it is new, or its chunk leads a batch."""
        self._last_turn += 1
        self._turns[client] = self._last_turn

    def _full(self, what: str, excess: float, threads: float) -> Overloaded:
        """Make the error for a chunk that has room after ``excess`` units."""
        retry_s = max(RETRY_S, float(ceil(excess * self.unit_s / threads)))
        return Overloaded(f"{what}: send the chunk again in {retry_s:g} s", retry_s)


class Waiting(Protocol):
    """A chunk that waits.

    Attributes:
        group: model and version; all chunks of a batch have the same.
    """

    @property
    def group(self) -> Hashable: ...
    @property
    def steps(self) -> int: ...
    @property
    def client(self) -> str: ...


@dataclass(frozen=True)
class BatchPolicy:
    """Limits of a batch.

    Attributes:
        max_batch: limit of a batch's chunks.
        max_padded_steps: limit of its steps with padding: number of chunks times steps of the longest.
    """

    max_batch: int = 64
    max_padded_steps: int = 4_096

    def choose(self, waiting: Sequence[Waiting], turns: Mapping[str, int]) -> list[int]:
        """Choose the next batch: the indices of its chunks, the leading one first; none if no chunk waits.

        Args:
            waiting: chunks in order of arrival.
            turns: each client's turn, for clients with a waiting chunk; the smallest is next.
        """
        if not waiting:
            return []
        leader, count = 0, len(waiting)
        if len(turns) > 1:
            leader = min(range(count), key=lambda index: turns[waiting[index].client])
        first, padded_steps = waiting[leader], count * max(map(_steps_of, waiting))
        if (
            count <= self.max_batch and padded_steps <= self.max_padded_steps and len(set(map(_group_of, waiting))) == 1
        ):  # all fit
            return [leader, *range(leader), *range(leader + 1, count)]
        indices, longest = [leader], first.steps
        for index, item in enumerate(waiting):
            if index == leader or item.group != first.group:
                continue
            longest_with = max(longest, item.steps)
            if len(indices) == self.max_batch or longest_with * (len(indices) + 1) > self.max_padded_steps:
                break
            indices.append(index)
            longest = longest_with
        return indices


_group_of, _steps_of = attrgetter("group"), attrgetter("steps")
