"""Sessions in the memory of this process, without a store.

Time is judged when a request enters, so that no session expires under a chunk. What was dropped is remembered for a
while, so that nothing begins anew in silence.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator

from service.observe.clock import Clock
from service.observe.counters import Counters
from service.registry.table import ABSENT, SessionEntry, SessionTable
from service.session.protocol import NO_EXPIRY, Lifetimes, expired, status, unknown
from service.session.session import Session
from service.store.session_store import Snapshot


class LocalSessions(SessionTable):
    """
    Args:
        max_sessions, lifetimes, retry_s, clock: as of ``SessionTable``.
        max_remembered: ended sessions, and dropped ones, that are remembered (each).
        counters: count the dropped.
        wall: seconds since 1970.
    """

    decision_lifetimes = NO_EXPIRY

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
        self._used: OrderedDict[str, None] = OrderedDict()  # ids of open sessions, the longest unused first
        self._ended: OrderedDict[str, float] = OrderedDict()  # id to time, oldest first
        self._expired: OrderedDict[str, float] = OrderedDict()

    @property
    def wall_offset_s(self) -> float:  # type: ignore[override]
        return self._wall() - self.clock()

    @property
    def open(self) -> int:
        return len(self._entries) - len(self._ended)

    async def start(self) -> None:
        """Memory is always ready."""

    async def check(self) -> None:
        """Memory can always keep sessions."""

    async def close(self) -> None:
        """Nothing is under way."""

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
        """Put a session, or none, into an entry."""
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
            for forgotten in _forget(self._ended, self._max_remembered, float("-inf")):
                self._entries.pop(forgotten, None)

    def release_id(self, session_id: str) -> None:
        self._expire(session_id, self.clock())
        self._expired.pop(session_id, None)

    def sweeping(self, now_s: float) -> Iterator[float]:
        yield from super().sweeping(now_s)
        self._forget_expired(now_s)

    def _make_room(self) -> None:
        """Let go of those whose time is over, as few as will do; an old session that was used of late is left to the
        sweep.

        Raises:
            Overloaded: there are none.
        """
        now_s = self.clock()
        while self.open >= self._max_sessions:
            if not self._used or not self._expire(next(iter(self._used)), now_s):
                raise self._full()

    def _is_over(self, entry: SessionEntry) -> bool:
        return entry.session is None

    def _expire(self, session_id: str, now_s: float) -> bool:
        entry = self._entries.get(session_id)
        if entry is None or entry.users:
            return False
        session = entry.session
        if session is None:
            return False  # its last user is about to leave it
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


def _forget(remembered: OrderedDict[str, float], at_most: int, before_s: float) -> list[str]:
    """Remove the oldest while there are too many, and those from before a time; the removed ids."""
    removed = []
    while remembered and (len(remembered) > at_most or next(iter(remembered.values())) <= before_s):
        removed.append(remembered.popitem(last=False)[0])
    return removed
