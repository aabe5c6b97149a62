"""A client's connection: uvicorn's HTTP/1.1 protocol with time-outs and bounds, so that no client harms the others.

``admission.uploads`` interrupts a slow body while its request is read. All else that a client can delay ends here: the
headers of a request, the rest of a body that nobody reads, the next request, and the reading of responses. The length
and the number of headers and the number of pipelined requests have bounds too: uvicorn has none. And it refuses what
two parsers could read differently (RFC 9112, section 11.2).
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

from fastapi import Response
from httptools import HttpParserError
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.admission.fair_share import FairShare, client_of
from service.admission.presence import SCOPE_KEY, Presence
from service.admission.unread import Unread
from service.api import refusals
from service.api.flow import Flow
from service.api.handshakes import PATH, handshake
from service.api.held import SEND_BUFFER_BYTES, UNREAD_S, Held, bound_unsent, forget_unsent
from service.api.many_connection import ManyConnection
from service.api.many_streams import ManyStreams
from service.api.refusals import MOST_FIELDS, MOST_HEADER_BYTES, MOST_URL_BYTES, SPECIAL
from service.api.request_parser import RequestParser, Taken
from service.api.response_writer import ResponseWriter
from service.api.stream_connection import StreamConnection
from service.observe.counters import Counters
from service.settings import Limits

FIRST_PROBE_S = 0.05  # most responses are sent earlier
MOST_PROBE_S = 1.0  # between two; the time doubles each time, from the time of a reset
RESET_S = 0.02
MOST_PIPELINED = 128  # requests of a connection that wait for the response to the one before
MOST_PIPELINED_FIELDS = 16 * MOST_PIPELINED  # headers of all of them; one of four bytes takes 120 bytes of memory
HIGH_WATER_BYTES = 16 * 1024  # more that the system does not take yet counts as unread


class Refused(Exception):
    """Stops the parser: what follows is not read."""


class Connections:
    """All connections of a server.

    Args:
        limits: of connections.
        counters: count the connections that the server ends, by reason.
        many: of those that become WebSockets.
    """

    def __init__(self, limits: Limits, counters: Counters, many: ManyStreams) -> None:
        self.limits = limits
        self.counters = counters
        self.many = many
        self.shares: FairShare[Connection | Held] = FairShare(
            limits.max_connections,
            limits.client_share,
            lambda connection: connection.may_go(),
            lambda connection: connection.was_used(),
            lambda connection: connection.end("displaced"),
        )
        self.unread: Unread[Connection | Held] = Unread(
            limits.max_unread_bytes, limits.client_share, lambda connection: connection.reset()
        )

    def protocol(self, *arguments: Any, **more: Any) -> Connection:
        """What uvicorn calls for each connection, with its own arguments."""
        return Connection(self, *arguments, **more)


class Connection(HttpToolsProtocol):
    """One connection.

    A connection waits while it has no unanswered request. Then it may be displaced, and ``header_timeout_s`` runs from
    when it was made or from the first byte that it sends. It may be displaced too if its client does not read. Between
    requests uvicorn waits for ``idle_timeout_s``, and a client has as long to read a response.

    Args:
        connections: all connections of the server.
        config, server_state, app_state, _loop: of uvicorn.
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
        self.parser = RequestParser(self)  # type: ignore[assignment]  # it has all that uvicorn calls
        self.timeout_keep_alive = connections.limits.idle_timeout_s  # type: ignore[assignment]  # a float will do
        self._connections = connections
        self._earlier: list[RequestResponseCycle] = []  # of pipelined requests, all but the last
        self._was_used = False
        self._special: list[tuple[bytes, bytes]] = []  # headers of the request that is parsed
        self._is_refused = False  # what follows is not read
        self._is_between = False  # the last request is here as a whole
        self._header_bytes = 0  # since headers were complete or a part of a body arrived
        self._headers_due: asyncio.TimerHandle | None = None
        self._reading_due: asyncio.TimerHandle | None = None
        self._probe_due: asyncio.TimerHandle | None = None
        self._presence = Presence()
        self._unread_s = inf  # since when the client should read, in the event loop's time
        self._next: tuple[RequestResponseCycle, Any] | None = None  # begins when the client has read

    def waits(self) -> bool:
        """Whether no request is unanswered."""
        return self.cycle is None or self.cycle.response_complete

    def may_go(self) -> bool:
        """Whether the connection may be displaced: it waits, or its client has not read for ``UNREAD_S``."""
        return self.waits() or self.loop.time() >= self._unread_s + UNREAD_S

    def was_used(self) -> bool:
        """Whether a request was answered since the last call."""
        was_used, self._was_used = self._was_used, False
        return was_used

    def end(self, reason: str, refusal: Response | None = None) -> None:
        """End the connection, at once if there is no refusal.

        Args:
            reason: under which it is counted.
            refusal: sent first.
        """
        self._is_refused = True
        if not self.transport.is_closing() or self.transport.get_write_buffer_size():
            self._connections.counters.connections_ended[reason] += 1
        if refusal is not None:
            self._disconnect()  # requests with responses of their own
            self._writer.lingers = True
            self._writer.write(refusals.to_bytes(refusal, self.server_state.default_headers))
            self._writer.close()
        else:
            self.transport.abort()

    def reset(self) -> None:
        """End the connection of a client that does not read, and let the system forget what it has for the client."""
        forget_unsent(self.transport)
        self.end("unread")

    def _disconnect(self) -> None:
        """Tell all unanswered requests that nobody reads their responses."""
        for cycle in (*self._earlier, self.cycle):
            if cycle is not None:
                cycle.disconnected = True
                cycle.message_event.set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)
        self._writer = ResponseWriter(transport, self.loop)
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        bound_unsent(transport)
        if self._connections.shares.enter(self, client_of(self.client)):
            self._expect_headers()
        else:
            self.end("refused")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.shares.leave(self)
        self._connections.unread.leave(self)
        self._cancel_headers_due()
        self._cancel_reading_due()
        if self._probe_due is not None:
            self._probe_due.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._disconnect()  # uvicorn tells the last one alone
        self._presence.leave()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio keeps the connection if it is true
        """The client sends no more. It still gets the responses to its requests, if the last of them is complete."""
        if self.waits() or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        if self.cycle.scope["http_version"] == "1.1":  # older clients know no interim responses
            self._probe_after(FIRST_PROBE_S)
        return True

    def _probe_after(self, pause_s: float) -> None:
        if self._probe_due is not None:
            self._probe_due.cancel()
        self._probe_due = self.loop.call_later(pause_s, self._probe, self._unanswered(), RESET_S)

    def _unanswered(self) -> RequestResponseCycle:
        """The request whose response is next."""
        return next((cycle for cycle in self._earlier if not cycle.response_complete), self.cycle)

    def _probe(self, cycle: RequestResponseCycle, pause_s: float) -> None:
        """Find out whether a client that sends no more is there; again after a pause, until it has its responses.

        Args:
            cycle: the request whose response was next before. If it has its response, that was a probe too.
            pause_s: until the next probe.
        """
        self._probe_due = None
        if self.waits() or self.transport.is_closing():
            return
        unanswered = self._unanswered()
        if unanswered is cycle and not cycle.response_started and not self.transport.get_write_buffer_size():
            self._writer.write(refusals.PROBE)
        self._probe_due = self.loop.call_later(pause_s, self._probe, unanswered, min(2 * pause_s, MOST_PROBE_S))

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        self._header_bytes += len(data)
        was_between = self._is_between
        try:
            self.parser.feed_data(data)
        except Taken:
            return
        except HttpParserError as error:
            if not self._is_refused:
                is_version = "Invalid HTTP version" in str(error)
                self._refuse("malformed", refusals.VERSION if is_version else refusals.MALFORMED)
            return
        if self._header_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
            is_url = self._has_begun() and not self.headers and len(self.url) > MOST_URL_BYTES
            self._refuse("too-long", refusals.LONG_URL if is_url else refusals.LONG_HEADERS)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._is_between and not was_between and not self._has_begun():  # the body of an answered request
                self._cancel_headers_due()
                self._expect_request()
            elif self._headers_due is None:
                self._expect_headers()
        elif self._headers_due is not None:
            self._cancel_headers_due()

    def _refuse(self, reason: str, refusal: Response) -> None:
        """Refuse bytes that are no request, after the responses to the requests before them."""
        cycles = [cycle for cycle in (*self._earlier, self.cycle) if cycle is not None]
        complete = [cycle for cycle in cycles if not (cycle.response_complete or cycle.more_body)]
        if complete:
            self._is_refused = True
            self._connections.counters.connections_ended[reason] += 1
            complete[-1].keep_alive = False  # a refusal would be taken for its response
        elif self.cycle is not None and self.waits() and not (self._is_between or self._has_begun()):
            self._is_refused = True  # in the body of a request that has its response
            self._connections.counters.connections_ended[reason] += 1
            self._writer.lingers = True
            self._writer.close()
        else:
            self.end(reason, refusal)

    def takes_offer(self, rest: bytes) -> bool:
        """Whether the request opens a WebSocket, which has the connection from now on."""
        shake = handshake(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        if shake is None or rest or not self.waits():
            return False
        self._cancel_headers_due()
        self._connections.shares.leave(self)
        self.connections.discard(self)
        kind = StreamConnection if shake.path == PATH else ManyConnection
        kind(self._connections, self.server_state, self.transport, shake, client_of(self.client)).begin()
        return True

    def _has_begun(self) -> bool:
        """Whether a part of a request has come, but not all of its headers."""
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        if name in SPECIAL:
            self._special.append((name, value))
        if len(self.headers) > MOST_FIELDS:  # now, because each takes thirty times its length in memory
            self._refuse("too-long", refusals.LONG_HEADERS)
            raise Refused

    def on_headers_complete(self) -> None:
        special, self._special = self._special, []
        if self.parser.should_upgrade():
            return
        waiting: list[Any] = [cycle.scope["headers"] for cycle, _ in self.pipeline]
        if len(waiting) >= MOST_PIPELINED or sum(map(len, waiting)) > MOST_PIPELINED_FIELDS:
            self.end("pipelined")
            raise Refused
        version = self.parser.get_http_version()
        refusal = refusals.of_head(version, self.url, self.headers, special, self._header_bytes)
        if len(special) > 1:  # one is Host
            expected = [value.lower() for name, value in special if name == b"expect"]
            self.expect_100_continue = version == "1.1" and b"100-continue" in expected
        self._header_bytes = 0
        self._is_between = False
        before, app = self.cycle, self.app
        if refusal is not None:
            self.app = refusal  # answers in its turn, where requests wait before it
            self._writer.lingers = True
        super().on_headers_complete()
        self.scope[SCOPE_KEY] = self._presence  # type: ignore[literal-required]
        self.app = app
        self.cycle.transport = self._writer  # type: ignore[assignment]  # it has all that a response calls
        self.headers = []  # takes the trailers: they may not replace headers (RFC 9110, section 6.5.1)
        if before is not None and not before.response_complete:
            self._earlier.append(before)
            if self._probe_due is None and version == "1.1":
                self._probe_after(MOST_PROBE_S)  # nothing is read meanwhile, not even the end of the connection
        if refusal is not None:
            self.cycle.more_body = False
            self._is_refused = True
            self._connections.counters.connections_ended["refused-request"] += 1
            raise Refused

    def on_body(self, body: bytes) -> None:
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._header_bytes = 0
        self._is_between = True
        self._special.clear()  # of the trailers
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.pipeline:
            self._writer.flush()  # so that the next request waits if this response is not read
        super().on_response_complete()
        self._was_used = True
        if self._earlier:
            self._earlier = [cycle for cycle in self._earlier if not cycle.response_complete]
        if self._headers_due is None and self.waits() and self._has_begun() and not self._is_refused:
            self._unset_keepalive_if_required()
            self._expect_headers()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._expect_reading()  # it stays until its client has read everything

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin a request; a pipelined one only when the client has read the responses before it."""
        if self.flow.write_paused:
            self._next = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _expect_request(self) -> None:
        """Wait for the next request as uvicorn does after a response."""
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        self.end("idle")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._cancel_reading_due()
        begins, self._next = self._next, None
        if begins is not None and not self.transport.is_closing():
            super()._start_asgi_task(*begins)

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self._connections.limits.header_timeout_s, self._end_without_headers)

    def _end_without_headers(self) -> None:
        self._headers_due = None
        self.end("headers", refusals.LATE if self._has_begun() else None)

    def _cancel_headers_due(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _expect_reading(self) -> None:
        if self._reading_due is None:
            self._unread_s = self.loop.time()
            count = self.transport.get_write_buffer_size() + 2 * SEND_BUFFER_BYTES
            self._connections.unread.enter(self, client_of(self.client), count)
            self._reading_due = self.loop.call_later(self._connections.limits.idle_timeout_s, self.reset)

    def _cancel_reading_due(self) -> None:
        if self._reading_due is not None:
            self._reading_due.cancel()
            self._reading_due, self._unread_s = None, inf
            self._connections.unread.leave(self)
