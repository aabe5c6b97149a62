"""The TLS handshake of a connection, within the limits of the connection that follows.

The event loop could make the handshake by itself. Then a client that never ends it would have a minute and no limit of
connections, and the server would run out of open files.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from uvicorn.server import ServerState

from service.admission.connections import Connections, Deadline
from service.api.connection import Connection


class TlsHandshake(asyncio.Protocol):
    """A connection until its handshake is done: it waits for its client, as one that waits for headers.

    Args:
        context: has the certificate.
        follow: makes the connection that follows.
    """

    def __init__(
        self,
        connections: Connections,
        context: ssl.SSLContext,
        server_state: ServerState,
        follow: Callable[[], Connection],
    ) -> None:
        self._connections, self._context = connections, context
        self._server_state, self._follow = server_state, follow
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(lambda: self.end("headers"))
        self._come = b""  # what the client sends right after its handshake

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # it has all that uvicorn calls
        if not self._connections.enter(self):
            self.end("refused")
            return
        self._connections.waiting[self] = None
        self._deadline.set(self._loop.time() + self._connections.limits.header_timeout_s)
        self._shaking = self._loop.start_tls(transport, self, self._context, server_side=True)
        # its first step runs now and not in a task: uvloop may read the client's first bytes before a task begins
        self._shaking.send(None).add_done_callback(self._shaken)

    def data_received(self, data: bytes) -> None:
        self._come += data

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._leave()

    def end(self, reason: str) -> None:
        """End the connection. ``reason`` is the label of the metric."""
        self._connections.counters.connections_ended[reason] += 1
        self.transport.abort()

    def shutdown(self) -> None:
        """End the connection because the server closes; uvicorn calls this for each one."""
        self.transport.abort()

    def _shaken(self, _: asyncio.Future[None]) -> None:
        """Go on after the handshake."""
        self._leave()
        transport = None
        try:
            self._shaking.send(None)
        except StopIteration as done:
            transport = done.value
        except OSError:  # the client has gone, or speaks no TLS
            pass
        if transport is None or self.transport.is_closing():  # it has ended meanwhile
            self.transport.abort()
            return
        connection = self._follow()
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._come:
            connection.data_received(self._come)

    def _leave(self) -> None:
        self._deadline.close()
        self._connections.leave(self)
        self._server_state.connections.discard(self)
