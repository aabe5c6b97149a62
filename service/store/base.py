"""The seam to a store: batches of opaque records, each changed by compare-and-set.

A record has a *revision*, a number that no other commit of any session has: 63 random bits, drawn by who
commits. A change names the revision that it was decided on, and is committed if that still stands, else
fenced. A record holds a session's state, the number of its last chunk and the reply to it together, so this
one comparison is what keeps two replicas from both applying a chunk; there is no lease to be renewed, and no
lock that a killed replica could leave behind. A replica takes a session over by committing: that moves the
revision, and fences whoever had it before. The revision is random and not counted up because a store that
has lost its newest writes (a failover, a restored copy) would count to the same number a second time, with
other content, and a session that is deleted and begun again would begin with the same ones.

A store keeps a record for the time that it is told and then has none; whether a session is open or gone is
for ``service.session.protocol`` to say, from the times in the record.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from service.errors import HetsynError

NO_REVISION = 0
REVISION_BYTES = 8


@dataclass(frozen=True)
class Stored:
    """A record as it is kept, with the revision that a change of it has to name."""

    revision: int
    record: bytes


@dataclass(frozen=True)
class Change:
    """A compare-and-set of one session.

    expected: the revision that it was decided on; NO_REVISION, where there was no record.
    revision: of the new record. record: None deletes what is there. keep_s: for how long from now it is to be kept.
    """

    session: str
    expected: int
    revision: int
    record: bytes | None
    keep_s: float

    def __post_init__(self) -> None:
        if self.record is None and self.expected == NO_REVISION:
            raise ValueError(f"session {self.session!r}: what is not there cannot be deleted")


class CommitResult(Enum):
    """What became of a change. Fenced: another one came first, and nothing was changed."""

    committed = "committed"
    fenced = "fenced"


class StateStore(Protocol):
    """Used from one event loop. No call raises but ``health`` and ``start``: what fails, fails for each session of
    the batch by itself, as an error in its place. After a StoreUnavailable a change may have been committed or not,
    or may yet be."""

    name: str

    async def start(self) -> None:
        """Look whether the store can be used.

        Raises:
            StoreUnusable: it never can be, as it is set up. StoreUnavailable: not now.
        """

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        """The records of sessions, in order; None where there is none.

        Errors: StoreUnavailable, StateError (what is kept there is no record).
        """

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        """Compare and set, each change atomically; of one session there is at most one in a batch.

        Errors: StoreUnavailable, StateError.
        """

    async def expire(self) -> int:
        """Remove what has been kept long enough; how many. A store that does so by itself removes none.

        Raises:
            StoreUnavailable.
        """

    async def health(self) -> None:
        """
        Raises:
            StoreUnavailable: it does not answer. StoreUnusable: it is set up so that it loses sessions.
        """

    async def close(self) -> None:
        """Finish what is running, and let go."""


def new_revision() -> int:
    """Never NO_REVISION, and never the same twice."""
    return secrets.randbits(63) | 1
