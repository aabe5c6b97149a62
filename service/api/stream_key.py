"""The key of a WebSocket: asked for at its handshake, and checked again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from service.api.guard import caller_of_handshake
from service.api.handshakes import Handshake
from service.errors import KeyRefused
from service.keys.caller import ANYBODY, Caller
from service.keys.keys import Keys


class StreamKey:
    """Checks a stream's key. A client that sends more than its key may is not refused: it is read more slowly.

    Args:
        keys: of the server; None for no keys.
        go_on: called when the client may be read again.

    Attributes:
        caller: who has opened it; anybody before ``open``.
    """

    def __init__(self, keys: Keys | None, go_on: Callable[[], None]) -> None:
        self.caller: Caller = ANYBODY
        self._keys = keys
        self._go_on = go_on
        self._waking: asyncio.TimerHandle | None = None

    def open(self, shake: Handshake) -> None:
        """Ask for the key. The opening counts as a request.

        Raises:
            KeyRefused, KeyLacksScope, KeyLimitReached: the stream may not be opened.
        """
        self.caller = caller_of_handshake(self._keys, shake)

    def close(self) -> None:
        """Wake the client no more."""
        if self._waking is not None:
            self._waking.cancel()

    def refused(self) -> KeyRefused | None:
        """Why the key opens nothing any more; None if it does."""
        if self._keys is not None:
            try:
                self._keys.check(self.caller)
            except KeyRefused as error:
                return error
        return None

    def may_send(self) -> bool:
        """Whether the next message may be read now; if not, ``go_on`` is called when it may."""
        if self._keys is None:
            return True
        wait_s = self._keys.wait_s(self.caller)
        if wait_s > 0 and self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(wait_s, self._wake)
        return wait_s <= 0

    def took(self, count: int) -> None:
        """Count chunks that were read."""
        if self._keys is not None:
            self._keys.took(self.caller, count)

    def _wake(self) -> None:
        self._waking = None
        self._go_on()
