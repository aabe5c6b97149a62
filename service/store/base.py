"""The interface of a session store: batches of opaque records, each changed by compare-and-set.

Each commit gives a record a new *revision*: 63 random bits, drawn by the replica that commits. A change names the
revision that it was decided on. It is committed if the store still has that revision, else it is fenced. A record
contains a session's state, the number of its last chunk and the reply to it together. So this one comparison keeps two
replicas from both applying a chunk, without a lease to renew or a lock that a killed replica could leave behind. A
replica takes a session over by committing: that changes the revision, and fences the replica before.

The revision is random because a store may lose its newest writes (a failover, a restored copy). A counter would then
reach the same number a second time, with other content. A session that is deleted and begun again would repeat numbers,
too.

A store removes a record after the time in its change. ``service.session.protocol`` decides from the times in the record
whether a session is open or expired.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from service.errors import HetsynError

NO_REVISION = 0
REVISION_BYTES = 8


@dataclass(frozen=True)
class Stored:
    """A record in a store. A change of it must name its revision."""

    revision: int
    record: bytes


@dataclass(frozen=True)
class Change:
    """A compare-and-set of one session.

    Attributes:
        expected: revision that the change was decided on; NO_REVISION without a record.
        record: the new record; None deletes the old one.
        keep_s: seconds from now after which the store removes the new record.
    """

    session: str
    expected: int
    revision: int
    record: bytes | None
    keep_s: float

    def __post_init__(self) -> None:
        if self.record is None and self.expected == NO_REVISION:
            raise ValueError(f"session {self.session!r}: a record that does not exist cannot be deleted")


class CommitResult(Enum):
    """The outcome of a change. ``fenced``: another change came first, and this one changed nothing."""

    committed = "committed"
    fenced = "fenced"


class StateStore(Protocol):
    """A store of records by session id. Used from one event loop.

    ``load`` and ``commit`` do not raise. Each session of a batch fails on its own: its error is in its position of the
    result. After a StoreFull the change was not committed. After another StoreError it may or may not have been
    committed, or may still be.
    """

    def lane(self, session: str) -> Hashable:
        """Return the lane of a session. Requests of one lane go together; lanes do not wait for each other."""

    async def start(self) -> None:
        """Check that the store can be used. Called once, before any other method.

        Raises:
            StoreUnusable: it cannot be used, as it is configured.
            StoreUnavailable: it does not answer now.
        """

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        """Load the records of sessions.

        Returns:
            For each session, in order: its record, None if it has no record, a StoreError, or a StateCorrupt if the
            store has something else under its id.
        """

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        """Compare and set, each change atomically.

        Args:
            changes: at most one for each session.

        Returns:
            For each change, in order: its outcome, a StoreError, or a StateError as from ``load``.
        """

    async def expire(self) -> int:
        """Remove the expired records. Returns their number; 0 if the store removes them on its own.

        Raises:
            StoreUnavailable: the store does not answer.
        """

    async def health(self) -> None:
        """Check that the store can keep sessions. Called again and again.

        Raises:
            StoreUnavailable: it does not answer.
            StoreFull: no change is possible, not even one that makes room.
            StoreUnusable: it would lose sessions, as it is configured, or its file is gone.
        """

    async def close(self) -> None:
        """Finish the running batches and close the connections. The store is not used afterwards."""


def new_revision() -> int:
    """Draw a revision above NO_REVISION."""
    return secrets.randbits(63) | 1
