"""The entries of a process's session table, and their limits: sessions and bytes, in all and by client, and lifetimes.

An entry has the session's snapshot, its users, and the requests that wait for it.

Without a store, a client has a share of the places and bytes, and its key may have fewer places. With a store, memory
is a cache without shares: only the limits of keys apply, to the sessions in the cache.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from math import ceil, inf
from typing import Literal

from service.admission.budget import waited_too_long
from service.clock import Clock
from service.errors import RETRY_S, KeyLimitReached, Overloaded, StoreUnavailable
from service.keys.ids import client_id, owner_of
from service.keys.keys import Keys
from service.observe.ages import Ages
from service.observe.context import SESSION
from service.observe.drops import Reason
from service.session.protocol import Lifetimes, status
from service.session.session import Session
from service.session.snapshot import ABSENT, Snapshot
from service.settings import Limits

LONGEST_SEARCH = 1_024  # entries to skip because requests use them: a tenth of a millisecond
SLICE = 100  # entries that a sweep checks in one turn of the event loop: a tenth of a millisecond

RowName = Literal["", "first", "later", "ended"]
"""What kind of session a quota counts (a key of ``SessionGroup.rows``); empty before there is one."""

ENTRY_BYTES = 1_130
"""Memory of an entry beside its ``Session.bytes``: objects, its ids, room in dictionaries, and the allocator's loss."""


class SessionEntry:
    """A process's knowledge of one session.

    Attributes:
        id: its inner id (``keys.ids``).
        client_id: the client's id of it, which replies name.
        client: the sender of the last chunk; what the store is asked counts as asked by it.
        snapshot: the session as last seen; None if only the store knows.
        has_place: the session counts as an open one.
        bytes: memory that the groups count for the session.
        stays: the entry needs no work when its last request leaves it.
        is_plain: it has spikes and a plain reply, so its memory does not change if its next reply is plain, too.
        is_taken: a request holds the session exclusively.
        store_failures: requests that failed because of the store.
        users: requests that use the entry; it stays in the table while there are any.
        waiting: requests that wait for the session, in order; None if none has waited yet.
    """

    __slots__ = (
        "bytes", "client", "client_id", "groups", "has_place", "id", "is_plain", "is_taken", "row", "snapshot", "stays",
        "store_failures", "users", "waiting",
    )  # fmt: skip

    def __init__(self, session_id: str, snapshot: Snapshot | None, groups: tuple[SessionGroup, ...]) -> None:
        self.id = session_id
        self.client_id = client_id(session_id)
        self.client = ""
        self.snapshot = snapshot
        self.groups = groups
        self.has_place = False
        self.bytes = 0
        self.row: RowName = ""
        self.stays = False
        self.is_plain = False
        self.is_taken = False
        self.waiting: deque[Callable[[], None]] | None = None
        self.store_failures = 0
        self.users = 0

    def take(self, go: Callable[[], None]) -> bool:
        """Take the session exclusively for a request. Returns False if another has it; ``go`` is called at the turn."""
        if self.is_taken:
            if self.waiting is None:
                self.waiting = deque()
            self.waiting.append(go)
            return False
        self.is_taken = True
        return True

    def forget(self, go: Callable[[], None]) -> bool:
        """Stop waiting: do not call ``go``. Returns False if its turn has come already."""
        if self.waiting is None or go not in self.waiting:
            return False
        self.waiting.remove(go)
        return True

    def give(self) -> None:
        """Pass the session to the request that has waited longest."""
        if not self.waiting:
            self.is_taken = False
        else:
            asyncio.get_running_loop().call_soon(self.waiting.popleft())

    @asynccontextmanager
    async def turn(self, due_s: float = inf) -> AsyncIterator[None]:
        """Hold the session exclusively, first come, first served, as a context manager.

        Raises:
            Overloaded: the turn did not come by ``due_s``, in seconds of ``time.monotonic``.
            StoreUnavailable: as ``store_failed``.
        """
        SESSION.set(self.id)
        failures = self.store_failures
        await self._wait(due_s)
        try:
            if self.store_failures != failures:
                raise store_failed()
            try:
                yield
            except StoreUnavailable:
                self.store_failures += 1
                raise
        finally:
            self.give()

    async def _wait(self, due_s: float) -> None:
        """Take the session, after those that have waited longer."""
        turn = asyncio.get_running_loop().create_future()

        def go() -> None:
            if turn.cancelled():
                self.give()
            else:
                turn.set_result(None)

        if self.take(go):
            return
        try:
            async with asyncio.timeout(None if due_s == inf else due_s - time.monotonic()):
                await turn
        except BaseException as error:
            if not self.forget(go) and turn.done() and not turn.cancelled():
                self.give()  # the turn came at the same moment
            if isinstance(error, TimeoutError):
                raise waited_too_long() from None
            raise

    @property
    def session(self) -> Session | None:
        return None if self.snapshot is None else self.snapshot.session

    @property
    def ended(self) -> bool:
        session = self.session
        return session is not None and session.known.progress.ended


