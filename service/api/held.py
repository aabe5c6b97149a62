"""What a connection that is no longer HTTP has in common with those that are: its place, and what its client reads."""

from __future__ import annotations

import asyncio
import socket
import struct
from math import inf
from typing import TYPE_CHECKING

from uvicorn.server import ServerState

from service.api.frames import PING

if TYPE_CHECKING:
    from service.api.connection import Connections

PROBE_S, MOST_PROBE_S = 0.02, 1.0  # between two pings to a client that sends no more; the pause doubles each time
UNREAD_S = 2.0  # a client that has not read for as long may be displaced
# A client that does not read makes the system keep up to 4 MB for it. So much is enough for 10 MB/s over 20 ms.
SEND_BUFFER_BYTES = 128 * 1024  # of which Linux makes twice as many


def bound_unsent(transport: asyncio.Transport) -> None:
    """Bound what the system keeps for the client."""
    if (connected := transport.get_extra_info("socket")) is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def forget_unsent(transport: asyncio.Transport) -> None:
    """Let the system forget what it has for the client once the connection is aborted."""
    if (connected := transport.get_extra_info("socket")) is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Held:
    """A connection that counts among those of its server.

    Args:
        connections: all of them.
        server_state: of uvicorn.
        transport: of the connection.
        client: at the other end (``fair_share.client_of``).

    Attributes:
        transport: see above.
        client: see above.
        loop: of the connection.
        is_write_paused: the client does not read, and the system takes no more.
        writable: set while it is not so.
        has_ended: the client sends no more.
        is_idle: all that has come is read, and more is read from the socket.
    """

    def __init__(
        self, connections: Connections, server_state: ServerState, transport: asyncio.Transport, client: str
    ) -> None:
        self.connections = connections
        self._server_state = server_state
        self.transport = transport
        self.client = client
        self.loop = asyncio.get_running_loop()
        self.is_write_paused = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.used = False
        self.has_ended = False
        self.is_idle = False
        self._unread_s = inf
        self._reading_due: asyncio.TimerHandle | None = None

    def enter(self) -> bool:
        """Count the connection; False if there is no room."""
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # it has all that uvicorn calls
        return self.connections.shares.enter(self, self.client)

    def waits(self) -> bool:
        """Whether nothing is under way."""
        raise NotImplementedError

    def end(self, reason: str) -> None:
        """End the connection.

        Args:
            reason: under which it is counted.
        """
        raise NotImplementedError

    def may_go(self) -> bool:
        """Whether the connection may be displaced: it waits, or its client has not read for ``UNREAD_S``."""
        return self.waits() or self.loop.time() >= self._unread_s + UNREAD_S

    def was_used(self) -> bool:
        """Whether it was used since the last call."""
        was_used, self.used = self.used, False
        return was_used

    def reset(self) -> None:
        """End the connection of a client that does not read."""
        forget_unsent(self.transport)
        self.end("unread")

    def is_unanswered(self) -> bool:
        """Whether something that has come is not answered yet."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        """The client sends no more. It still gets the answers to what has come; then the connection is closed."""
        if not self.is_unanswered():
            return False  # asyncio closes the connection
        self.has_ended, self.is_idle = True, False
        self.probe(PROBE_S)
        return True

    def probe(self, pause_s: float) -> None:
        """Find out whether a client that sends no more is there: the system of one that is gone refuses a ping, and
        the one after it ends the connection.
        """
        if not self.transport.is_closing():
            self.transport.write(PING)
            self.loop.call_later(pause_s, self.probe, min(2 * pause_s, MOST_PROBE_S))

    def count_end(self, reason: str) -> None:
        """Count the end of the connection."""
        self.connections.counters.connections_ended[reason] += 1

    def pause_writing(self) -> None:
        self.is_write_paused = True
        self.writable.clear()
        if self._reading_due is None:
            self._unread_s = self.loop.time()
            count = self.transport.get_write_buffer_size() + 2 * SEND_BUFFER_BYTES
            self.connections.unread.enter(self, self.client, count)
            self._reading_due = self.loop.call_later(self.connections.limits.idle_timeout_s, self.reset)

    def resume_writing(self) -> None:
        self.is_write_paused = False
        self.writable.set()
        self._forget_unread()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.connections.shares.leave(self)
        self._forget_unread()
        self._server_state.connections.discard(self)

    def _forget_unread(self) -> None:
        if self._reading_due is not None:
            self._reading_due.cancel()
            self._reading_due, self._unread_s = None, inf
            self.connections.unread.leave(self)
