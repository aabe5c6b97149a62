"""The sessions of a server by id, and the one protocol that both ways of keeping them implement.

``local`` keeps sessions in this process. ``shared`` keeps them in a store, for any number of processes. In both, only
a chunk that is applied counts as use.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import Overloaded
from service.observe.clock import Clock
from service.session.protocol import Lifetimes
from service.session.session import Session
from service.store.session_store import Snapshot

ABSENT = Snapshot()
SLICE = 100  # entries that a sweep looks at before others have their turn: a tenth of a millisecond


class SessionEntry:
    """What a process knows of one session.

    Attributes:
        lock: taken for each request, first come, first served.
        users: requests that hold the entry now; it stays while there are any.
        last_used_s: when the last of them left.
        snapshot: what was last seen of the session; None where only the store can say.
        seen_before: the store has held the session since the entry was made.
    """

    def __init__(self, session_id: str, snapshot: Snapshot | None) -> None:
        self.id = session_id
        self.lock = asyncio.Lock()
        self.users = 0
        self.last_used_s = 0.0
        self.snapshot = snapshot
        self.seen_before = False

    @property
    def session(self) -> Session | None:
        return None if self.snapshot is None else self.snapshot.session

    @property
    def ended(self) -> bool:
        session = self.session
        return session is not None and session.known.progress.ended


class SessionTable(ABC):
    """Used from one event loop.

    Args:
        max_sessions: open sessions in the memory of this process; one more is refused.
        lifetimes: of sessions.
        retry_s: when a client that was refused may try again.
        clock: seconds; of the times in ``Session.known``.

    Attributes:
        decision_lifetimes: by which the protocol judges a session that a request has entered.
        wall_offset_s: from ``clock`` to seconds since 1970, now.
    """

    decision_lifetimes: Lifetimes
    wall_offset_s: float

    def __init__(self, max_sessions: int, lifetimes: Lifetimes, retry_s: float, clock: Clock) -> None:
        self.clock = clock
        self.lifetimes = lifetimes
        self._max_sessions = max_sessions
        self._retry_s = retry_s
        self._entries: OrderedDict[str, SessionEntry] = OrderedDict()

    @property
    @abstractmethod
    def open(self) -> int:
        """Open sessions in the memory of this process."""

    @abstractmethod
    def enter(self, session_id: str) -> SessionEntry:
        """The entry of a session, made if there is none; the caller holds it until ``leave``.

        Raises:
            Overloaded: there is no room.
            SessionGone: the session was dropped.
        """

    @abstractmethod
    def find(self, session_id: str) -> SessionEntry:
        """``enter``, for a session that should exist.

        Raises:
            NotFound, SessionGone: it is known not to exist.
            Overloaded: there is no room.
        """

    def leave(self, entry: SessionEntry) -> None:
        """Hold the entry no longer."""
        entry.users -= 1
        if not entry.users and self._entries.get(entry.id) is entry and self._is_over(entry):
            del self._entries[entry.id]

    @contextmanager
    def visit(self, session_id: str) -> Iterator[SessionEntry]:
        """``find`` and ``leave``."""
        entry = self.find(session_id)
        try:
            yield entry
        finally:
            self.leave(entry)

    @abstractmethod
    async def current(self, entry: SessionEntry, *, may_be_first: bool) -> tuple[Snapshot, bool]:
        """What to decide on, and whether it is authoritative.

        Args:
            may_be_first: the request may be the session's first.

        Raises:
            StoreUnavailable, StateError: it cannot be known.
        """

    @abstractmethod
    async def latest(self, entry: SessionEntry) -> Snapshot:
        """What is authoritative.

        Raises:
            StoreUnavailable, StateError: it cannot be known.
        """

    @abstractmethod
    async def commit(self, entry: SessionEntry, snapshot: Snapshot, session: Session) -> bool:
        """Put a session in place of a snapshot; False where another process has changed the session since.

        Raises:
            StoreUnavailable: nobody knows whether it was put there.
        """

    @abstractmethod
    async def remove(self, entry: SessionEntry, snapshot: Snapshot) -> bool:
        """Remove what a snapshot shows; result and errors as of ``commit``."""

    @abstractmethod
    def release_id(self, session_id: str) -> None:
        """Let the id of a session that was dropped be used again."""

    @abstractmethod
    async def start(self) -> None:
        """Make ready to keep sessions.

        Raises:
            StoreUnusable: they would be lost.
        """

    @abstractmethod
    async def check(self) -> None:
        """Whether sessions can be kept now.

        Raises:
            StoreUnavailable, StoreUnusable: they cannot.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way."""

    def sweep(self, now_s: float) -> None:
        """Let go of what is over."""
        for _ in self.sweeping(now_s):
            pass

    def sweeping(self, now_s: float) -> Iterator[float]:
        """``sweep`` in slices, between which others may use the table; of each slice its share of the whole."""
        session_ids = list(self._entries)
        for count, session_id in enumerate(session_ids, 1):
            self._expire(session_id, now_s)
            if not count % SLICE:
                yield SLICE / len(session_ids)

    async def sweep_slowly(self, duration_s: float) -> None:
        """``sweep``, spread over a time: a round of the event loop with a slice in it takes longer, and a chunk takes
        several rounds."""
        for share in self.sweeping(self.clock()):
            await asyncio.sleep(share * duration_s)

    def idle_s(self, session: Session) -> float:
        """For how long the session has not been used, in seconds."""
        return max(0.0, self.clock() - session.known.used_s)

    @abstractmethod
    def _is_over(self, entry: SessionEntry) -> bool:
        """Whether nobody needs the entry any more."""

    @abstractmethod
    def _expire(self, session_id: str, now_s: float) -> bool:
        """Let the session go if its time is over; whether it was."""

    def _full(self) -> Overloaded:
        return Overloaded(f"{self._max_sessions} sessions are open: end some, or try again later", self._retry_s)
