"""Sessions in the memory of this process, without a store.

A session's lifetime is checked when a request enters, so no session expires under a chunk. The ids of dropped sessions
are remembered for a while, so that a client that sends another chunk gets an error and not, silently, a new session.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator

from service.observe.clock import Clock
from service.observe.counters import Counters
from service.registry.table import SessionEntry, SessionTable
from service.session.protocol import NO_EXPIRY, Lifetimes, expired, status, unknown
from service.session.session import Session
from service.session.snapshot import ABSENT, Snapshot


class LocalSessions(SessionTable):
    """The sessions of a server without a store.

    Args:
        max_sessions: see ``SessionTable``.
        lifetimes: see ``SessionTable``.
        retry_s: see ``SessionTable``.
        max_remembered: number of ended sessions, and of dropped ones, to remember.
        counters: count dropped sessions.
        clock: see ``SessionTable``.
        wall: seconds since 1970.
    """

    decision_lifetimes = NO_EXPIRY
    stores_state = False

    def __init__(
        self,
        max_sessions: int,
        lifetimes: Lifetimes,
        retry_s: float,
        max_remembered: int,
        counters: Counters,
        clock: Clock = time.monotonic,
        wall: Clock = time.time,
    ) -> None:
        super().__init__(max_sessions, lifetimes, retry_s, clock)
        self._max_remembered = max_remembered
        self._counters = counters
        self._wall = wall
        self._used: OrderedDict[str, None] = OrderedDict()  # ids of open sessions, least recently used first
        self._ended: OrderedDict[str, float] = OrderedDict()  # time of the end by id, oldest first
        self._expired: OrderedDict[str, float] = OrderedDict()  # time of the drop by id, oldest first

    @property
    def wall_offset_s(self) -> float:  # type: ignore[override]
        return self._wall() - self.clock()

    @property
    def open(self) -> int:
        return len(self._entries) - len(self._ended)

    async def start(self) -> None:
        """Memory is always ready."""

    async def check(self) -> None:
        """Memory can always hold sessions."""

    async def close(self) -> None:
        """Memory has nothing to finish."""

    def enter(self, session_id: str) -> SessionEntry:
        self._expire(session_id, self.clock())
        entry = self._entries.get(session_id)
        if entry is None:
            if session_id in self._expired:
                raise expired(session_id, self.lifetimes)
            if self.open >= self._max_sessions:
                self._make_room()
            entry = self._entries[session_id] = SessionEntry(session_id, ABSENT)
        entry.users += 1
        return entry

    def find(self, session_id: str) -> SessionEntry:
        self._expire(session_id, self.clock())
        entry = self._entries.get(session_id)
        if entry is None:
            raise expired(session_id, self.lifetimes) if session_id in self._expired else unknown(session_id)
        entry.users += 1
        return entry

    async def current(self, entry: SessionEntry, *, may_be_first: bool) -> tuple[Snapshot, bool]:  # noqa: ARG002
        return entry.snapshot or ABSENT, True

    async def latest(self, entry: SessionEntry) -> Snapshot:
        return entry.snapshot or ABSENT

    async def commit(self, entry: SessionEntry, snapshot: Snapshot, session: Session) -> bool:  # noqa: ARG002
        self.put(entry, session)
        return True

    async def remove(self, entry: SessionEntry, snapshot: Snapshot) -> bool:  # noqa: ARG002
        self.put(entry, None)
        return True

    def put(self, entry: SessionEntry, session: Session | None) -> None:
        """Replace an entry's session; None removes it."""
        entry.snapshot = Snapshot(session=session)
        if self._ended:
            self._ended.pop(entry.id, None)
        if session is not None and not entry.ended:
            self._used[entry.id] = None
            self._used.move_to_end(entry.id)
            return
        self._used.pop(entry.id, None)
        if entry.ended:
            self._ended[entry.id] = self.clock()
            for session_id in _forget(self._ended, self._max_remembered, float("-inf")):
                if self._entries[session_id].users:  # what waits for it may begin the session again
                    self._ended[session_id] = self.clock()
                else:
                    del self._entries[session_id]

    def release_id(self, session_id: str) -> None:
        self._expire(session_id, self.clock())
        self._expired.pop(session_id, None)

    def sweeping(self, now_s: float) -> Iterator[float]:
        yield from super().sweeping(now_s)
        self._forget_expired(now_s)

    def _make_room(self) -> None:
        """Drop expired sessions, least recently used first, until another fits.

        It stops at the first that has not expired. A session that is too old but was used recently waits for the sweep.

        Raises:
            Overloaded: there are too few.
        """
        now_s = self.clock()
        while self.open >= self._max_sessions:
            if not self._used or not self._expire(next(iter(self._used)), now_s):
                raise self._full()

    def _is_removable(self, entry: SessionEntry) -> bool:
        return entry.session is None

    def _expire(self, session_id: str, now_s: float) -> bool:
        entry = self._entries.get(session_id)
        if entry is None or entry.users:
            return False
        session = entry.session
        if session is None:
            return False  # its last user is about to leave the entry
        if status(session.known, now_s, self.lifetimes) in ("open", "ended"):
            return False
        del self._entries[session_id]
        if session.known.progress.ended:
            del self._ended[session_id]
            return True
        del self._used[session_id]
        self._counters.sessions_dropped += 1
        self._expired[session_id] = now_s
        self._forget_expired(now_s)
        return True

    def _forget_expired(self, now_s: float) -> None:
        _forget(self._expired, self._max_remembered, now_s - self.lifetimes.expired_keep_s)


def _forget(times_s: OrderedDict[str, float], max_count: int, before_s: float) -> list[str]:
    """Remove ids up to a time, and more of the oldest while there are too many.

    Returns:
        The removed ids.
    """
    removed = []
    while times_s and (len(times_s) > max_count or next(iter(times_s.values())) <= before_s):
        removed.append(times_s.popitem(last=False)[0])
    return removed