def store_failed() -> StoreUnavailable:
    """Make the error for a request that waited for a session's turn while the store failed on another one.

    Else the session's requests would wait for a hung store one after the other.
    """
    return StoreUnavailable(
        "the session store failed on a request before this one: nothing was changed, "
        f"send the chunk again in {RETRY_S:g} s"
    )


OPEN_ROWS: tuple[RowName, ...] = ("first", "later")


class SessionGroup:
    """Sessions with a common limit: all of a process, or those of one client.

    Attributes:
        client: address or name of the key; empty for all sessions.
        open: open sessions, and those that a current request may open.
        rows: entries by id, the least recently used one first: ``first`` has open sessions of one chunk, ``later``
            those of several, ``ended`` ended ones.
        recount, recounted_s: the last ``SessionTable.recount``, and when it began.
    """

    __slots__ = (
        "_is_key", "bytes", "client", "entries", "max_bytes", "max_open", "open", "recount", "recounted_s",
        "rows",
    )  # fmt: skip

    def __init__(self, max_open: int, max_bytes: int, client: str = "", *, is_key: bool = False) -> None:
        self.max_open = max_open
        self.max_bytes = max_bytes
        self.client = client
        self._is_key = is_key
        self.entries = 0
        self.open = 0
        self.bytes = 0
        self.recount: asyncio.Future[list[None]] | None = None
        self.recounted_s = -inf
        self.rows: dict[RowName, OrderedDict[str, SessionEntry]] = {
            "first": OrderedDict(), "later": OrderedDict(), "ended": OrderedDict()
        }  # fmt: skip

    def lacks(self, more_open: int, more_bytes: int) -> Literal["places", "bytes"] | None:
        """Return what is missing for more open sessions and bytes; None if they fit. Fewer bytes always fit."""
        if more_open > 0 and self.open + more_open > self.max_open:
            return "places"
        return "bytes" if more_bytes > 0 and self.bytes + more_bytes > self.max_bytes else None

    def unused(self, row: RowName) -> SessionEntry | None:
        """Return the least recently used entry of a row that no request uses.

        Entries in use go to the row's end, where their requests will put them: so a frame of many does not hide others.
        """
        entries = self.rows[row]
        for _ in range(min(len(entries), LONGEST_SEARCH)):
            entry = next(iter(entries.values()))
            if not entry.users:
                return entry
            entries.move_to_end(entry.id)
        return None

    def oldest(self) -> Iterator[SessionEntry]:
        """Yield the least recently used open sessions, of one chunk and of several."""
        return filter(None, map(self.unused, OPEN_ROWS))

    def all_oldest(self, most: int) -> list[str]:
        """Return the ids of the least recently used open sessions that no request uses, at most this number."""
        unused = [entry for row in OPEN_ROWS for entry in self.rows[row].values() if not entry.users]
        return [entry.id for entry in sorted(unused, key=_used_s)[:most]]

    def full(self, lack: Literal["places", "bytes"], lifetimes: Lifetimes, retry_s: float, now_s: float) -> Overloaded:
        """Make the error for a session without room. It does not reveal numbers of all sessions."""
        owner = f"key {self.client!r}" if self._is_key else "this client"
        if lack == "places":
            all_say, says = "the server has as many sessions as it takes", f"{self.open} sessions of {owner} are open"
        else:
            all_say = "sessions take all the memory that the server has for them"
            says = f"sessions of {owner} take {self.bytes} bytes, and may take {self.max_bytes}"
        due_s = [
            entry.session.known.used_s
            + (min(lifetimes.idle_s, lifetimes.first_idle_s) if entry.row == "first" else lifetimes.idle_s)
            for entry in self.oldest()
            if entry.session is not None
        ]
        wait_s = max(1.0, min(due_s) - now_s) if due_s else retry_s
        kind = KeyLimitReached if self._is_key else Overloaded
        return kind(f"{says if self.client else all_say}: end some, or try again in {ceil(wait_s)} s", wait_s)


