"""Sessions in the memory of this process, without a store.

A session's lifetime is checked when a request enters, so no session expires under a chunk.
"""

from __future__ import annotations

import time
from math import ceil

from service.errors import KeyLimitReached, Overloaded
from service.keys.keys import Keys
from service.observe.clock import Clock
from service.observe.counters import Counters
from service.observe.drops import Reason
from service.registry.lives import dropped, over
from service.registry.room import SessionGroup, SessionRoom
from service.registry.table import ENTRY_BYTES, RowName, SessionEntry, SessionTable
from service.session.plain_reply import PlainReply
from service.session.protocol import NO_EXPIRY, Lifetimes, status, unknown
from service.session.session import Session
from service.session.snapshot import ABSENT, Snapshot
from service.settings import Limits


class LocalSessions(SessionTable):
    """The sessions of a server without a store.

    Args:
        limits: see ``SessionTable``.
        lifetimes: see ``SessionTable``.
        retry_s: see ``SessionTable``.
        counters: count dropped sessions.
        clock: see ``SessionTable``.
        wall: seconds since 1970.
        keys: whose limits count; None where clients are addresses.
    """

    decision_lifetimes = NO_EXPIRY
    stores_state = False

    def __init__(
        self,
        limits: Limits,
        lifetimes: Lifetimes,
        retry_s: float,
        counters: Counters,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
        keys: Keys | None = None,
    ) -> None:
        super().__init__(lifetimes, retry_s, clock)
        self._counters = counters
        self._wall = wall
        self._room = SessionRoom(limits, keys)
        if keys is not None:
            keys.on_change = self._room.renew

    @property
    def wall_offset_s(self) -> float:  # type: ignore[override]
        return self._wall() - self.clock()

    @property
    def open(self) -> int:
        return self._room.all.open

    @property
    def bytes(self) -> int:
        return self._room.all.bytes

    async def start(self) -> None:
        """Memory is always ready."""

    async def check(self) -> None:
        """Memory can always hold sessions."""

    async def close(self) -> None:
        """Memory has nothing to finish."""

    def enter(self, session_id: str, client: str = "", *, is_one_shot: bool = False) -> SessionEntry:
        self._expire(session_id, self.clock())
        entry = self._entries.get(session_id)
        if entry is None:
            entry = SessionEntry(session_id, ABSENT, client)
            if not is_one_shot:
                self._make_room(self._room.groups(client), 1, ENTRY_BYTES)
            self._room.enter(entry, client, has_place=not is_one_shot)
            self._entries[session_id] = entry
        entry.users += 1
        return entry

    def find(self, session_id: str) -> SessionEntry:
        entry = self._entries.get(session_id)
        if entry is None:
            raise unknown(session_id)
        if not entry.users and (snapshot := entry.snapshot) is not None and (session := snapshot.session) is not None:
            now_s = self.clock()
            if status(session.known, now_s, self.lifetimes) == "none" and self._expire(session_id, now_s):
                raise unknown(session_id)
        entry.users += 1
        return entry

    def leave(self, entry: SessionEntry) -> None:
        if entry.row == "later":  # it stays
            entry.users -= 1
            return
        super().leave(entry)
        if entry.row == "ended" and not entry.users:
            for group in entry.groups:
                while group.bytes > group.max_bytes and self._drop_reply(group):
                    pass

    def cached(self, entry: SessionEntry, *, may_be_first: bool) -> tuple[Snapshot, bool]:  # noqa: ARG002
        return entry.snapshot or ABSENT, True

    async def latest(self, entry: SessionEntry) -> Snapshot:
        session = entry.session
        return ABSENT if session is None else Snapshot(session=session.written(entry.id))

    async def commit(self, entry: SessionEntry, snapshot: Snapshot, session: Session) -> bool:  # noqa: ARG002
        self.put(entry, session)
        return True

    async def remove(self, entry: SessionEntry, snapshot: Snapshot) -> bool:  # noqa: ARG002
        self.put(entry, None)
        return True

    def put(self, entry: SessionEntry, session: Session | None) -> None:
        """Replace an entry's session; None removes it.

        A session that ends needs no room: where its reply has none, it goes with ``leave``.

        Raises:
            Overloaded: there is no room for a session that goes on. It is as before.
        """
        if session is None:
            self._room.count(entry, 0, "")
        elif (is_plain := _is_plain(session)) and entry.is_plain and entry.row == "later":
            for group in entry.groups:  # nothing of it has another length
                group.rows["later"].move_to_end(entry.id)
        else:
            count = ENTRY_BYTES + session.bytes
            progress = session.known.progress
            row: RowName = "ended" if progress.ended else "first" if progress.expected_seq <= 1 else "later"
            if row != "ended" and (count > entry.bytes or not entry.has_place):
                self._make_room(entry.groups, not entry.has_place, count - entry.bytes)
            self._room.count(entry, count, row)
            entry.is_plain = is_plain
        entry.snapshot = tuple.__new__(Snapshot, (None, session, None))  # in half the time of ``Snapshot()``

    def _make_room(self, groups: tuple[SessionGroup, ...], more_open: int, more_bytes: int) -> None:
        """Drop sessions until an open one has room. The last replies of ended ones go before open sessions that idle.

        It stops at the first that has not expired. A session that is too old but was used recently waits for the sweep.

        Args:
            groups: that it counts in.
            more_open: 1 if it does not count as open yet.
            more_bytes: that it will take.

        Raises:
            Overloaded: too few can go. It says when the next can.
        """
        for group in reversed(groups):  # the client's first: beyond its share, nobody else's sessions go
            while lack := group.lacks(more_open, more_bytes):
                if not (
                    self._drop_due(group)
                    or (lack == "bytes" and self._drop_reply(group))
                    or self._drop_first(group, "limit" if lack == "places" else "memory")
                ):
                    owner = f"key {group.key!r}" if group.key else "this client"
                    if group is self._room.all:
                        owner = ""
                    raise _full(group, lack, owner, self.lifetimes, self._retry_s, self.clock())

    def _drop_due(self, group: SessionGroup) -> bool:
        """Drop an expired session of a group."""
        now_s = self.clock()
        rows: tuple[RowName, ...] = ("first", "later")
        oldest = [entry for row in rows if (entry := next(group.unused(row), None))]
        return any(self._expire(entry.id, now_s) for entry in oldest)

    def _drop_first(self, group: SessionGroup, reason: Reason) -> bool:
        """Drop a session of a group that was idle for long after its first chunk."""
        now_s = self.clock()
        entry = next(group.unused("first"), None)
        session = None if entry is None else entry.session
        if entry is None or session is None or now_s - session.known.used_s < self.lifetimes.first_idle_s:
            return False
        self._drop(entry, session, reason, now_s)
        return True

    def _drop_reply(self, group: SessionGroup) -> bool:
        """Drop the oldest last reply of a group's ended sessions."""
        entry = next(group.unused("ended"), None)
        if entry is None or entry.session is None:
            return False
        self._remove(entry)
        return True

    def _drop(self, entry: SessionEntry, session: Session, reason: Reason, now_s: float) -> None:
        """Drop an open session."""
        self._remove(entry)
        self._counters.dropped(dropped(entry.id, session, reason, now_s))

    def _is_removable(self, entry: SessionEntry) -> bool:
        return entry.session is None

    def _remove(self, entry: SessionEntry) -> None:
        del self._entries[entry.id]
        self._room.leave(entry, entry.client)

    def _expire(self, session_id: str, now_s: float) -> bool:
        entry = self._entries.get(session_id)
        if entry is None or entry.users:
            return False
        session = entry.session
        if session is None:
            return False  # its last user is about to leave the entry
        if status(session.known, now_s, self.lifetimes) != "none":
            return False
        if session.known.progress.ended:
            self._remove(entry)
        else:
            self._drop(entry, session, over(session, now_s, self.lifetimes), now_s)
        return True


