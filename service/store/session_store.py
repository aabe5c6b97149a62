"""Sessions in a store of bytes: packs and unpacks sessions, and counts loads and commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import HetsynError, StateError, StateForeign, StoreError, StoreFull, StoreUnusable
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.session.protocol import Lifetimes, keep_s
from service.session.session import Session
from service.session.snapshot import ABSENT, Snapshot
from service.store.base import FOREIGN_REVISION, NO_REVISION, Change, CommitResult, StateStore, new_revision
from service.store.group_commit import GroupCommit
from service.store.record import UNPACK_IN_LOOP_BYTES, Packing, read

log = logging.getLogger("hetsyn.store")


class SessionStore:
    """A store of sessions on top of a store of records. Used from one event loop.

    Args:
        store: of records.
        packing: of sessions as records.
        catalog: of the models.
        lifetimes: of sessions, from which the lifetime of a record follows.
        counters: count loads, commits and failures.
        timeout_s: see ``GroupCommit``.

    Attributes:
        clock: of the times in records; see ``StateStore``.
        trouble: why no session can be changed until somebody acts; None if they can. A store that is only down or slow
            is no trouble: all servers recover with it.
        shortage: why a session was refused since the last check, if there was no room for it.
    """

    def __init__(
        self,
        store: StateStore,
        packing: Packing,
        catalog: ModelCatalog,
        lifetimes: Lifetimes,
        counters: Counters,
        timeout_s: float,
    ) -> None:
        self._store = store
        self._group_commit = GroupCommit(store, timeout_s=timeout_s)
        self._packing = packing
        self._catalog = catalog
        self._lifetimes = lifetimes
        self._counters = counters
        self.clock = store.clock
        self.trouble: StoreError | None = None
        self.shortage: StoreFull | None = None

    async def start(self) -> None:
        """As ``StateStore.start``."""
        await self._store.start()

    async def health(self) -> None:
        """As ``StateStore.health``."""
        try:
            await self._store.health()
        except StoreFull as error:
            self._set_trouble(error)
            raise
        except HetsynError as error:
            self._note(error)
            raise
        self.shortage = None
        if self.trouble is not None:
            self.trouble = None
            log.info("the session store can be used again")

    async def expire(self) -> None:
        """As ``StateStore.expire``."""
        await self._store.expire()

    async def load(self, session_id: str) -> Snapshot:
        """Load a session.

        Raises:
            StoreError: the store does not answer, or cannot be used.
            StateCorrupt: not even a revision can be read.
        """
        self._counters.store_loads += 1
        try:
            with self._counting():
                stored = await self._group_commit.load(session_id)
        except StateForeign as error:
            return Snapshot(FOREIGN_REVISION, damage=error)
        if stored is None:
            return ABSENT
        try:
            if len(stored.record) <= UNPACK_IN_LOOP_BYTES:
                session = self._unpacked(stored.record, session_id)
            else:
                session = await asyncio.to_thread(self._unpacked, stored.record, session_id)
        except StateError as error:
            self._counters.failed(error)
            return Snapshot(stored.revision, damage=error)
        self._counters.sessions_loaded += 1
        return Snapshot(stored.revision, session)

    def _unpacked(self, content: bytes, session_id: str) -> Session:
        """Unpack a stored session; may run on a thread.

        Raises:
            StateError: the content cannot be used.
        """
        record = read(content, session_id)
        return self._packing.unpack(record, self._catalog.of_session(record.model, record.version))

    async def commit(self, session_id: str, snapshot: Snapshot, session: Session) -> Snapshot | None:
        """Replace a snapshot by a session.

        Returns:
            The new snapshot; None if another process has changed the session since the old one.

        Raises:
            StoreUnavailable: the change was committed, may still be committed, or was never sent.
        """
        record = self._packing.pack(session_id, session)
        record_keep_s = keep_s(session.known, self._lifetimes)
        change = Change(session_id, _revision(snapshot), new_revision(), record, record_keep_s)
        if not await self._change(change):
            return None
        return Snapshot(change.revision, session)

    async def delete(self, session_id: str, snapshot: Snapshot) -> bool:
        """Remove the session of a snapshot.

        Returns:
            False if another process has changed the session since the snapshot.

        Raises:
            StoreUnavailable: as ``commit``.
        """
        return await self._change(Change(session_id, _revision(snapshot), new_revision(), None, 0.0))

    async def close(self) -> None:
        """Finish the requests under way, and close the store."""
        await self._group_commit.drain()
        await self._store.close()

    async def _change(self, change: Change) -> bool:
        try:
            with self._counting():
                result = await self._group_commit.commit(change)
        except StateForeign:
            result = CommitResult.fenced  # somebody put it there since the snapshot, as another process puts a record
        if result is CommitResult.fenced:
            self._counters.store_fenced += 1
            return False
        self._counters.store_commits += 1
        self._counters.store_commit_bytes += len(change.record or b"")
        return True

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except HetsynError as error:
            self._counters.failed(error)
            self._note(error)
            raise

    def _note(self, error: HetsynError) -> None:
        if isinstance(error, StoreFull):
            self.shortage = error
        elif isinstance(error, StoreUnusable):
            self._set_trouble(error)

    def _set_trouble(self, error: StoreError) -> None:
        if type(error) is not type(self.trouble):
            log.error("/health/ready says 503: %s", error)
        self.trouble = error


def _revision(snapshot: Snapshot) -> int:
    """The revision that a change of a snapshot's session has to name."""
    return NO_REVISION if snapshot.revision is None else snapshot.revision
