"""A client's connection: uvicorn's HTTP/1.1 protocol with time-outs and bounds, so that slow clients harm nobody.

``admission.uploads`` interrupts a slow body while its request is read. All else that a client can delay ends here: the
headers of a request, the rest of a body that nobody reads, the next request, and the reading of responses.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.admission.fair_share import FairShare, client_of
from service.observe.counters import Counters
from service.settings import Limits


class Connections:
    """All connections of a server.

    Args:
        limits: of connections.
        counters: count the connections that the server ends, by reason.
    """

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self.limits = limits
        self.counters = counters
        self.shares: FairShare[Connection] = FairShare(
            limits.max_connections,
            limits.client_share,
            Connection.waits,
            Connection.was_used,
            lambda connection: connection.end("displaced"),
        )

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """What uvicorn calls for each connection, with its own arguments."""
        return Connection(self, config, server_state, app_state, _loop)


class Connection(HttpToolsProtocol):
    """One connection.

    A connection waits while it has no unanswered request. Then it may be displaced, and ``header_timeout_s`` runs from
    when it was made or from the first byte that it sends. Between requests uvicorn waits for ``idle_timeout_s``.

    Args:
        connections: all connections of the server.
        config: of uvicorn.
        server_state: of uvicorn.
        app_state: of uvicorn.
        _loop: of uvicorn.
    """

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.timeout_keep_alive = connections.limits.idle_timeout_s  # type: ignore[assignment]  # a float will do
        self._connections = connections
        self._earlier: list[RequestResponseCycle] = []  # of pipelined requests, all but the last
        self._was_used = False
        self._headers_due: asyncio.TimerHandle | None = None
        self._reading_due: asyncio.TimerHandle | None = None

    def waits(self) -> bool:
        """Whether no request is unanswered."""
        return self.cycle is None or self.cycle.response_complete

    def was_used(self) -> bool:
        """Whether a request was answered since the last call."""
        was_used, self._was_used = self._was_used, False
        return was_used

    def end(self, reason: str) -> None:
        """End the connection at once.

        Args:
            reason: under which it is counted.
        """
        if not self.transport.is_closing() or self.transport.get_write_buffer_size():
            self._connections.counters.connections_ended[reason] += 1
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._connections.shares.enter(self, client_of(self.client)):
            self._expect_headers()
        else:
            self.end("refused")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.shares.leave(self)
        self._cancel_headers_due()
        self._cancel_reading_due()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        for cycle in self._earlier:  # uvicorn tells the last one alone
            cycle.disconnected = True
            cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._headers_due is None:
                self._expect_headers()
        elif self._headers_due is not None:
            self._cancel_headers_due()

    def on_headers_complete(self) -> None:
        before = self.cycle
        super().on_headers_complete()
        if before is not None and not before.response_complete:
            self._earlier.append(before)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._was_used = True
        if self._earlier:
            self._earlier = [cycle for cycle in self._earlier if not cycle.response_complete]
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._expect_reading()  # it stays until its client has read everything

    def timeout_keep_alive_handler(self) -> None:
        self.end("idle")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._cancel_reading_due()

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self._connections.limits.header_timeout_s, self._end_without_headers)

    def _end_without_headers(self) -> None:
        self._headers_due = None
        self.end("headers")

    def _cancel_headers_due(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _expect_reading(self) -> None:
        if self._reading_due is None:
            self._reading_due = self.loop.call_later(self._connections.limits.idle_timeout_s, self.end, "unread")

    def _cancel_reading_due(self) -> None:
        if self._reading_due is not None:
            self._reading_due.cancel()
            self._reading_due = None