class Quota:
    """Counts the entries of a process, in all and by client, and drops some if others need room.

    Args:
        retry_s: the wait of a refused client, if nothing better is known.
        keys: they may have their own limits; None if clients are addresses.
        dropped: called for each open session that was removed.
        is_cache: a store has the sessions.

    Attributes:
        all: the sessions of the process.
        ages: ages of open sessions at the last sweep.
    """

    def __init__(
        self,
        limits: Limits,
        lifetimes: Lifetimes,
        retry_s: float,
        clock: Clock,
        keys: Keys | None,
        dropped: Callable[[SessionEntry, Session, Reason], None],
        *,
        is_cache: bool,
    ) -> None:
        self.entries: dict[str, SessionEntry] = {}
        self.all = SessionGroup(limits.max_sessions, limits.max_session_bytes)
        self.ages = Ages()
        self._lifetimes = lifetimes
        self._retry_s = retry_s
        self._clock = clock
        self._keys = keys
        self._share = limits.client_share
        self._dropped = dropped
        self._is_cache = is_cache
        self._clients: dict[str, SessionGroup] = {}
        if keys is not None:
            keys.on_change = self._renew

    def add(self, session_id: str, client: str, *, is_one_shot: bool) -> SessionEntry:
        """Make the entry of a session.

        Raises:
            Overloaded: there is no room. A one-shot session needs none.
        """
        groups = self._groups(session_id, client)
        if not is_one_shot:  # the key may already count a session in the store
            self.make_room(groups[:1] if self._is_cache else groups, 1, ENTRY_BYTES)
        entry = self.entries[session_id] = SessionEntry(session_id, None if self._is_cache else ABSENT, groups)
        entry.has_place = not (self._is_cache or is_one_shot)
        for group in groups:
            group.entries += 1
            group.open += entry.has_place
            if group.client:
                self._clients[group.client] = group
        return entry

    def remove(self, entry: SessionEntry) -> None:
        """Remove an entry that no request uses."""
        del self.entries[entry.id]
        self.count(entry, 0, "")
        for group in entry.groups:
            group.entries -= 1
            if group.client and not group.entries:
                del self._clients[group.client]

    def count(self, entry: SessionEntry, count: int, row: RowName) -> None:
        """Count an entry as just used, with ``count`` bytes, in place of what it counted before."""
        more_bytes = count - entry.bytes
        entry.bytes = count
        has_place = row in ("first", "later")
        for group in entry.groups:
            group.open += has_place - entry.has_place
            group.bytes += more_bytes
            if entry.row:
                del group.rows[entry.row][entry.id]
            if row:
                group.rows[row][entry.id] = entry
        entry.row, entry.has_place = row, has_place

    def make_room(self, groups: tuple[SessionGroup, ...], more_open: int, more_bytes: int) -> None:
        """Drop sessions until an open one has room: first the last replies of ended sessions, then idle open ones.

        It stops at the first that has not expired. A session that is too old but was used recently waits for the sweep.
        A session that a store has may leave memory at any time.

        Args:
            more_open: 1 if the session does not count as open yet.

        Raises:
            Overloaded: too few can be dropped. It says when the next one can.
        """
        for group in reversed(groups):  # the client's group first: for its share, only its own sessions are dropped
            while lack := group.lacks(more_open, more_bytes):
                if self._is_cache and group is self.all:
                    if not self._uncache():
                        raise Overloaded(
                            f"all sessions that have room in memory are in use: try again in {self._retry_s:g} s",
                            self._retry_s,
                        )
                elif not (
                    self._drop_due(group)
                    or (lack == "bytes" and self.drop_reply(group))
                    or self._drop_first(group, "limit" if lack == "places" else "memory")
                ):
                    raise group.full(lack, self._lifetimes, self._retry_s, self._clock())

    def take_place(self, entry: SessionEntry) -> None:
        """Count a session as open before the store has it, so that the next requests see its place as taken.

        Raises:
            KeyLimitReached: its key has as many as it may.
        """
        self.make_room(entry.groups[1:], 1, 0)
        entry.has_place = True
        for group in entry.groups:
            group.open += 1

    def trim(self) -> None:
        """Remove the least recently used sessions from memory if they take too much of it. The store has them."""
        room = self.all
        while (room.bytes > room.max_bytes or room.open > room.max_open) and self._uncache():
            pass

    def drop_reply(self, group: SessionGroup) -> bool:
        """Drop the oldest last reply of a group's ended sessions."""
        entry = group.unused("ended")
        if entry is not None:
            self.remove(entry)
        return entry is not None

    def expire(self, session_id: str, now_s: float) -> bool:
        """Remove the entry of a session if it has expired and no request uses it. Returns whether it was removed."""
        entry = self.entries.get(session_id)
        if entry is None or entry.users or (session := entry.session) is None:
            return False
        if status(session.known, now_s, self._lifetimes) != "none":
            return False
        self._drop(entry, session, "idle" if now_s - session.known.used_s >= self._lifetimes.idle_s else "age")
        return True

    def sweeping(self, now_s: float) -> Iterator[float]:
        """Remove the entries of expired sessions in slices, and yield the share of each slice.

        Entries may be used between two slices.
        """
        session_ids = list(self.entries)
        ages = Ages()
        for count, session_id in enumerate(session_ids, 1):
            if not self.expire(session_id, now_s) and (entry := self.entries.get(session_id)) is not None:
                session = entry.session
                if session is not None and not session.known.progress.ended:
                    ages.observe(now_s - session.known.created_s)
            if not count % SLICE:
                yield SLICE / len(session_ids)
        self.ages = ages

    def _groups(self, session_id: str, client: str) -> tuple[SessionGroup, ...]:
        """Return the groups that a session counts in: all, and its client's, if that has a limit."""
        if self._keys is not None:
            client = owner_of(session_id)
        elif self._is_cache or self._share == 1:
            client = ""
        if not client:
            return (self.all,)
        group = self._clients.get(client)
        if group is None:
            group = SessionGroup(*self._most(client), client, is_key=self._keys is not None)
        return self.all, group

    def _most(self, client: str) -> tuple[int, int]:
        most_open = most_bytes = sys.maxsize
        if not self._is_cache:
            most_open, most_bytes = max(1, int(self.all.max_open * self._share)), int(self.all.max_bytes * self._share)
        if self._keys is not None:
            most_open = min(most_open, self._keys.limits(client).max_sessions or most_open)
        return most_open, most_bytes

    def _renew(self) -> None:
        """Apply the present limits of keys. Sessions beyond them stay, and none is added."""
        for client, group in self._clients.items():
            group.max_open, group.max_bytes = self._most(client)

    def _drop_due(self, group: SessionGroup) -> bool:
        now_s = self._clock()
        return any(self.expire(entry.id, now_s) for entry in group.oldest())

    def _drop_first(self, group: SessionGroup, reason: Reason) -> bool:
        """Drop a session of a group that has long been idle after its first chunk."""
        entry = group.unused("first")
        session = None if entry is None else entry.session
        if entry is None or session is None or self._clock() - session.known.used_s < self._lifetimes.first_idle_s:
            return False
        self._drop(entry, session, reason)
        return True

    def _drop(self, entry: SessionEntry, session: Session, reason: Reason) -> None:
        self.remove(entry)
        if not session.known.progress.ended:
            self._dropped(entry, session, reason)

    def _uncache(self) -> bool:
        """Remove the least recently used session from memory."""
        oldest = min(self.all.oldest(), key=_used_s, default=None)
        if oldest is not None:
            self.remove(oldest)
        return oldest is not None


def row_of(session: Session) -> RowName:
    progress = session.known.progress
    return "ended" if progress.ended else "first" if progress.expected_seq <= 1 else "later"


def _used_s(entry: SessionEntry) -> float:
    return entry.session.known.used_s if entry.session is not None else 0.0
