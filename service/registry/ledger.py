"""Counts the sessions of each key that this process has committed to a store."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from service.errors import KeyLimitReached
from service.keys.ids import owner_of
from service.keys.keys import Keys
from service.observe.clock import Clock


class KeyLedger:
    """Counts a session until it ends, is deleted, or was not used here for as long as sessions may idle.

    A process that starts knows of no session before it is used; a proxy sends a session to the same process, so all
    processes together take what the limits of all together say.

    Args:
        keys: that have the limits.
        idle_s: time without use after which a session expires.
        clock: seconds, of the store.
    """

    def __init__(self, keys: Keys, idle_s: float, clock: Clock) -> None:
        self._keys = keys
        self._idle_s = idle_s
        self._clock = clock
        self._used_s: dict[str, OrderedDict[str, float]] = {}  # last use of a key's sessions, the oldest first

    def check(self, session_id: str) -> None:
        """Check that a key may have a session.

        Raises:
            KeyLimitReached: it has as many as it may.
        """
        key = owner_of(session_id)
        most, used_s, now_s = self._keys.limits(key).max_sessions, self._of(key), self._clock()
        if most is not None and session_id not in used_s and len(used_s) >= most:
            wait_s = max(1.0, next(iter(used_s.values())) + self._idle_s - now_s)
            raise KeyLimitReached(
                f"{len(used_s)} sessions of key {key!r} are open: end some, or try again in {ceil(wait_s)} s", wait_s
            )

    def note(self, session_id: str) -> None:
        """Count a session as used now."""
        used_s = self._of(owner_of(session_id))
        used_s[session_id] = self._clock()
        used_s.move_to_end(session_id)

    def forget(self, session_id: str) -> None:
        """Count a session no more: it has ended."""
        self._of(owner_of(session_id)).pop(session_id, None)

    def _of(self, key: str) -> OrderedDict[str, float]:
        """The sessions of a key, without those that have expired."""
        used_s = self._used_s.setdefault(key, OrderedDict())
        due_s = self._clock() - self._idle_s
        while used_s and next(iter(used_s.values())) < due_s:
            used_s.popitem(last=False)
        return used_s
