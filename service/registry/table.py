"""The sessions of a server by id, in the memory of this process, or in a store that any number of processes share.

Without a store, the entry is the session. With a store, an entry caches the store's record as this process last saw it.
If entries are too many or too large, one that no request uses is removed. ``session.protocol`` says what may be decided
on a cached record; lifetimes are checked by the times in the record, so all processes agree. In both cases, only an
applied chunk counts as use.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter

from service.clock import Clock
from service.errors import RETRY_S, HetsynError, KeyLimitReached, StoreError
from service.keys.keys import Keys
from service.observe.counters import Counters
from service.observe.drops import Drop, Reason
from service.registry.entries import ENTRY_BYTES, Quota, SessionEntry, row_of
from service.session.protocol import Lifetimes, check_delete, unknown
from service.session.session import PlainReply, Session
from service.session.snapshot import ABSENT, Snapshot
from service.settings import Limits
from service.store.group_commit import Told
from service.store.session_store import SessionStore

RECOUNTED = 64  # sessions of a key to ask the store about at a time


class SessionTable:
    """Entries of sessions by id. Used from one event loop.

    Args:
        retry_s: the wait of a refused client, if nothing better is known.
        clock: seconds, for sessions without a store.
        wall: seconds since 1970, for the times in a store's records.

    Attributes:
        store: has the sessions; None if they are only in memory.
        clock: seconds, for the times in ``Session.known``.
    """

    def __init__(
        self,
        limits: Limits,
        lifetimes: Lifetimes,
        retry_s: float,
        counters: Counters,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
        keys: Keys | None = None,
        store: SessionStore | None = None,
    ) -> None:
        self.store = store
        self.lifetimes = lifetimes
        self.clock = clock if store is None else wall
        self._wall = wall
        self._counters = counters
        self.quota = Quota(limits, lifetimes, retry_s, self.clock, keys, self._dropped, is_cache=store is not None)
        self._entries = self.quota.entries

    @property
    def wall_offset_s(self) -> float:
        """Compute seconds since 1970 less ``clock``, now."""
        return self._wall() - self.clock() if self.store is None else 0.0

    @property
    def trouble(self) -> StoreError | None:
        """Say why no session can be changed, as ``SessionStore.trouble``; None if they can."""
        return None if self.store is None else self.store.trouble

    @property
    def open(self) -> int:
        return self.quota.all.open

    @property
    def bytes(self) -> int:
        """Count the bytes of memory that sessions take: states, last replies and entries."""
        return self.quota.all.bytes

    async def check(self) -> None:
        """Check that sessions can be stored now; errors as of ``StateStore.health``."""
        if self.store is not None:
            await self.store.health()

    def enter(self, session_id: str, client: str = "", *, is_one_shot: bool = False) -> SessionEntry:
        """Return the entry of a session, made if there is none. The caller uses it until ``leave``.

        Args:
            is_one_shot: the request would begin and end the session, so it needs no room.

        Raises:
            Overloaded: there is no room.
        """
        self.quota.expire(session_id, self.clock())
        entry = self._entries.get(session_id) or self.quota.add(session_id, client, is_one_shot=is_one_shot)
        entry.client = client or entry.client
        entry.users += 1
        return entry

    def find(self, session_id: str, client: str = "") -> SessionEntry:
        """Return the entry of a session that should exist; it may have expired. The caller uses it until ``leave``.

        Raises:
            NotFound: there is no entry, and no store that may have the session.
            Overloaded: there is no room.
        """
        entry = self._entries.get(session_id)
        if entry is None:
            if self.store is None:
                raise unknown(session_id)
            return self.enter(session_id, client)
        entry.client = client or entry.client
        entry.users += 1
        return entry

    def leave(self, entry: SessionEntry) -> None:
        """End the use of an entry of ``enter`` or ``find``."""
        entry.users -= 1
        if entry.stays or entry.users:
            return
        if entry.session is None or (entry.ended and self.store is not None):
            self.quota.remove(entry)
        elif entry.ended:
            for group in entry.groups:
                while group.bytes > group.max_bytes and self.quota.drop_reply(group):
                    pass

    def release(self, entries: Sequence[SessionEntry]) -> None:
        """Do ``SessionEntry.give`` and ``leave`` for requests that end together."""
        for entry in entries:
            if entry.waiting:
                entry.give()
            else:
                entry.is_taken = False
            if entry.stays:
                entry.users -= 1
            else:
                self.leave(entry)

    @contextmanager
    def visit(self, session_id: str, client: str = "") -> Iterator[SessionEntry]:
        """Use the entry of a session within the context; arguments and errors as of ``find``."""
        entry = self.find(session_id, client)
        try:
            yield entry
        finally:
            self.leave(entry)

    def cached(self, entry: SessionEntry, *, may_be_first: bool) -> tuple[Snapshot, bool] | None:
        """Return a snapshot to decide on, without a look into the store.

        Args:
            may_be_first: the request may be the session's first.

        Returns:
            The snapshot, and whether it is authoritative (``session.protocol``); None if the store must tell.
        """
        if entry.snapshot is not None:
            return entry.snapshot, self.store is None
        # a session that begins is nearly always new, so no load is needed: the commit finds out
        return (ABSENT, False) if may_be_first else None

    async def latest(self, entry: SessionEntry) -> Snapshot:
        """Return the authoritative snapshot; errors as of ``SessionStore.load``."""
        if self.store is None:
            session = entry.session
            return ABSENT if session is None else Snapshot(session=session.written(entry.client_id))
        self._forget(entry)
        snapshot = await self.store.load(entry.id, entry.client)
        if snapshot.damage is None:
            self.committed(entry, snapshot)
        return snapshot

    async def existing(self, entry: SessionEntry) -> Session:
        """Return the latest session of an entry; errors as of ``latest``. Raises NotFound if there is none."""
        asked_s = self.clock()
        snapshot = await self.latest(entry)
        if snapshot.damage is not None:
            raise snapshot.damage
        check_delete(entry.id, snapshot.known, asked_s, self.lifetimes)
        assert snapshot.session is not None
        return snapshot.session

    async def commit(self, entry: SessionEntry, snapshot: Snapshot, session: Session) -> bool:
        """Replace a snapshot by a session. Returns False if another process has changed the session since.

        Raises:
            StoreUnavailable: it may have been replaced or not.
            Overloaded: there is no room for what the session takes. Nothing was replaced.
        """
        if self.store is None:
            self.put(entry, session)
            return True
        try:
            self._forget(entry, session)
        except KeyLimitReached:
            await self.recount(entry)
            self._forget(entry, session)
        if (after := await self.store.commit(entry.id, snapshot, session, entry.client)) is not None:
            self.committed(entry, after)
        return after is not None

    async def remove(self, entry: SessionEntry, snapshot: Snapshot) -> bool:
        """Remove the session of a snapshot; result and errors as of ``commit``."""
        if self.store is None:
            self.put(entry, None)
            return True
        self._forget(entry)
        return await self.store.commit(entry.id, snapshot, None, entry.client) is not None

    def put(self, entry: SessionEntry, session: Session | None) -> None:
        """Replace the session of an entry, without a store; None removes it.

        A session that ends needs no room: if its reply has none, ``leave`` drops it.

        Raises:
            Overloaded: there is no room for a session that goes on. It is as before.
        """
        stream = None if session is None else session.stream
        is_plain = stream is not None and stream.kind == "spikes" and isinstance(_reply_of(session), PlainReply)
        if session is None:
            self.quota.count(entry, 0, "")
            entry.stays = False
        elif stream is not None and entry.row == "later" and _expected_of(session) > 1:
            # it goes on in its row: a new session under its id would expect chunk 1
            if not (is_plain and entry.is_plain):
                count = ENTRY_BYTES + session.bytes
                if count > entry.bytes:
                    self.quota.make_room(entry.groups, 0, count - entry.bytes)
                for group in entry.groups:
                    group.bytes += count - entry.bytes
                entry.bytes = count
            for group in entry.groups:
                group.rows["later"].move_to_end(entry.id)
        else:
            count, row = ENTRY_BYTES + session.bytes, row_of(session)
            if row != "ended" and (count > entry.bytes or not entry.has_place):
                self.quota.make_room(entry.groups, not entry.has_place, count - entry.bytes)
            self.quota.count(entry, count, row)
            entry.stays = entry.has_place
        entry.is_plain = is_plain
        entry.snapshot = tuple.__new__(Snapshot, (None, session, None))  # twice as fast as ``Snapshot()``

    def begin_commit(
        self, entry: SessionEntry, snapshot: Snapshot, session: Session, caller: object, told: Told
    ) -> None:
        """Begin to replace a snapshot in the store. ``told`` passes the result to ``committed``.

        Raises:
            KeyLimitReached: the session's key has reached its limit of sessions. ``recount`` may find room.
        """
        assert self.store is not None
        self._forget(entry, session)
        self.store.begin_commit(entry.id, snapshot, session, entry.client, caller, told)

    async def recount(self, entry: SessionEntry) -> None:
        """Ask the store about open sessions of an entry's key: those that another server has ended count no more.

        It asks once a second, about those that have not been used for longest: a refused client may try all the time.
        """
        key, now_s = entry.groups[-1], self.clock()
        if key.recount is None or now_s - key.recounted_s >= RETRY_S:
            key.recounted_s, key.recount = now_s, asyncio.gather(*map(self._recount, key.all_oldest(RECOUNTED)))
        await asyncio.wait([key.recount])

    async def _recount(self, session_id: str) -> None:
        if self.quota.expire(session_id, self.clock()):
            return  # the store still has its record, and would bring it back
        with suppress(HetsynError), self.visit(session_id) as entry:
            if not entry.is_taken:  # else its chunk finds out, and may itself wait for this
                async with entry.turn():
                    await self.latest(entry)

    def committed(self, entry: SessionEntry, snapshot: Snapshot) -> None:
        """Cache the store's snapshot of a session."""
        session = snapshot.session
        if session is None:
            self.quota.count(entry, ENTRY_BYTES, "")
        else:
            self.quota.count(entry, ENTRY_BYTES + session.bytes, row_of(session))
        entry.snapshot, entry.stays = snapshot, entry.has_place
        self.quota.trim()

    def _forget(self, entry: SessionEntry, after: Session | None = None) -> None:
        """Forget the cached session, which the store has. ``after`` replaces it there: errors as ``begin_commit``."""
        if after is not None and after.stream is not None and not entry.has_place:
            self.quota.take_place(entry)
        entry.snapshot, entry.stays = None, False

    def _dropped(self, entry: SessionEntry, session: Session, reason: Reason) -> None:
        known, model, now_s = session.known, session.model, self.clock()
        age_s, idle_s = now_s - known.created_s, now_s - known.used_s
        drop = Drop(entry.id, reason, model.name, model.version, known.progress.expected_seq, age_s, idle_s)
        if self.store is None:
            self._counters.dropped(drop)
        elif entry.snapshot is not None:
            self.store.drop(entry.snapshot, drop)


_reply_of, _expected_of = attrgetter("known.progress.last.reply"), attrgetter("known.progress.expected_seq")
