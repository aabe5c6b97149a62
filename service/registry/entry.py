"""An entry of a process's session table: the session's snapshot, its users, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Literal

from service.admission.permits import waited_too_long
from service.errors import RETRY_S, StoreUnavailable
from service.observe.context import SESSION
from service.session.session import Session
from service.session.snapshot import Snapshot

if TYPE_CHECKING:
    from service.registry.quota import SessionGroup

RowName = Literal["", "first", "later", "ended"]
"""What kind of session a quota counts (a key of ``SessionGroup.rows``); empty before there is one."""

ENTRY_BYTES = 1_050
"""Memory of an entry beside its ``Session.bytes``: objects, room in dictionaries, and what the allocator loses."""


class SessionEntry:
    """A process's knowledge of one session.

    Attributes:
        snapshot: the session as last seen; None if only the store knows.
        groups: groups of sessions that the entry counts in.
        has_place: the session counts as an open one.
        bytes: memory that the groups count for the session.
        stays: the entry needs no work when its last request leaves it.
        is_plain: its next chunk of spikes changes neither its memory nor its row.
        is_taken: a request holds the session exclusively.
        store_failures: requests that failed because of the store.
        users: requests that use the entry; it stays in the table while there are any.
    """

    __slots__ = (
        "_waiting", "bytes", "groups", "has_place", "id", "is_plain", "is_taken", "row", "snapshot", "stays",
        "store_failures", "users",
    )  # fmt: skip

    def __init__(self, session_id: str, snapshot: Snapshot | None, groups: tuple[SessionGroup, ...]) -> None:
        self.id = session_id
        self.snapshot = snapshot
        self.groups = groups
        self.has_place = False
        self.bytes = 0
        self.row: RowName = ""
        self.stays = False
        self.is_plain = False
        self.is_taken = False
        self._waiting: deque[Callable[[], None]] | None = None
        self.store_failures = 0
        self.users = 0

    def take(self, go: Callable[[], None]) -> bool:
        """Take the session exclusively for a request. Returns False if another has it; ``go`` is called at the turn."""
        if self.is_taken:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(go)
            return False
        self.is_taken = True
        return True

    def forget(self, go: Callable[[], None]) -> bool:
        """Stop waiting: do not call ``go``. Returns False if its turn has come already."""
        if self._waiting is None or go not in self._waiting:
            return False
        self._waiting.remove(go)
        return True

    def give(self) -> None:
        """Pass the session to the request that has waited longest."""
        if not self._waiting:
            self.is_taken = False
        else:
            asyncio.get_running_loop().call_soon(self._waiting.popleft())

    def turn(self, due_s: float = inf) -> _Turn:
        """Make a context that holds the session exclusively, first come, first served.

        Args:
            due_s: deadline for the turn, in seconds of ``time.monotonic``.

        Raises:
            Overloaded: the turn did not come in time.
            StoreUnavailable: the store failed on another request while this one waited. Else the session's requests
                would wait for a hung store one after the other.
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
    """The context of ``SessionEntry.turn``. A class, because a generator costs 2 us a chunk."""

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
                    entry.give()  # the turn came at the same moment
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
