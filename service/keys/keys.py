"""The keys of a running server: finds callers, limits their rates, and reads the file again when it changes."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from math import ceil, inf
from pathlib import Path
from typing import NamedTuple

from service.clock import Clock
from service.errors import KeyLimitReached, KeyRefused
from service.keys.caller import Caller, Scope
from service.keys.credential import HASH_BYTES, SALT_BYTES, Token, hashed
from service.keys.document import KeyEntry, KeyLimits, KeysDocument, SecretEntry, read_document
from service.keys.watched_files import WatchedFiles

log = logging.getLogger("hetsyn.keys")


class Bucket:
    """A token bucket that holds one second's worth of its rate.

    A frame of many chunks may overdraw it; the next one then waits until the bucket holds 1.
    """

    __slots__ = ("_at_s", "_level", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._level = max(1.0, rate)
        self._at_s = -inf

    def change(self, rate: float) -> None:
        self._rate = rate
        self._level = min(self._level, max(1.0, rate))

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until one may be taken; 0 for now."""
        if self._rate == inf:
            return 0.0
        if self._at_s > -inf:
            self._level = min(max(1.0, self._rate), self._level + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return 0.0 if self._level >= 1 else (1 - self._level) / self._rate

    def take(self, count: int) -> None:
        """Take ``count``; call it after ``wait_s`` was 0."""
        if self._rate != inf:
            self._level -= count


class _Secret(NamedTuple):
    salt: bytes
    hash: bytes
    expires_at_s: float
    caller: Caller


_NOBODY = _Secret(bytes(SALT_BYTES), bytes(HASH_BYTES), inf, Caller(scopes=frozenset()))
"""What an unknown id is compared with, so that it takes as long as a known one."""
_NO_LIMITS = KeyLimits()


class Keys:
    """Knows the keys of a file. Used from one event loop.

    Args:
        clock: seconds, monotonic.
        wall: seconds since 1970.

    Attributes:
        on_change: called after the file was read again.

    Raises:
        KeysUnusable: the file cannot be used.
    """

    def __init__(self, path: Path, clock: Clock = time.monotonic, wall: Clock = time.time) -> None:
        self._path = path
        self._clock = clock
        self._wall = wall
        self._secrets: dict[str, _Secret] = {}
        self._limits: dict[str, KeyLimits] = {}
        self._buckets: dict[str, Bucket] = {}
        self._ends_s: list[float] = []  # when a key's last secret expires, ascending, of keys that expire
        self.on_change: Callable[[], None] = lambda: None
        self._file = WatchedFiles("the keys file", path)
        self._take(read_document(path))

    def __len__(self) -> int:
        """Count the keys that are not revoked."""
        return len({secret.caller.key for secret in self._secrets.values()})

    @property
    def expires_at_s(self) -> float | None:
        """Find when the next key expires, with its last secret, in seconds since 1970; None if none will."""
        now_s = self._wall()
        return next((end_s for end_s in self._ends_s if end_s > now_s), None)

    def caller(self, credential: str | None) -> Caller:
        """Find the caller of a credential; None: the request had none.

        Raises:
            KeyRefused: no key has it.
        """
        token = None if credential is None else Token.parse(credential)
        if token is None:
            if credential is None:
                raise KeyRefused("this server asks for a key: send the header Authorization: Bearer KEY")
            raise KeyRefused("the credential is no key of this server: send a whole key, as hetsyn keys has shown it")
        secret = self._secrets.get(token.id)
        known = _NOBODY if secret is None else secret
        if not hmac.compare_digest(hashed(token.secret, known.salt), known.hash) or secret is None:
            raise KeyRefused("this server does not know the key, or it was revoked: ask for another")
        if self._wall() >= secret.expires_at_s:
            raise KeyRefused(f"the key {secret.caller.key!r} has expired: ask for another")
        return secret.caller

    def admit(self, credentials: Sequence[str | None], need: Scope | None) -> Caller:
        """Find the caller of a request, check its scope, and count the request.

        Args:
            credentials: all that the request presents; several are refused.
            need: the scope that the request needs; None if nobody may send it.

        Raises:
            KeyRefused, KeyLacksScope, KeyLimitReached: the caller may not send it.
        """
        caller = self.caller(credentials[0] if len(credentials) == 1 else None)
        if need is not None:
            caller.check(need)
        self.request(caller)
        return caller

    def check(self, caller: Caller) -> None:
        """Check that the key of an earlier request is still valid.

        Raises:
            KeyRefused: it was revoked, changed or has expired.
        """
        secret = self._secrets.get(caller.secret)
        if secret is None or secret.caller != caller or self._wall() >= secret.expires_at_s:
            raise KeyRefused(f"the key {caller.key!r} was changed or revoked, or has expired: open the stream again")

    def request(self, caller: Caller) -> None:
        """Count a request of a caller.

        Raises:
            KeyLimitReached: the key is over its rate. The request does not count.
        """
        if (wait_s := self.wait_s(caller)) > 0:
            raise KeyLimitReached(
                f"key {caller.key!r} may send {self.limits(caller.key).requests_per_s:g} requests a second: try again "
                f"in {max(1, ceil(wait_s))} s",
                wait_s,
            )
        self.took(caller, 1)

    def wait_s(self, caller: Caller) -> float:
        """Return the seconds until the next message of a stream may be read."""
        return self._bucket(caller.key).wait_s(self._clock())

    def took(self, caller: Caller, count: int) -> None:
        """Count chunks of a stream that were read."""
        self._bucket(caller.key).take(count)

    def limits(self, key: str) -> KeyLimits:
        """Return the limits of a key in this process; no limits if there is no such key."""
        return self._limits.get(key, _NO_LIMITS)

    async def run_forever(self) -> None:
        """Read the file again when it has changed, until cancelled. One that cannot be used changes nothing."""
        await self._file.read_forever(self._read, self._changed)

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        if (document := self._file.read_again(self._read)) is not None:
            self._changed(document)

    def _read(self) -> KeysDocument:
        return read_document(self._path)

    def _changed(self, document: KeysDocument) -> None:
        self._take(document)
        log.info("keys: %d of %s", len(self), self._path)
        self.on_change()

    def _take(self, document: KeysDocument) -> None:
        self._secrets = {secret.id: _secret(key, secret) for key in document.keys for secret in key.secrets}
        self._limits = {key.name: key.limits for key in document.keys}
        ends_s: dict[str, float] = {}
        for secret in self._secrets.values():
            ends_s[secret.caller.key] = max(ends_s.get(secret.caller.key, -inf), secret.expires_at_s)
        self._ends_s = sorted(end_s for end_s in ends_s.values() if end_s < inf)
        for name, bucket in self._buckets.items():
            bucket.change(self.limits(name).requests_per_s or inf)

    def _bucket(self, key: str) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self.limits(key).requests_per_s or inf)
        return bucket


class StreamKey:
    """The key of an open stream. It may be revoked meanwhile. A client over its rate is read later, not refused."""

    def __init__(self, keys: Keys | None, caller: Caller) -> None:
        self._keys = keys
        self.caller = caller

    def check(self) -> None:
        """As ``Keys.check``."""
        if self._keys is not None:
            self._keys.check(self.caller)

    def wait_s(self) -> float:
        return 0.0 if self._keys is None else self._keys.wait_s(self.caller)

    def took(self, count: int) -> None:
        if self._keys is not None:
            self._keys.took(self.caller, count)


def _secret(key: KeyEntry, secret: SecretEntry) -> _Secret:
    caller = Caller(key.name, frozenset(key.scopes), secret.id)
    ends = min(_seconds(key.expires_at), _seconds(secret.expires_at))
    return _Secret(bytes.fromhex(secret.salt), bytes.fromhex(secret.hash), ends, caller)


def _seconds(at: datetime | None) -> float:
    return inf if at is None else at.timestamp()
