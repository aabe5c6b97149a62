"""Sessions in a store that any number of processes share.

An entry caches the store's record as this process last saw it. An unused entry may be removed at any time, and is
where the entries are too many or take too many bytes.
``session.protocol`` says what may be decided on a cached record. Lifetimes are checked by the times in the record, so
all processes agree.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from service.errors import Overloaded, StoreError, StoreUnavailable
from service.keys.keys import Keys
from service.observe.clock import Clock
from service.observe.counters import Counters
from service.registry.ledger import KeyLedger
from service.registry.lives import dropped, over
from service.registry.table import ENTRY_BYTES, SessionEntry, SessionTable
from service.session.protocol import Lifetimes, status
from service.session.session import Session
from service.session.snapshot import ABSENT, Snapshot
from service.settings import Limits
from service.store.session_store import SessionStore

log = logging.getLogger("hetsyn.sessions")


class SharedSessions(SessionTable):
    """The sessions of a server with a store.

    Args:
        limits: number of entries, and their bytes.
        lifetimes: see ``SessionTable``.
        retry_s: see ``SessionTable``.
        store: the session store.
        counters: count dropped sessions.
        wall: seconds since 1970, for the times in records.
        keys: whose limits count; None for no keys.
    """

    stores_state = True
    wall_offset_s = 0.0

    def __init__(
        self,
        limits: Limits,
        lifetimes: Lifetimes,
        retry_s: float,
        store: SessionStore,
        counters: Counters,
        wall: Clock = time.time,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(lifetimes, retry_s, wall)
        self.decision_lifetimes = lifetimes
        self._limits = limits
        self._bytes = 0
        self._store = store
        self._counters = counters
        self._is_started = False
        self._ledger = None if keys is None else KeyLedger(keys, lifetimes.idle_s, wall)
        self._deletions: set[asyncio.Task[None]] = set()

    @property
    def trouble(self) -> StoreError | None:
        return self._store.trouble

    @property
    def shortage(self) -> StoreError | None:
        return self._store.shortage

    @property
    def open(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        return self._bytes

    async def start(self) -> None:
        if self._is_started:
            return
        self._is_started = True
        try:
            await self._store.start()
        except StoreUnavailable as error:
            log.warning("every chunk gets 503 until the session store answers: %s", error.__cause__ or error)

    async def check(self) -> None:
        await self._store.health()

    async def close(self) -> None:
        while self._deletions:
            await asyncio.wait(self._deletions)
        await self._store.close()

    def enter(
        self,
        session_id: str,
        client: str = "",
        *,
        is_one_shot: bool = False,  # noqa: ARG002
    ) -> SessionEntry:
        self._expire(session_id, self.clock())
        entry = self._entries.get(session_id)
        if entry is None:
            self._make_room()
            entry = self._entries[session_id] = SessionEntry(session_id, None, client)
        else:
            self._entries.move_to_end(session_id)  # the least recently used entry comes first
        entry.users += 1
        return entry

    def find(self, session_id: str) -> SessionEntry:
        return self.enter(session_id)

    def leave(self, entry: SessionEntry) -> None:
        entry.last_used_s = self.clock()
        super().leave(entry)
        while self._bytes > self._limits.max_session_bytes and self._remove_oldest():
            pass

    def cached(self, entry: SessionEntry, *, may_be_first: bool) -> tuple[Snapshot, bool] | None:
        if entry.snapshot is not None:
            return entry.snapshot, False
        if may_be_first:
            # a session that begins is nearly always new, so no load is needed: the commit finds out
            return ABSENT, False
        return None

    async def latest(self, entry: SessionEntry) -> Snapshot:
        entry.snapshot = None
        snapshot = await self._store.load(entry.id)
        if snapshot.damage is None:
            self._remember(entry, snapshot)
        return snapshot

    def begin_commit(
        self, entry: SessionEntry, snapshot: Snapshot, session: Session
    ) -> asyncio.Future[Snapshot | None]:
        if self._ledger is not None and session.stream is not None:
            self._ledger.check(entry.id)
        entry.snapshot = None  # unknown until the store has answered
        return self._store.commit(entry.id, snapshot, session)

    def committed(self, entry: SessionEntry, snapshot: Snapshot) -> None:
        self._remember(entry, snapshot)

    async def commit(self, entry: SessionEntry, snapshot: Snapshot, session: Session) -> bool:
        after = await self.begin_commit(entry, snapshot, session)
        if after is None:
            return False
        self._remember(entry, after)
        return True

    async def remove(self, entry: SessionEntry, snapshot: Snapshot) -> bool:
        entry.snapshot = None
        if await self._store.commit(entry.id, snapshot, None) is None:
            return False
        if self._ledger is not None:
            self._ledger.forget(entry.id)
        return True

    async def sweep_slowly(self, duration_s: float) -> None:
        await self._check_quietly()  # before and after, because a sweep of many sessions takes its whole interval
        for share in self.sweeping(self.clock()):
            await asyncio.sleep(share * duration_s)
            if self._deletions:  # one slice at a time, so that chunks do not wait behind all of them
                await asyncio.wait(self._deletions)
        await self._check_quietly()
        with suppress(StoreError):  # the next sweep tries again
            await self._store.expire()

    async def _check_quietly(self) -> None:
        with suppress(StoreError):  # ``trouble`` has it
            await self._store.health()

    def _remember(self, entry: SessionEntry, snapshot: Snapshot) -> None:
        entry.snapshot = snapshot
        count = ENTRY_BYTES + (0 if snapshot.session is None else snapshot.session.bytes)
        self._bytes += count - entry.bytes
        entry.bytes = count
        if self._ledger is not None:
            if snapshot.session is None or snapshot.session.stream is None:
                self._ledger.forget(entry.id)
            else:
                self._ledger.note(entry.id)

    def _make_room(self) -> None:
        """Remove the least recently used entries while memory is full. Their sessions stay in the store.

        Raises:
            Overloaded: all entries are in use.
        """
        limits = self._limits
        while self.open >= limits.max_sessions or self._bytes >= limits.max_session_bytes:
            if not self._remove_oldest():
                raise Overloaded(
                    f"all sessions that have room in memory are in use: try again in {self._retry_s:g} s",
                    self._retry_s,
                )

    def _remove_oldest(self) -> bool:
        """Remove the least recently used entry that no request uses."""
        unused = next((entry for entry in self._entries.values() if not entry.users), None)
        if unused is not None:
            self._remove(unused)
        return unused is not None

    def _remove(self, entry: SessionEntry) -> None:
        del self._entries[entry.id]
        self._bytes -= entry.bytes

    def _is_removable(self, entry: SessionEntry) -> bool:
        return entry.ended or entry.session is None

    def _expire(self, session_id: str, now_s: float) -> bool:
        entry = self._entries.get(session_id)
        if entry is None or entry.users:
            return False
        snapshot, session = entry.snapshot, entry.session
        if snapshot is None or session is None:
            is_over = now_s - entry.last_used_s >= self.lifetimes.idle_s
            if is_over:
                self._remove(entry)
            return is_over
        if not session.known.progress.ended and status(session.known, now_s, self.lifetimes) == "open":
            return False
        self._remove(entry)
        if not session.known.progress.ended:
            task = asyncio.create_task(self._delete_expired(session_id, snapshot, session))
            self._deletions.add(task)
            task.add_done_callback(self._deleted)
        return True

    async def _delete_expired(self, session_id: str, snapshot: Snapshot, session: Session) -> None:
        """Delete an expired session's record. The server that deletes it counts it."""
        if await self._store.commit(session_id, snapshot, None) is not None:
            now_s = self.clock()
            self._counters.dropped(dropped(session_id, session, over(session, now_s, self.lifetimes), now_s))

    def _deleted(self, task: asyncio.Task[None]) -> None:
        self._deletions.discard(task)
        if not task.cancelled():
            task.exception()  # the store has counted it; asyncio logs an exception that is never retrieved
