"""Bounds the answers that a client does not read: in bytes, here and in the system's buffers, and in time."""

from __future__ import annotations

import asyncio
import socket
import struct

from service.admission.connections import Connections
from service.admission.uploads import ENDING_S
from service.errors import Overloaded

# By default the system buffers up to 4 MB for a client that does not read. This is enough for 10 MB/s over 20 ms.
SEND_BUFFER_BYTES = 128 * 1024  # Linux doubles it


class Unread:
    """The answers that one client does not read. They count as bytes held for it."""

    def __init__(self, connections: Connections, transport: asyncio.Transport) -> None:
        self._connections = connections
        self._transport = transport
        self._held: tuple[str, int] | None = None
        self._due: asyncio.TimerHandle | None = None
        self._since_s = 0.0
        self._left_s: float | None = None  # for all waits together, when the server ends
        if (connected := transport.get_extra_info("socket")) is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def begin(self, client: str) -> None:
        """Begin to wait for the client to read; end the connection if there is no room for its unread bytes."""
        if self._held is not None:
            return
        count = self._transport.get_write_buffer_size() + 2 * SEND_BUFFER_BYTES
        try:
            self._connections.budget.bytes.take(client, count)
        except Overloaded:
            self.reset()
            return
        self._held = client, count
        self._wait(self._connections.limits.idle_timeout_s if self._left_s is None else self._left_s)

    def end_soon(self) -> None:
        """Wait for ``ENDING_S`` altogether from now on: the client must not delay the end of the server."""
        if self._left_s is None:
            self._left_s = ENDING_S
            if self._held is not None and self._due is not None:
                self._due.cancel()
                self._wait(ENDING_S)

    def stop(self) -> None:
        """Stop counting: the client has read, or has gone."""
        if self._held is not None and self._due is not None:
            self._due.cancel()
            self._connections.budget.bytes.give(*self._held)
            self._held = None
            if self._left_s is not None:
                self._left_s = max(0.0, self._left_s + self._since_s - asyncio.get_running_loop().time())

    def disconnect(self, after_s: float) -> None:
        """Disconnect a client after a time; one that still reads has the usual time."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._connections.limits.idle_timeout_s

        def end() -> None:
            if self._transport.get_write_buffer_size() and loop.time() < until_s:
                loop.call_later(after_s, end)
            else:
                self._transport.abort()

        loop.call_later(after_s, end)

    def reset(self) -> None:
        """Reset the connection: the system drops its buffered bytes."""
        if (connected := self._transport.get_extra_info("socket")) is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connections.counters.connections_ended["unread"] += 1
        self._transport.abort()

    def _wait(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._since_s = loop.time()
        self._due = loop.call_later(wait_s, self.reset)
