"""The interface of a session store: batches of opaque records, each changed by compare-and-set.

A record has a *revision*, a number that no other commit of any session has: 63 random bits, drawn by the replica that
commits. A change names the revision that it was decided on. It is committed if the store still has that revision, else
it is fenced. A record contains a session's state, the number of its last chunk and the reply to it together. So this
one comparison keeps two replicas from both applying a chunk. There is no lease to renew, and no lock that a killed
replica could leave behind. A replica takes a session over by committing: that changes the revision, and fences the
replica that had the session before.

The revision is random and not a count because a store may lose its newest writes (a failover, a restored copy). It
would then count to the same number a second time, with other content. And a session that is deleted and begun again
would repeat the same numbers.

A store removes a record after the time that its change names. Whether a session is open or expired is decided by
``service.session.protocol``, from the times in the record.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from service.errors import HetsynError, StateCorrupt
from service.keys.ids import client_id

NO_REVISION = 0
REVISION_BYTES = 8


@dataclass(frozen=True)
class Stored:
    """A record in a store.

    Attributes:
        revision: that a change of the record has to name.
        record: the session record.
    """

    revision: int
    record: bytes


@dataclass(frozen=True)
class Change:
    """A compare-and-set of one session.

    Attributes:
        session: its id.
        expected: revision that the change was decided on; NO_REVISION if there was no record.
        revision: of the new record.
        record: the new record; None deletes the old one.
        keep_s: time from now after which the store removes the new record.
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

    ``load`` and ``commit`` do not raise. Each session of a batch fails on its own: its error stands in its position of
    the result. After a StoreFull the change was not committed. After another StoreError it may have been or not, or may
    still be committed.

    Attributes:
        name: of the kind of store.
    """

    name: str

    def lane(self, session: str) -> Hashable:
        """Where a session is stored. Requests of one lane go together; lanes do not wait for each other."""

    async def start(self) -> None:
        """Check that the store can be used; called once, before any other method.

        Raises:
            StoreUnusable: it cannot be used, as it is configured.
            StoreUnavailable: it does not answer now.
        """

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        """Load the records of sessions.

        Args:
            sessions: their ids.

        Returns:
            For each session, in order: its record, None if it has no record, a StoreError, or a StateCorrupt if the
            store has something else under its id.
        """

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        """Compare and set, each change atomically.

        Args:
            changes: at most one of each session.

        Returns:
            For each change, in order: its outcome, a StoreError, or a StateError as of ``load``.
        """

    async def expire(self) -> int:
        """Remove the records whose time is over.

        Returns:
            The number of removed records; 0 if the store removes them on its own.

        Raises:
            StoreUnavailable: the store does not answer.
        """

    async def health(self) -> None:
        """Check that the store can keep sessions. Called again and again.

        Raises:
            StoreUnavailable: it does not answer.
            StoreFull: no change is possible, not even one that makes room.
            StoreUnusable: it would lose sessions, as it is configured, or its file has gone.
        """

    async def close(self) -> None:
        """Finish the running batches and close the connections; the store is not used afterwards."""


def new_revision() -> int:
    """A random revision, above NO_REVISION."""
    return secrets.randbits(63) | 1


def is_revision(value: object) -> bool:
    """Whether a value can be the revision of a record; what a store has under any other is no session record."""
    return isinstance(value, int) and value > NO_REVISION


def no_record(session: str) -> StateCorrupt:
    """The error for what another program has put under a session's id."""
    return StateCorrupt(
        f"session {client_id(session)!r}: what the store has under this id is not a session record: remove it from the "
        "store, or begin another session, under a new id"
    )
