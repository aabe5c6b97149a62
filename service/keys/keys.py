"""The keys of a running server: who presents one, and what it may take. The file is read again when it changes."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from datetime import datetime
from math import inf
from pathlib import Path
from typing import NamedTuple

from service.errors import KeyRefused, KeysUnusable
from service.keys.caller import Caller
from service.keys.document import KeyEntry, KeyLimits, KeysDocument, SecretEntry, read_document
from service.keys.files import stamp
from service.keys.token import HASH_BYTES, SALT_BYTES, Token, hashed
from service.keys.usage import Usage
from service.observe.clock import Clock

WATCH_S = 1.0

log = logging.getLogger("hetsyn.keys")


class _Secret(NamedTuple):
    salt: bytes
    hash: bytes
    expires_at_s: float
    caller: Caller


_NOBODY = _Secret(bytes(SALT_BYTES), bytes(HASH_BYTES), inf, Caller(scopes=frozenset()))
"""What an unknown id is compared with, so that it takes as long as a known one."""


class Keys:
    """See above. Used from one event loop.

    Args:
        path: of the keys file.
        clock: seconds, monotonic.
        wall: seconds since 1970.

    Attributes:
        on_change: called after other keys were read.

    Raises:
        KeysUnusable: the file cannot be used.
    """

    def __init__(self, path: Path, clock: Clock = time.monotonic, wall: Clock = time.time) -> None:
        self._path = path
        self._clock = clock
        self._wall = wall
        self._secrets: dict[str, _Secret] = {}
        self._limits: dict[str, KeyLimits] = {}
        self._usage: dict[str, Usage] = {}
        self.on_change: Callable[[], None] = lambda: None
        self._seen = stamp(path)
        self._complaint = ""  # about a file that is tried again
        self._take(read_document(path))

    def __len__(self) -> int:
        """Keys that open something."""
        return len({secret.caller.key for secret in self._secrets.values()})

    def caller(self, credential: str | None) -> Caller:
        """Whose key a credential is.

        Args:
            credential: as it was presented; None where there was none.

        Raises:
            KeyRefused: it is nobody's.
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

    def check(self, caller: Caller) -> None:
        """Check that a caller of before is still one.

        Raises:
            KeyRefused: its key was revoked, changed or has expired.
        """
        secret = self._secrets.get(caller.secret)
        if secret is None or secret.caller != caller or self._wall() >= secret.expires_at_s:
            raise KeyRefused(f"the key {caller.key!r} was changed or revoked, or has expired: open the stream again")

    def usage(self, caller: Caller) -> Usage:
        """What a caller takes of this process."""
        usage = self._usage.get(caller.key)
        if usage is None:
            usage = self._usage[caller.key] = Usage(caller.key, self.limits(caller.key))
        return usage

    def request(self, caller: Caller, count: int) -> None:
        """Count a request of a caller.

        Args:
            caller: who sends it.
            count: bytes of its body.

        Raises:
            KeyLimitReached: the key has to wait.
        """
        self.usage(caller).request(count, self._clock())

    def wait_s(self, caller: Caller) -> float:
        """How long until the next message of a stream may be read."""
        return self.usage(caller).wait_s(self._clock())

    def limits(self, key: str) -> KeyLimits:
        """The limits of a key in this process; none where there is no such key."""
        return self._limits.get(key, _NO_LIMITS)

    async def run_forever(self) -> None:
        """Read the file again when it has changed, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self.refresh()
            except Exception as error:
                log.error("the keys are not read again", exc_info=error)

    async def refresh(self) -> None:
        """Read the file again if it has changed. One that cannot be used leaves the keys as they are.

        One that the system does not let us read is tried again, since nothing may change in it when it can be read.
        """
        now = await asyncio.to_thread(stamp, self._path)
        if now == self._seen:
            return
        try:
            document = await asyncio.to_thread(read_document, self._path)
        except KeysUnusable as error:
            if not isinstance(error.__cause__, OSError):
                self._seen = now
            if (complaint := str(error)) != self._complaint or now == self._seen:
                log.error("the keys stay as they were: %s", complaint)
            self._complaint = complaint
            return
        self._seen, self._complaint = now, ""
        self._take(document)
        log.info("keys: %d of %s", len(self), self._path)
        self.on_change()

    def _take(self, document: KeysDocument) -> None:
        self._secrets = {
            secret.id: _secret(key, secret, _caller(key, secret)) for key in document.keys for secret in key.secrets
        }
        self._limits = {key.name: key.limits for key in document.keys}
        for name, usage in self._usage.items():
            usage.change(self.limits(name))


_NO_LIMITS = KeyLimits()


def _caller(key: KeyEntry, secret: SecretEntry) -> Caller:
    return Caller(key.name, key.tenant, frozenset(key.scopes), secret.id)


def _secret(key: KeyEntry, secret: SecretEntry, caller: Caller) -> _Secret:
    ends = min(_seconds(key.expires_at), _seconds(secret.expires_at))
    return _Secret(bytes.fromhex(secret.salt), bytes.fromhex(secret.hash), ends, caller)


def _seconds(at: datetime | None) -> float:
    return inf if at is None else at.timestamp()
