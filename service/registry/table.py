"""The sessions of a server by id: the interface that ``local`` and ``shared`` implement.

``LocalSessions`` holds sessions in this process. ``SharedSessions`` holds them in a store, for any number of processes.
In both, only a chunk that is applied counts as use.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import from_json

from service.admission.permits import waited_too_long
from service.errors import RETRY_S, StoreError, StoreUnavailable
from service.keys.ids import client_id
from service.observe.clock import Clock
from service.observe.context import SESSION
from service.registry.lives import Ages
from service.session.protocol import Lifetimes, check_delete, unknown
from service.session.session import Session
from service.session.snapshot import Snapshot

if TYPE_CHECKING:
    from service.registry.room import SessionGroup

RowName = Literal["", "first", "later", "ended"]
"""Of ``room.SessionGroup.rows``; empty for none."""

SLICE = 100  # entries that a sweep checks in one turn of the event loop: a tenth of a millisecond

ENTRY_BYTES = 1_150
"""Memory of an entry beside its ``Session.bytes``: objects, room in dictionaries, and what the allocator loses."""


class SessionEntry:
    """What a process knows of one session.

    Args:
        session_id: of the session.
        snapshot: see below.
        client: see below.

    Attributes:
        id: of the session.
        client: whose request has made the entry (``budget.client_of``); empty where it has no address.
        is_plain: its next chunk of spikes changes nothing in the memory that it takes.
        is_taken: a request has the session to itself.
        store_failures: requests that failed because of the store.
        users: requests that use the entry now; it stays in the table while there are any.
        last_used_s: when a request last left the entry, by the table's clock.
        snapshot: the session as last seen; None if only the store knows.
        bytes: of memory that the table counts for the session.
        groups: of sessions that the entry counts in (``room``).
        has_place: the session counts as an open one.
        row: that has the entry.
    """

    __slots__ = (
        "_waiting", "bytes", "client", "groups", "has_place", "id", "is_plain", "is_taken", "last_used_s", "row",
        "snapshot", "store_failures", "users",
    )  # fmt: skip

    def __init__(self, session_id: str, snapshot: Snapshot | None, client: str = "") -> None:
        self.id = session_id
        self.client = client
        self.is_plain = False
        self.is_taken = False
        self._waiting: deque[Callable[[], None]] | None = None
        self.store_failures = 0
        self.users = 0
        self.last_used_s = 0.0
        self.snapshot = snapshot
        self.bytes = 0
        self.groups: tuple[SessionGroup, ...] = ()
        self.has_place = False
        self.row: RowName = ""

    def take(self, go: Callable[[], None]) -> bool:
        """Take the session for a request. If another has it, ``go`` is called when the turn has come."""
        if self.is_taken:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(go)
            return False
        self.is_taken = True
        return True

    def forget(self, go: Callable[[], None]) -> bool:
        """Call ``go`` no more; False where its turn has come already."""
        if self._waiting is None or go not in self._waiting:
            return False
        self._waiting.remove(go)
        return True

    def give(self) -> None:
        """Give the session to the request that has waited longest."""
        if not self._waiting:
            self.is_taken = False
        else:
            asyncio.get_running_loop().call_soon(self._waiting.popleft())

    def turn(self, due_s: float = inf) -> _Turn:
        """A context in which a request has the session to itself, first come, first served.

        Args:
            due_s: when the turn has to come at the latest, in seconds of ``time.monotonic``.

        Raises:
            Overloaded: the turn did not come in time.
            StoreUnavailable: the store failed on another request while this one waited. Otherwise the requests of a
                session would wait for a store that hangs one after the other.
        """
        return _Turn(self, due_s)

    @property
    def session(self) -> Session | None:
        return None if self.snapshot is None else self.snapshot.session

    @property
    def ended(self) -> bool:
        session = self.session
        return session is not None and session.known.progress.ended


class _Turn:
    """See ``SessionEntry.turn``: a class, because a generator costs 2 us a chunk."""

    __slots__ = ("_due_s", "_entry", "_failures")

    def __init__(self, entry: SessionEntry, due_s: float) -> None:
        self._entry = entry
        self._due_s = due_s
        self._failures = entry.store_failures

    async def __aenter__(self) -> None:
        entry = self._entry
        SESSION.set(entry.id)
        turn = asyncio.get_running_loop().create_future()

        def go() -> None:
            if turn.cancelled():
                entry.give()
            else:
                turn.set_result(None)

        if not entry.take(go):
            try:
                async with asyncio.timeout(None if self._due_s == inf else self._due_s - time.monotonic()):
                    await turn
            except BaseException as error:
                if not entry.forget(go) and turn.done() and not turn.cancelled():
                    entry.give()  # it came at the same moment
                if isinstance(error, TimeoutError):
                    raise waited_too_long() from None
                raise
        if self._entry.store_failures != self._failures:
            self._entry.give()
            raise StoreUnavailable(
                "the session store failed on a request before this one: nothing was changed, "
                f"send the chunk again in {RETRY_S:g} s"
            )

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, StoreUnavailable):
            self._entry.store_failures += 1
        self._entry.give()


class SessionTable(ABC):
    """Entries of sessions by id. Used from one event loop.

    Args:
        lifetimes: of sessions.
        retry_s: time after which a client that was refused may try again, where nothing else is known.
        clock: seconds, for the times in ``Session.known``.

    Attributes:
        decision_lifetimes: lifetimes that the protocol applies to a session that a request has entered.
        wall_offset_s: seconds since 1970 less ``clock``, now.
        stores_state: a commit writes the state to a store.
        ages: open sessions in the memory of this process by their age, as the last sweep saw them.
    """

    decision_lifetimes: Lifetimes
    wall_offset_s: float
    stores_state: bool

    def __init__(self, lifetimes: Lifetimes, retry_s: float, clock: Clock) -> None:
        self.clock = clock
        self.lifetimes = lifetimes
        self._retry_s = retry_s
        self.ages = Ages()
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

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Memory of this process that sessions take: states, last replies, and what is remembered of others."""

    @abstractmethod
    def enter(self, session_id: str, client: str = "", *, is_one_shot: bool = False) -> SessionEntry:
        """The entry of a session, made if there is none. The caller uses it until ``leave``.

        Args:
            session_id: of the session.
            client: that sends the request.
            is_one_shot: the request would begin and end the session, so it needs no room.

        Raises:
            Overloaded: there is no room.
        """

    @abstractmethod
    def find(self, session_id: str) -> SessionEntry:
        """As ``enter``, for a session that should exist.

        Raises:
            NotFound: there is no such session.
            Overloaded: there is no room.
        """

    def leave(self, entry: SessionEntry) -> None:
        """End the use of an entry that ``enter`` or ``find`` gave."""
        entry.users -= 1
        if not entry.users and self._entries.get(entry.id) is entry and self._is_removable(entry):
            self._remove(entry)

    @contextmanager
    def visit(self, session_id: str) -> Iterator[SessionEntry]:
        """``find``, and ``leave`` at the end of the context."""
        entry = self.find(session_id)
        try:
            yield entry
        finally:
            self.leave(entry)

    @abstractmethod
    def cached(self, entry: SessionEntry, *, may_be_first: bool) -> tuple[Snapshot, bool] | None:
        """A snapshot to decide on, without a look into the store.

        Args:
            entry: of the session; the caller has it to itself.
            may_be_first: the request may be the session's first.

        Returns:
            The snapshot, and whether it is authoritative (``session.protocol``); None where the store has to say.
        """

    @abstractmethod
    async def latest(self, entry: SessionEntry) -> Snapshot:
        """The authoritative snapshot.

        Raises:
            StoreUnavailable: the store does not answer.
            StateError: the store has something else under this id.
        """

    def put(self, entry: SessionEntry, session: Session | None) -> None:
        """``commit`` of a table that does not ``stores_state``.

        Raises:
            Overloaded: there is no room for what the session takes. Nothing was replaced.
        """
        raise NotImplementedError

    def begin_commit(
        self, entry: SessionEntry, snapshot: Snapshot, session: Session
    ) -> asyncio.Future[Snapshot | None]:
        """``commit`` of a table that ``stores_state``, without waiting. The caller hands the result to ``committed``.

        Raises:
            KeyLimitReached: the session's key has as many sessions as it may.
        """
        raise NotImplementedError

    def committed(self, entry: SessionEntry, snapshot: Snapshot) -> None:
        """A session is committed.

        Args:
            entry: of it.
            snapshot: from ``begin_commit``.
        """
        raise NotImplementedError

    @abstractmethod
    async def commit(self, entry: SessionEntry, snapshot: Snapshot, session: Session) -> bool:
        """Replace a snapshot by a session.

        Returns:
            False if another process has changed the session since the snapshot. Nothing was replaced then.

        Raises:
            StoreUnavailable: it may have been replaced or not.
            Overloaded: there is no room for what the session takes. Nothing was replaced.
        """

    @abstractmethod
    async def remove(self, entry: SessionEntry, snapshot: Snapshot) -> bool:
        """Remove the session of a snapshot; result and errors as of ``commit``."""

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
        ages = Ages()
        for count, session_id in enumerate(session_ids, 1):
            if not self._expire(session_id, now_s) and (entry := self._entries.get(session_id)) is not None:
                ages.observe(entry.session, now_s)
            if not count % SLICE:
                yield SLICE / len(session_ids)
        self.ages = ages

    async def sweep_slowly(self, duration_s: float) -> None:
        """``sweep``, spread over a time, so that no chunk waits for more than a few slices."""
        for share in self.sweeping(self.clock()):
            await asyncio.sleep(share * duration_s)

    def idle_s(self, session: Session) -> float:
        """Time since the session was last used."""
        return max(0.0, self.clock() - session.known.used_s)

    async def existing(self, entry: SessionEntry) -> Session:
        """The latest session of an entry.

        Raises:
            NotFound: there is no session.
            StoreUnavailable: the store does not answer.
            StateError: the stored record cannot be used.
        """
        snapshot = await self.latest(entry)
        if snapshot.damage is not None:
            raise snapshot.damage
        if snapshot.session is None:
            raise unknown(entry.id)
        check_delete(entry.id, snapshot.session.known, self.clock(), self.decision_lifetimes)
        return snapshot.session

    def description(self, session_id: str, session: Session) -> dict[str, Any]:
        """A session as JSON values (``wire.schema.SessionDescription``)."""
        progress, stream = session.known.progress, session.stream
        return {
            "session": client_id(session_id),
            "model": session.model.name,
            "version": session.model.version,
            "expected_seq": progress.expected_seq,
            "total_steps": progress.total_steps,
            "ended": progress.ended,
            "kind": stream.kind if stream else None,
            "state_bytes": stream.bytes if stream else 0,
            "label": from_json(session.last_reply(session_id))["label"] if progress.last else None,
            "idle_s": self.idle_s(session),
        }

    @abstractmethod
    def _remove(self, entry: SessionEntry) -> None:
        """Remove an unused entry."""

    @abstractmethod
    def _is_removable(self, entry: SessionEntry) -> bool:
        """Whether an unused entry can be removed."""

    @abstractmethod
    def _expire(self, session_id: str, now_s: float) -> bool:
        """Remove the entry of an expired session.

        Returns:
            Whether it was removed.
        """