def _is_plain(session: Session) -> bool:
    """Whether it takes the same memory as after its next chunk of spikes."""
    stream, last = session.stream, session.known.progress.last
    return stream is not None and stream.kind == "spikes" and last is not None and isinstance(last.reply, PlainReply)


def _full(group: SessionGroup, lack: str, owner: str, lifetimes: Lifetimes, retry_s: float, now_s: float) -> Overloaded:
    """The error for a session without room.

    Args:
        group: that has no room.
        lack: of what.
        owner: of the group, for the message; empty for all, of which nobody learns numbers.
        lifetimes: of sessions.
        retry_s: when to try again, where nothing else is known.
        now_s: time, by the clock of sessions.
    """
    if lack == "places":
        what = (
            f"{group.max_open} sessions of {owner} are open" if owner else "the server has as many sessions as it takes"
        )
    elif owner:
        what = f"sessions of {owner} take {group.bytes} bytes, and may take {group.max_bytes}"
    else:
        what = "sessions take all the memory that the server has for them"
    idle_s = lifetimes.idle_s
    rows: tuple[tuple[RowName, float], ...] = (
        ("first", min(idle_s, lifetimes.first_idle_s)),
        ("later", idle_s),
    )
    oldest = [(next(group.unused(row), None), idle_s) for row, idle_s in rows]
    due_s = [entry.session.known.used_s + idle_s for entry, idle_s in oldest if entry and entry.session]
    wait_s = max(1.0, min(due_s) - now_s) if due_s else retry_s
    kind = KeyLimitReached if group.key else Overloaded
    return kind(f"{what}: end some, or try again in {ceil(wait_s)} s", wait_s)
