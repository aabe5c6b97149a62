"""Stores sessions in a store of records: packs and unpacks them, sends batches, and counts loads and commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from service.errors import HetsynError, StateError, StoreError, StoreFull, StoreUnavailable, StoreUnusable
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.observe.drops import Drop
from service.session.protocol import Lifetimes, keep_s
from service.session.session import Session
from service.session.snapshot import ABSENT, Snapshot
from service.store.base import NO_REVISION, Change, CommitResult, StateStore, Stored, new_revision
from service.store.group_commit import GroupCommit, Told, settle
from service.store.record import Packing, read

log = logging.getLogger("hetsyn.store")


class SessionStore:
    """A store of sessions on top of a store of records. Used from one event loop.

    ``load`` and ``commit`` return at once. All requests of a turn of the event loop go to the store in one batch: one
    transaction, or one round trip.

    Args:
        lifetimes: how long sessions live, and so their records.
        timeout_s: as in ``GroupCommit``.

    Attributes:
        trouble: the reason if no session can be changed until somebody acts, or the store was never reached. None for
            a store that is down or slow later: all servers recover with it.
        shortage: the reason if a session was refused for lack of room since the last check.
        is_up: the last check found no fault.
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
        self._packing = packing
        self._catalog = catalog
        self._lifetimes = lifetimes
        self._counters = counters
        self._is_started = False
        self._drops: set[asyncio.Task[None]] = set()
        self.is_up = False
        self.trouble: StoreError | None = None
        self.shortage: StoreFull | None = None
        self._loads = GroupCommit(self._load, store.lane, self._failed, timeout_s=timeout_s)
        self._commits = GroupCommit(self._commit, store.lane, self._failed, timeout_s=timeout_s)

    async def start(self) -> None:
        """Prepare the store. Call it before any other method; a second call does nothing.

        Raises:
            StoreUnusable: the store would lose sessions, as it is configured.
        """
        if self._is_started:
            return
        self._is_started = True
        try:
            await self._store.start()
            self.is_up = True
        except StoreUnavailable as error:
            self.trouble = error
            log.warning(
                "every chunk gets 503 until the session store answers: start it, or correct --store (%s)",
                error.__cause__ or error,
            )

    async def health(self) -> None:
        """Check the store, as ``StateStore.health``."""
        try:
            await self._store.health()
        except HetsynError as error:
            self.is_up = False
            if isinstance(error, StoreFull):
                self._set_trouble(error)
            else:
                self._note(error)
            raise
        self.is_up = True
        self.shortage = None
        if self.trouble is not None:
            self.trouble = None
            log.info("the session store can be used again")

    async def expire(self) -> None:
        """Remove expired records, as ``StateStore.expire``."""
        await self._store.expire()

    def load(self, session_id: str, client: str = "") -> asyncio.Future[Snapshot]:
        """Load a session.

        Returns:
            Its snapshot, with the damage if the record cannot be used. Raises a StoreError if the store does not answer
            or cannot be used, and a StateError if it has something else under the id.
        """
        self._counters.store_loads += 1
        return self._loads.request(session_id, session_id, client)

    def commit(
        self, session_id: str, snapshot: Snapshot, session: Session | None, client: str = ""
    ) -> asyncio.Future[Snapshot | None]:
        """Replace a snapshot by a session; None deletes it.

        Returns:
            The new snapshot; None if another process has changed the session since the old one. A StoreError does not
            say whether it was committed, or may still be.
        """
        commit: asyncio.Future[Snapshot | None] = asyncio.get_running_loop().create_future()
        self.begin_commit(session_id, snapshot, session, client, commit, settle)
        return commit

    def begin_commit(
        self, session_id: str, snapshot: Snapshot, session: Session | None, client: str, caller: object, told: Told
    ) -> None:
        """Begin a ``commit``, without a future: ``told`` gets the caller and the result."""
        expected = NO_REVISION if snapshot.revision is None else snapshot.revision
        if session is None:
            change = Change(session_id, expected, new_revision(), None, 0.0)
        else:
            record = self._packing.pack(session_id, session)
            change = Change(session_id, expected, new_revision(), record, keep_s(session.known, self._lifetimes))
        self._commits.queue(session_id, (change, session), client, caller, told)

    def drop(self, snapshot: Snapshot, drop: Drop) -> None:
        """Delete an expired session's record, unless another process was faster. Only one server counts the drop."""
        task = asyncio.create_task(self._drop(snapshot, drop))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    async def dropped(self) -> None:
        """Wait for the deletions that ``drop`` has begun."""
        while self._drops:
            await asyncio.wait(self._drops)

    async def close(self) -> None:
        """Finish the running requests, and close the store."""
        await self.dropped()
        await self._loads.drain()
        await self._commits.drain()
        await self._store.close()

    async def _drop(self, snapshot: Snapshot, drop: Drop) -> None:
        with suppress(HetsynError):  # it is counted, and the store removes the record on its own
            if await self.commit(drop.session, snapshot, None) is not None:
                self._counters.dropped(drop)

    async def _load(self, session_ids: Sequence[str]) -> list[Snapshot | HetsynError]:
        found = await self._store.load(session_ids)
        return [self._snapshot(session_id, stored) for session_id, stored in zip(session_ids, found, strict=True)]

    def _snapshot(self, session_id: str, stored: Stored | HetsynError | None) -> Snapshot | HetsynError:
        if stored is None:
            return ABSENT
        if isinstance(stored, HetsynError):
            return stored
        try:
            record = read(stored.record, session_id)
            session = self._packing.unpack(record, self._catalog.of_session(record.model, record.version))
        except StateError as error:
            self._counters.failed(error)
            return Snapshot(stored.revision, damage=error)
        self._counters.sessions_loaded += 1
        return Snapshot(stored.revision, session)

    async def _commit(self, requests: Sequence[tuple[Change, Session | None]]) -> list[Snapshot | HetsynError | None]:
        results = await self._store.commit([change for change, _ in requests])
        counters = self._counters
        counters.store_commits += results.count(CommitResult.committed)
        counters.store_fenced += results.count(CommitResult.fenced)
        answers: list[Snapshot | HetsynError | None] = []
        for (change, session), result in zip(requests, results, strict=True):
            if result is CommitResult.committed:
                counters.store_commit_bytes += len(change.record or b"")
                answers.append(Snapshot(change.revision, session))
            else:
                answers.append(result if isinstance(result, HetsynError) else None)
        return answers

    def _failed(self, error: HetsynError) -> None:
        self._counters.failed(error)
        self._note(error)

    def _note(self, error: HetsynError) -> None:
        if isinstance(error, StoreFull):
            self.shortage = error
        elif isinstance(error, StoreUnusable):
            self._set_trouble(error)

    def _set_trouble(self, error: StoreError) -> None:
        if type(error) is not type(self.trouble):
            log.error("/health/ready says 503: %s", error)
        self.trouble = error
