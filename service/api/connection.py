"""A client's connection: uvicorn's HTTP/1.1 protocol with time-outs and bounds, so that no client harms the others.

``admission.uploads`` interrupts a slow body while its request is read. All else that a client can delay ends here: the
headers of a request, the rest of a body that nobody reads, the next request, and the reading of responses. The length
and the number of headers have bounds too: uvicorn has none. And it refuses what two parsers could read differently
(RFC 9112, section 11.2).
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Response
from httptools import HttpParserError
from uvicorn import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.admission.budget import client_of
from service.admission.connections import Connections
from service.admission.presence import SCOPE_KEY, Presence
from service.api import refusals
from service.api.handshakes import PATH, handshake
from service.api.many_connection import ManyConnection
from service.api.many_streams import ManyStreams
from service.api.refusals import MOST_FIELDS, MOST_HEADER_BYTES, MOST_URL_BYTES, SPECIAL
from service.api.request_parser import RequestParser, Taken
from service.api.response_writer import ResponseWriter
from service.api.stream_connection import StreamConnection
from service.api.unread import Unread

HIGH_WATER_BYTES = 16 * 1024  # more that the system does not take yet counts as unread


class Refused(Exception):
    """Stops the parser: what follows is not read."""


class Connection(HttpToolsProtocol):
    """One connection.

    It waits while it has no unanswered request. ``header_timeout_s`` runs from when it was made, or from the first byte
    of a request. Between requests uvicorn waits for ``idle_timeout_s``, and a client has as long to read a response. A
    client that sends a request before it has the response to the one before gets that response, and is disconnected
    (RFC 9112, section 9.3.2, allows it).

    Args:
        connections: all connections of the server.
        many: of those that become WebSockets.
        config, server_state, app_state, _loop: of uvicorn.
    """

    def __init__(
        self,
        connections: Connections,
        many: ManyStreams,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = RequestParser(self)  # type: ignore[assignment]  # it has all that uvicorn calls
        self.timeout_keep_alive = connections.limits.idle_timeout_s  # type: ignore[assignment]  # a float will do
        self._connections = connections
        self._many = many
        self._special: list[tuple[bytes, bytes]] = []  # headers of the request that is parsed
        self._is_over = False  # what follows is not read
        self._is_between = False  # the last request is here as a whole
        self._header_bytes = 0  # since headers were complete or a part of a body arrived
        self._headers_due: asyncio.TimerHandle | None = None
        self._presence = Presence()

    def waits(self) -> bool:
        """Whether no request is unanswered."""
        return self.cycle is None or self.cycle.response_complete

    def end(self, reason: str, refusal: Response | None = None) -> None:
        """End the connection, at once if there is no refusal.

        Args:
            reason: under which it is counted.
            refusal: sent first.
        """
        self._is_over = True
        if not self.transport.is_closing() or self.transport.get_write_buffer_size():
            self._connections.counters.connections_ended[reason] += 1
        if refusal is None:
            self.transport.abort()
            return
        self._forget_response()
        self._writer.lingers = True
        self._writer.write(refusals.to_bytes(refusal, self.server_state.default_headers))
        self._writer.close()

    def _forget_response(self) -> None:
        """Nobody reads the response that is not complete."""
        if not self.waits():
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._writer = ResponseWriter(transport, self.loop)
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._unread = Unread(self._connections, transport)
        if self._connections.enter(self):
            self._connections.wait(self)
            self._expect_headers()
        else:
            self.end("refused")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)
        self._unread.stop()
        self._cancel_headers_due()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self._presence.leave()

    def eof_received(self) -> None:
        """The transport closes now, and says so a round of the event loop later."""
        self._forget_response()
        self._presence.leave()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._unset_keepalive_if_required()
        self._header_bytes += len(data)
        was_between = self._is_between
        try:
            self.parser.feed_data(data)
        except Taken:
            return
        except HttpParserError as error:
            if not self._is_over:
                is_version = "Invalid HTTP version" in str(error)
                self._refuse("malformed", refusals.VERSION if is_version else refusals.MALFORMED)
            return
        if self._header_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
            is_url = self._has_begun() and not self.headers and len(self.url) > MOST_URL_BYTES
            self._refuse("too-long", refusals.LONG_URL if is_url else refusals.LONG_HEADERS)
        if not self.waits():
            if self._headers_due is not None:
                self._cancel_headers_due()
        elif self._is_between and not was_between and not self._has_begun():  # the body of an answered request
            self._cancel_headers_due()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif self._headers_due is None:
            self._expect_headers()

    def _refuse(self, reason: str, refusal: Response) -> None:
        """Refuse bytes that are no request. A request before them that is complete gets its response first."""
        if not (self.waits() or self.cycle.more_body):
            self._answer_last(reason)
        elif self.cycle is not None and self.waits() and not (self._is_between or self._has_begun()):
            self._answer_last(reason)  # in the body of a request that has its response
            self._writer.close()
        else:
            self.end(reason, refusal)

    def _answer_last(self, reason: str) -> None:
        """Read no more, and close the connection after the response to the last request."""
        self._is_over = True
        self._cancel_headers_due()
        self._connections.counters.connections_ended[reason] += 1
        self.cycle.keep_alive = False
        self._writer.lingers = True

    def takes_offer(self, rest: bytes) -> bool:
        """Whether the request opens a WebSocket, which has the connection from now on."""
        shake = handshake(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        if shake is None or rest:
            return False
        self._cancel_headers_due()
        self._connections.leave(self)
        self.connections.discard(self)
        kind = StreamConnection if shake.path == PATH else ManyConnection
        upgraded = kind(
            self._connections, self._many, self.server_state, self._unread, self.transport, shake, self._peer()
        )
        upgraded.begin()
        return True

    def _peer(self) -> str:
        """The client of a handshake, which a proxy names that the operator trusts; uvicorn does it for requests."""
        app, peer = self.app, self.client
        if isinstance(app, ProxyHeadersMiddleware) and peer is not None and peer[0] in app.trusted_hosts:
            named = b", ".join(value for name, value in self.headers if name == b"x-forwarded-for")
            if named:
                peer = app.trusted_hosts.get_trusted_client_address(named.decode("latin-1"))
        return client_of(peer)

    def _has_begun(self) -> bool:
        """Whether a part of a request has come, but not all of its headers."""
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    def on_message_begin(self) -> None:
        if not self.waits():
            self._answer_last("pipelined")
            raise Refused
        super().on_message_begin()

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
        version = self.parser.get_http_version()
        refusal = refusals.of_head(version, self.url, self.headers, special, self._header_bytes)
        if refusal is not None:
            self.end("refused-request", refusal)
            raise Refused
        if len(special) > 1:  # one is Host
            expected = [value.lower() for name, value in special if name == b"expect"]
            self.expect_100_continue = version == "1.1" and b"100-continue" in expected
        self._header_bytes = 0
        self._is_between = False
        super().on_headers_complete()
        self.scope[SCOPE_KEY] = self._presence  # type: ignore[literal-required]
        self.cycle.transport = self._writer  # type: ignore[assignment]  # it has all that a response calls
        self.headers = []  # takes the trailers: they may not replace headers (RFC 9110, section 6.5.1)

    def on_body(self, body: bytes) -> None:
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._header_bytes = 0
        self._is_between = True
        self._special.clear()  # of the trailers
        if not self.waits():
            self._connections.work(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._connections.wait(self)
        elif self.transport.get_write_buffer_size():  # it stays until its client has read everything
            self._unread.begin(client_of(self.scope["client"]))

    def timeout_keep_alive_handler(self) -> None:
        if not self.flow.write_paused:  # else its client has not read, and has a time for that
            self.end("idle")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread.begin(client_of(self.cycle.scope["client"] if self.cycle is not None else self.client))

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._unread.stop()

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.call_later(self._connections.limits.header_timeout_s, self._end_without_headers)

    def _end_without_headers(self) -> None:
        self._headers_due = None
        self.end("headers", refusals.LATE if self._has_begun() else None)

    def _cancel_headers_due(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None
