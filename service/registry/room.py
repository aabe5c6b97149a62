"""Room for the sessions of a process: how many are open, how many bytes all take, and whose they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from service.keys.keys import Keys
from service.registry.table import RowName, SessionEntry
from service.settings import Limits

LONGEST_SEARCH = 64  # entries that are in use, and so cannot make room


class SessionGroup:
    """Sessions that share room: all of a process, or those of one client.

    Args:
        max_open: open sessions.
        max_bytes: bytes of all sessions.
        key: whose sessions these are; empty for an address, or all.

    Attributes:
        key: see above.
        max_open: see above.
        max_bytes: see above.
        entries: all that count here.
        open: open sessions, and those that a request under way may open.
        bytes: of all sessions.
        rows: entries by id, the least recently used one first: ``first`` has open sessions of one chunk, ``later``
            those of several, ``ended`` ended ones.
    """

    __slots__ = ("bytes", "entries", "key", "max_bytes", "max_open", "open", "rows")

    def __init__(self, max_open: int, max_bytes: int, key: str = "") -> None:
        self.key = key
        self.max_open = max_open
        self.max_bytes = max_bytes
        self.entries = 0
        self.open = 0
        self.bytes = 0
        self.rows: dict[RowName, OrderedDict[str, SessionEntry]] = {
            "first": OrderedDict(), "later": OrderedDict(), "ended": OrderedDict()
        }  # fmt: skip

    def lacks(self, more_open: int, more_bytes: int) -> Literal["places", "bytes"] | None:
        """What so many more open sessions and bytes would lack. Fewer bytes lack nothing."""
        if more_open > 0 and self.open + more_open > self.max_open:
            return "places"
        return "bytes" if more_bytes > 0 and self.bytes + more_bytes > self.max_bytes else None

    def unused(self, row: RowName) -> Iterator[SessionEntry]:
        """The least recently used entries of a row that no request uses. The row must not change meanwhile."""
        return (entry for entry in islice(self.rows[row].values(), LONGEST_SEARCH) if not entry.users)


class SessionRoom:
    """Counts entries, in all and by client.

    Args:
        limits: number and bytes, and the share of one client.
        keys: whose own limits count instead of that share; None where clients are addresses.

    Attributes:
        all: the sessions of the process.
    """

    def __init__(self, limits: Limits, keys: Keys | None = None) -> None:
        self._keys = keys
        self._share = limits.client_share
        self.all = SessionGroup(limits.max_sessions, limits.max_session_bytes)
        self._clients: dict[str, SessionGroup] = {}

    def groups(self, client: str) -> tuple[SessionGroup, ...]:
        """Those that a client's sessions count in: all, and its own where its share is limited."""
        if not client or (self._share == 1 and self._keys is None):
            return (self.all,)
        group = self._clients.get(client)
        if group is None:
            group = SessionGroup(*self._most(client), "" if self._keys is None else client)
        return self.all, group

    def renew(self) -> None:
        """Apply the limits that keys have now. Sessions beyond them stay, and none is added."""
        for client, group in self._clients.items():
            group.max_open, group.max_bytes = self._most(client)

    def _most(self, client: str) -> tuple[int, int]:
        """The most sessions and bytes of a client."""
        most_open, most_bytes = max(1, int(self.all.max_open * self._share)), int(self.all.max_bytes * self._share)
        if self._keys is not None:
            most_open = min(most_open, self._keys.limits(client).max_sessions or most_open)
        return most_open, most_bytes

    def enter(self, entry: SessionEntry, client: str, *, has_place: bool) -> None:
        """Begin to count an entry.

        Args:
            entry: new in the table.
            client: whose request has made it.
            has_place: whether it counts as open.
        """
        entry.groups = self.groups(client)
        entry.has_place = has_place
        for group in entry.groups:
            group.entries += 1
            group.open += has_place
        if len(entry.groups) > 1:
            self._clients[client] = entry.groups[1]

    def leave(self, entry: SessionEntry, client: str) -> None:
        """Count an entry no more."""
        self.count(entry, 0, "")
        for group in entry.groups:
            group.entries -= 1
        if len(entry.groups) > 1 and not entry.groups[1].entries:
            del self._clients[client]

    def count(self, entry: SessionEntry, count: int, row: RowName) -> None:
        """Count an entry as just used, in place of what it counted before.

        Args:
            entry: of a session.
            count: bytes of memory.
            row: of ``SessionGroup.rows``; empty where there is no session.
        """
        more_bytes = count - entry.bytes
        entry.bytes = count
        if row == entry.row and row:
            for group in entry.groups:
                group.bytes += more_bytes
                group.rows[row].move_to_end(entry.id)
            return
        has_place = row in ("first", "later")
        for group in entry.groups:
            group.open += has_place - entry.has_place
            group.bytes += more_bytes
            if entry.row:
                del group.rows[entry.row][entry.id]
            if row:
                group.rows[row][entry.id] = entry
        entry.row, entry.has_place = row, has_place
