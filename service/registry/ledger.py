"""The sessions of each key that this process has committed to a store: how many, and how many bytes."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from service.errors import KeyLimitReached
from service.keys.ids import owner_of
from service.keys.keys import Keys
from service.observe.clock import Clock


class _Account:
    __slots__ = ("bytes", "sessions")

    def __init__(self) -> None:
        self.sessions: OrderedDict[str, tuple[int, float]] = OrderedDict()  # bytes and last use, oldest use first
        self.bytes = 0

    def drop(self, session_id: str) -> None:
        self.bytes -= self.sessions.pop(session_id, (0, 0.0))[0]


class KeyLedger:
    """See above. A session counts until it ends, is deleted, or was not used here for as long as sessions may idle.

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
        self._accounts: dict[str, _Account] = {}

    def check(self, session_id: str, count: int) -> None:
        """Check that a key may have a session of so many bytes.

        Raises:
            KeyLimitReached: it has as much as it may.
        """
        key = owner_of(session_id)
        limits, account, now_s = self._keys.limits(key), self._account(key), self._clock()
        if limits.max_sessions is None and limits.max_session_bytes is None:
            return
        before = account.sessions.get(session_id)
        others = len(account.sessions) - (before is not None)
        taken = account.bytes - (0 if before is None else before[0])
        what = ""
        if before is None and limits.max_sessions is not None and others >= limits.max_sessions:
            what = f"{others} sessions of key {key!r} are open"
        elif (
            limits.max_session_bytes is not None
            and taken + count > limits.max_session_bytes
            and (before is None or count > before[0])
        ):
            what = f"sessions of key {key!r} take {taken} bytes, and may take {limits.max_session_bytes}"
        if what:
            oldest_s = next((used_s for _, used_s in account.sessions.values()), now_s)
            wait_s = max(1.0, oldest_s + self._idle_s - now_s)
            raise KeyLimitReached(f"{what}: end some, or try again in {ceil(wait_s)} s", wait_s)

    def note(self, session_id: str, count: int) -> None:
        """A session was used, and takes so many bytes."""
        account = self._account(owner_of(session_id))
        account.drop(session_id)
        account.sessions[session_id] = count, self._clock()
        account.bytes += count

    def forget(self, session_id: str) -> None:
        """A session has ended."""
        self._account(owner_of(session_id)).drop(session_id)

    def _account(self, key: str) -> _Account:
        """What a key has, without the sessions that have expired."""
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account()
        due_s = self._clock() - self._idle_s
        while account.sessions and next(iter(account.sessions.values()))[1] < due_s:
            account.drop(next(iter(account.sessions)))
        return account
