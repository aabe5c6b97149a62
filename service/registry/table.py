"""The sessions of a server by id: the interface that ``local`` and ``shared`` implement.

``LocalSessions`` holds sessions in this process. ``SharedSessions`` holds them in a store, for any number of processes.
In both, only a chunk that is applied counts as use.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import RETRY_S, Overloaded, StoreError, StoreUnavailable
from service.observe.clock import Clock
from service.session.protocol import Lifetimes
from service.session.session import Session
from service.session.snapshot import Snapshot

SLICE = 100  # entries that a sweep checks in one turn of the event loop: a tenth of a millisecond


class SessionEntry:
    """What a process knows of one session.

    Args:
        session_id: of the session.
        snapshot: see below.

    Attributes:
        id: of the session.
        lock: of ``turn``.
        store_failures: requests that failed because of the store.
        users: requests that use the entry now; it stays in the table while there are any.
        last_used_s: when a request last left the entry, by the table's clock.
        snapshot: the session as last seen; None if only the store knows.
        seen_before: the store has had the session since the entry was made.
    """

    def __init__(self, session_id: str, snapshot: Snapshot | None) -> None:
        self.id = session_id
        self.lock = asyncio.Lock()
        self.store_failures = 0
        self.users = 0
        self.last_used_s = 0.0
        self.snapshot = snapshot
        self.seen_before = False

    def turn(self) -> _Turn:
        """A context in which a request has the session to itself, first come, first served.

        Raises:
            StoreUnavailable: the store failed on another request while this one waited. Otherwise the requests of a
                session would wait for a store that hangs one after the other.
        """
        return _Turn(self)

    @property
    def session(self) -> Session | None:
        return None if self.snapshot is None else self.snapshot.session

    @property
    def ended(self) -> bool:
        session = self.session
        return session is not None and session.known.progress.ended


class _Turn:
    """See ``SessionEntry.turn``: a class, because a generator costs 2 us a chunk."""

    __slots__ = ("_entry", "_failures")

    def __init__(self, entry: SessionEntry) -> None:
        self._entry = entry
        self._failures = entry.store_failures

    async def __aenter__(self) -> None:
        await self._entry.lock.acquire()
        if self._entry.store_failures != self._failures:
            self._entry.lock.release()
            raise StoreUnavailable(
                "the session store failed on a request before this one: nothing was changed, "
                f"send the chunk again in {RETRY_S:g} s"
            )

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, StoreUnavailable):
            self._entry.store_failures += 1
        self._entry.lock.release()


class SessionTable(ABC):
    """Entries of sessions by id. Used from one event loop.

    Args:
        max_sessions: open sessions in the memory of this process; one more is refused.
        lifetimes: of sessions.
        retry_s: time after which a client that was refused may try again.
        clock: seconds, for the times in ``Session.known``.

    Attributes:
        decision_lifetimes: lifetimes that the protocol applies to a session that a request has entered.
        wall_offset_s: seconds since 1970 less ``clock``, now.
        stores_state: a commit reads the state on the host.
    """

    decision_lifetimes: Lifetimes
    wall_offset_s: float
    stores_state: bool

    def __init__(self, max_sessions: int, lifetimes: Lifetimes, retry_s: float, clock: Clock) -> None:
        self.clock = clock
        self.lifetimes = lifetimes
        self._max_sessions = max_sessions
        self._retry_s = retry_s
        self._entries: OrderedDict[str, SessionEntry] = OrderedDict()

    @property
    def trouble(self) -> StoreError | None:
        """Why no session can be changed, until somebody acts; None if they can."""
        return None

    @property
    def shortage(self) -> StoreError | None:
        """Why a session was refused lately, if there was no room for it."""
        return None

    @property
    @abstractmethod
    def open(self) -> int:
        """Open sessions in the memory of this process."""

    @abstractmethod
    def enter(self, session_id: str) -> SessionEntry:
        """The entry of a session, made if there is none. The caller uses it until ``leave``.

        Raises:
            Overloaded: there is no room.
            SessionGone: the session has expired.
        """

    @abstractmethod
    def find(self, session_id: str) -> SessionEntry:
        """As ``enter``, for a session that should exist.

        Raises:
            NotFound: there is no such session.
            SessionGone: the session has expired.
            Overloaded: there is no room.
        """

    def leave(self, entry: SessionEntry) -> None:
        """End the use of an entry that ``enter`` or ``find`` gave."""
        entry.users -= 1
        if not entry.users and self._entries.get(entry.id) is entry and self._is_removable(entry):
            del self._entries[entry.id]

    @contextmanager
    def visit(self, session_id: str) -> Iterator[SessionEntry]:
        """``find``, and ``leave`` at the end of the context."""
        entry = self.find(session_id)
        try:
            yield entry
        finally:
            self.leave(entry)

    @abstractmethod
    async def current(self, entry: SessionEntry, *, may_be_first: bool) -> tuple[Snapshot, bool]:
        """A snapshot to decide on, cached if possible.

        Args:
            entry: of the session; the caller has its lock.
            may_be_first: the request may be the session's first.

        Returns:
            The snapshot, and whether it is authoritative (``session.protocol``).

        Raises:
            StoreUnavailable: the store does not answer.
            StateError: the store has something else under this id.
        """

    @abstractmethod
    async def latest(self, entry: SessionEntry) -> Snapshot:
        """The authoritative snapshot.

        Raises:
            StoreUnavailable, StateError: as ``current``.
        """

    @abstractmethod
    async def commit(self, entry: SessionEntry, snapshot: Snapshot, session: Session) -> bool:
        """Replace a snapshot by a session.

        Returns:
            False if another process has changed the session since the snapshot. Nothing was replaced then.

        Raises:
            StoreUnavailable: it may have been replaced or not.
        """

    @abstractmethod
    async def remove(self, entry: SessionEntry, snapshot: Snapshot) -> bool:
        """Remove the session of a snapshot; result and errors as of ``commit``."""

    @abstractmethod
    def release_id(self, session_id: str) -> None:
        """Let the id of an expired session be used again."""

    @abstractmethod
    async def start(self) -> None:
        """Prepare the table; called before any other method. A second call does nothing.

        Raises:
            StoreUnusable: the store would lose sessions, as it is configured.
        """

    @abstractmethod
    async def check(self) -> None:
        """Check that sessions can be stored now.

        Raises:
            StoreUnavailable: the store does not answer.
            StoreUnusable: the store would lose sessions, as it is configured.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish what is under way; the table is not used afterwards."""

    def sweep(self, now_s: float) -> None:
        """Remove expired sessions and entries that are not needed."""
        for _ in self.sweeping(now_s):
            pass

    def sweeping(self, now_s: float) -> Iterator[float]:
        """``sweep`` in slices, between which the table may be used.

        Yields:
            After each slice, its share of the whole sweep.
        """
        session_ids = list(self._entries)
        for count, session_id in enumerate(session_ids, 1):
            self._expire(session_id, now_s)
            if not count % SLICE:
                yield SLICE / len(session_ids)

    async def sweep_slowly(self, duration_s: float) -> None:
        """``sweep``, spread over a time, so that no chunk waits for more than a few slices."""
        for share in self.sweeping(self.clock()):
            await asyncio.sleep(share * duration_s)

    def idle_s(self, session: Session) -> float:
        """Time since the session was last used."""
        return max(0.0, self.clock() - session.known.used_s)

    @abstractmethod
    def _is_removable(self, entry: SessionEntry) -> bool:
        """Whether an unused entry can be removed."""

    @abstractmethod
    def _expire(self, session_id: str, now_s: float) -> bool:
        """Remove the entry of an expired session.

        Returns:
            Whether it was removed.
        """

    def _full(self) -> Overloaded:
        return Overloaded(f"{self._max_sessions} sessions are open: end some, or try again later", self._retry_s)
