"""The work that waits for the engine, by client: how much it is, and whose turn is next. Pure.

Work counts in steps and spikes, because a request says nothing about its cost: 12 bytes can ask for 20,000 steps. It
does not count in expected seconds, although those would be closer to the truth. Seconds depend on what the server has
measured so far, so that the same chunk would be admitted now and refused later, and a limit could not be documented. A
step is the dearest unit: it takes up to 20 us of an exact network, whatever it contains. Of a bank it takes
0.5 us, and ``SPIKES_A_STEP`` spikes take as long. The encoder makes the spikes of audio and values, so only their steps
count. A row of values is a step too where the network itself takes it: its length is the model's, not the client's.

Clients take turns. A client that comes goes to the end of the row, and so does the client whose chunk leads a batch. So
a chunk waits for one segment of each other client, however many chunks those have waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import ceil, inf
from operator import attrgetter
from typing import Protocol

from service.errors import RETRY_S, Overloaded

SPIKES_A_STEP = 8
# For clients that have nothing here the limit is twice as high, and a chunk of a thousandth of it is always taken. So
# one client keeps none out, and a thousand addresses of an attacker, each with a long chunk, do not fill the engine.
NEWCOMERS_LIMIT = 2
SHORT_SHARE = 1e-3
LATEST = 0.1  # share of the latest batch in the average time of a unit of work


def work_of(steps: int, spikes: int) -> int:
    """The units of work of a chunk; at least 1.

    Args:
        steps: network steps.
        spikes: that are known before it is computed.
    """
    return steps + spikes // SPIKES_A_STEP + 1


class Working(Protocol):
    """A chunk in the backlog.

    Attributes:
        client: that sent it.
        work: units that are not done.
    """

    client: str
    work: int


_client_of, _work_of = attrgetter("client"), attrgetter("work")


class Backlog:
    """See above.

    Args:
        max_work: units that may wait in all.
        client_share: share of ``max_work`` that one client may have waiting, above 0, up to 1.
        threads: batches that run at the same time.

    Attributes:
        turns: of the clients that have work here; the smallest is next.
    """

    def __init__(self, max_work: float, client_share: float, threads: int) -> None:
        self._max_work = max_work
        self._max_of_client = max_work * client_share
        self._threads = threads
        self._work = 0
        self._of_client: dict[str, int] = {}
        self._turns: dict[str, int] = {}
        self._last_turn = 0
        self._unit_s: float | None = None
        self.turns: Mapping[str, int] = self._turns

    @property
    def work(self) -> int:
        """Units that wait in all."""
        return self._work

    def enter_all(self, client: str, chunks: Sequence[Working]) -> bool:
        """Take in chunks of a client that came together; False, and none, if some may have no room (``enter``)."""
        work = sum(map(_work_of, chunks))
        own = self._of_client.get(client)
        if (own or 0) + work > self._max_of_client or self._work + work > self._max_work:
            return False
        self._count(client, own, work)
        return True

    def enter(self, chunk: Working) -> None:
        """Take a chunk in. One of a client that has nothing here is admitted beyond the limit: it has its turn soon.

        Raises:
            Overloaded: the client, or all of them, have too much here already. It says when to try again.
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
            # nobody learns how many the others have
            raise self._full(
                "the server has as many steps as it takes", self._work + work - self._max_work, self._threads
            )
        self._count(client, of_client, work)

    def progress(self, chunk: Working, work: int) -> None:
        """A part of a chunk is done. The last unit stays until the chunk leaves."""
        work = min(work, chunk.work - 1)
        chunk.work -= work
        self._work -= work
        self._of_client[chunk.client] -= work

    def leave(self, chunks: Sequence[Working]) -> None:
        """Chunks are done, refused or not wanted any more."""
        for client, of_client in groupby(chunks, _client_of):
            work = sum(map(_work_of, of_client))
            self._work -= work
            left = self._of_client[client] - work
            if left:
                self._of_client[client] = left
            else:
                del self._of_client[client], self._turns[client]

    def lead(self, client: str) -> None:
        """A chunk of this client leads a batch."""
        if client in self._turns:
            self._to_the_end(client)

    def observe(self, unit_s: float) -> None:
        """Remember how long a unit of work took in a batch."""
        self._unit_s = unit_s if self._unit_s is None else self._unit_s + LATEST * (unit_s - self._unit_s)

    def _count(self, client: str, before: int | None, work: int) -> None:
        if before is None:
            self._to_the_end(client)
        self._of_client[client] = (before or 0) + work
        self._work += work

    def _to_the_end(self, client: str) -> None:
        self._last_turn += 1
        self._turns[client] = self._last_turn

    def _full(self, what: str, excess: float, threads: float) -> Overloaded:
        """The error for a chunk that has no room.

        Args:
            what: takes the room, as a sentence.
            excess: units that have to be done before.
            threads: that do them.
        """
        retry_s = max(RETRY_S, float(ceil(excess * (self._unit_s or 0.0) / threads)))
        return Overloaded(f"{what}: send the chunk again in {retry_s:g} s", retry_s)
