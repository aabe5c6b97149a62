"""A client's connection: HTTP/1.1 with time limits and bounds, so that no client harms the others.

Connections answer requests with a chunk themselves (``api.exchange``); uvicorn runs the application for all others. A
body has its own time limit (``admission.uploads``). The connection limits all else that a client can delay: headers,
the rest of a body that nobody reads, the next request, and the reading of responses. It bounds the length and the
number of headers, and refuses what two parsers could read differently (RFC 9112, section 11.2).
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any
from urllib.parse import unquote

from fastapi import Response
from httptools import HttpParserError, parse_url
from uvicorn import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from service.admission.budget import client_of
from service.admission.connections import Connections, Deadline
from service.api import messages
from service.api.application_request import ApplicationRequest
from service.api.exchange import Door, Exchange
from service.api.messages import MOST_FIELDS, MOST_HEADER_BYTES, MOST_URL_BYTES, Field, Head, RequestParser, Taken
from service.api.streaming.handshakes import PATH, handshake
from service.api.streaming.many_connection import ManyConnection
from service.api.streaming.many_streams import ManyStreams
from service.api.streaming.stream_connection import StreamConnection
from service.api.unread import Unread

HIGH_WATER_BYTES = 16 * 1024  # bytes beyond it that the system does not take yet count as unread
# limits of a round of the event loop for one connection: parts of bodies, of one byte or more, and bytes
ROUND_PARTS, ROUND_BYTES = 256, 16 * 1024
LINGER_S = 2.0  # time for a client to notice a half-close before it is disconnected


class Refused(Exception):
    """Stops the parser: later bytes are not read."""


class Connection(asyncio.Protocol):
    """One connection.

    It counts as waiting while it has no unanswered request. ``header_timeout_s`` begins with the connection, or with
    the first byte of a request. Between requests it may be idle for ``idle_timeout_s``, and a client has the same time
    to read a response. A client that sends a request before the response to the last one gets that response, and is
    disconnected (RFC 9112, section 9.3.2, allows it).

    Args:
        many: shared by the connections that become WebSockets.
        config, server_state, app_state, _loop: uvicorn's.
    """

    def __init__(
        self,
        connections: Connections,
        many: ManyStreams,
        door: Door,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.parser = RequestParser(self)
        self.url = b""
        self.headers: list[Field] = []
        self._app, self._app_state = config.loaded_app, app_state
        self._connections, self._many, self._door = connections, many, door
        self._work: Exchange | ApplicationRequest | None = None  # the request that has no response yet
        self._is_over = False  # later bytes are not read
        self._is_in_head = False  # a request has begun, and its headers are not complete
        self._is_between = True  # the last request is complete
        self._lingers = False  # half-close: the client may go on sending, and nobody reads it
        self._later = b""  # has come, and is parsed in the next round
        self._is_chunked = False  # the body of the last request
        self._parts = 0  # of bodies, in this round
        self._header_bytes = 0  # since headers were complete or a part of a body arrived
        self._deadline = Deadline(self._late)
        self._is_idle = False  # the deadline is for the next request, not for headers

    @property
    def is_working(self) -> bool:
        return self._work is not None

    def end(self, reason: str, refusal: Response | None = None) -> None:
        """End the connection, after the refusal if there is one. ``reason`` is the label of the metric."""
        self._is_over = True
        if not self.transport.is_closing() or self.transport.get_write_buffer_size():
            self._connections.counters.connections_ended[reason] += 1
        if refusal is None:
            self.transport.abort()
            return
        if self._work is not None:
            self._work.leave()
        self._lingers = True
        self._deadline.close()
        self.write(messages.to_bytes(refusal, self.server_state.default_headers))
        self.close()

    # asyncio calls these

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server_state.connections.add(self)  # type: ignore[arg-type]  # it has all that uvicorn calls
        self._peer = get_remote_addr(transport)
        self._client = self._reader = client_of(self._peer)  # clients of the connection, and of its last request
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "https" if is_ssl(transport) else "http",
            "server": get_local_addr(transport),
            "client": self._peer,
            "root_path": "",
            "state": self._app_state,
        }
        transport.set_write_buffer_limits(HIGH_WATER_BYTES)
        self._unread = Unread(self._connections, transport)
        if self._connections.enter(self):
            self._connections.waiting[self] = None
            self._expect_headers()
        else:
            self.end("refused")

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.server_state.connections.discard(self)
        self._connections.leave(self)
        self._unread.stop()
        self._deadline.close()
        if self._work is not None:
            self._work.leave()
        self.flow.resume_writing()
        del self.parser, self._deadline  # they refer to this object
        self._work = None

    def eof_received(self) -> None:
        """Close: the transport reports it a round of the event loop later."""
        if self._work is not None:
            self._work.leave()

    def data_received(self, data: bytes) -> None:
        """Parse bytes, or refuse them; then go on with what is complete."""
        if self._is_over:
            return
        if self._later:  # an application reads on, and uvloop passes on more before the next round
            self._later += data
            return
        was_between = self._is_between
        self._parts, self._later, size = 0, data, ROUND_BYTES
        try:
            while self._later and not self._is_over:
                if self._parts > ROUND_PARTS:
                    self.transport.pause_reading()
                    self.loop.call_soon(self._next_round)
                    break
                data, self._later = self._later[:size], self._later[size:]
                self._header_bytes += len(data)
                self.parser.feed_data(data)
                if self._header_bytes > MOST_HEADER_BYTES and not (self._is_over or self.transport.is_closing()):
                    is_url = self._is_in_head and not self.headers and len(self.url) > MOST_URL_BYTES
                    self._refuse("too-long", messages.LONG_URL if is_url else messages.LONG_HEADERS)
                size = ROUND_BYTES if self._is_chunked else len(self._later)
        except Taken:
            return
        except HttpParserError as error:
            if not self._is_over:
                is_version = "Invalid HTTP version" in str(error)
                self._refuse("malformed", messages.VERSION if is_version else messages.MALFORMED)
        if self._is_over:
            self._later = b""
        if self._work is not None:
            self._work.go_on(self._is_between)
        elif self._is_over:
            return
        elif self._is_between and not was_between and not self._is_in_head:  # the body of an answered request
            self._is_idle = True
            self._deadline.set(self.loop.time() + self._connections.limits.idle_timeout_s)
        elif self._is_idle:
            self._expect_headers()

    def _next_round(self) -> None:
        data, self._later = self._later, b""
        if not self.transport.is_closing():
            if not self.flow.read_paused:
                self.transport.resume_reading()
            self.data_received(data)

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._unread.begin(self._reader if self._work is None else self._work.client)

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if not self.transport.is_closing():
            self._unread.stop()

    def shutdown(self) -> None:
        """End the connection because the server closes; uvicorn calls this for each one."""
        if self._work is not None:
            self._work.keep_alive = False
        else:
            self.transport.close()

    def _refuse(self, reason: str, refusal: Response) -> None:
        """Refuse bytes that are no request. An earlier complete request gets its response first."""
        if self._work is not None and self._is_between:
            self._answer_last(reason)
        elif self._work is None and not (self._is_between or self._is_in_head):
            self._answer_last(reason)  # in the body of a request that has its response
            self.close()
        else:
            self.end(reason, refusal)

    def _answer_last(self, reason: str) -> None:
        """Read no more, and close the connection after the response to the last request."""
        self._is_over = self._lingers = True
        self._deadline.close()
        self._connections.counters.connections_ended[reason] += 1
        if self._work is not None:
            self._work.keep_alive = False

    def takes_offer(self, rest: bytes) -> bool:
        """Return whether the request opens a WebSocket, which takes over the connection."""
        shake = handshake(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        if shake is None or rest or self._later:
            return False
        self._deadline.close()
        self._connections.leave(self)
        self.server_state.connections.discard(self)
        kind = StreamConnection if shake.path == PATH else ManyConnection
        client = self._forwarded() if b"x-forwarded-for" in dict(self.headers) else self._client
        kind(self._connections, self._many, self.server_state, self._unread, self.transport, shake, client).begin()
        return True

    def _forwarded(self) -> str:
        """Return the client of a request that names one: a trusted proxy may."""
        app = self._app
        if not isinstance(app, ProxyHeadersMiddleware) or self._peer is None or self._peer[0] not in app.trusted_hosts:
            return self._client
        named = b", ".join(value for name, value in self.headers if name == b"x-forwarded-for")
        return client_of(app.trusted_hosts.get_trusted_client_address(named.decode("latin-1"))) or self._client

    # the parser calls these

    def on_message_begin(self) -> None:
        if self._work is not None or self.flow.write_paused:  # the client cannot have read the last response
            self._answer_last("pipelined")
            if self._work is None:
                self.close()
            raise Refused
        self._is_in_head = True
        self.url, self.headers = b"", []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))
        if len(self.headers) > MOST_FIELDS:  # checked early, because each takes thirty times its length in memory
            self._refuse("too-long", messages.LONG_HEADERS)
            raise Refused

    def on_headers_complete(self) -> None:
        parser, headers = self.parser, self.headers
        if parser.should_upgrade():
            return
        version, fields = parser.get_http_version(), dict(headers)
        refusal = messages.of_head(version, self.url, headers, fields, self._header_bytes)
        if refusal is not None:
            self.end("refused-request", refusal)
            raise Refused
        url, is_new, method = parse_url(self.url), version == "1.1", parser.get_method()
        raw_path = url.path or b"/"  # http://host has none (RFC 9110, section 4.2.3)
        path = raw_path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        self._header_bytes = 0
        self._is_in_head = self._is_between = False
        self._is_chunked = b"transfer-encoding" in fields
        expects = is_new and fields.get(b"expect", b"").lower() == b"100-continue"
        keep_alive = is_new and parser.should_keep_alive()
        head = Head(
            method,
            version,
            raw_path,
            path,
            url.query or b"",
            headers,
            fields,
            self._forwarded() if b"x-forwarded-for" in fields else self._client,
            expects,
            keep_alive,
        )
        self._is_idle, self._deadline.due_s = False, inf
        door = self._door
        if method == b"POST" and (planner := door.planners.get(path) or door.find(path)) is not None:
            self._work = Exchange(door, planner, head, self)
        else:
            more = door.headers(head)
            self._work = ApplicationRequest(
                self._app, head, self._scope, self, self.flow, self.server_state, more, self.respond
            )
        self.headers = []  # a new list for the trailers: they must not replace headers (RFC 9110, section 6.5.1)

    def on_body(self, body: bytes) -> None:
        self._parts += 1
        self._header_bytes = 0
        if self._work is not None:
            self._work.take(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._header_bytes = 0
        self._is_between = True
        waiting = self._connections.waiting
        waiting.pop(self, None)
        if self._work is None:  # answered already
            waiting[self] = None

    # a response calls these

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def close(self) -> None:
        """Close the transport after the written bytes."""
        if not self._is_between:  # the body of the request may go on
            self._lingers = self._is_over = True
        if self._lingers and self.transport.can_write_eof():
            # half-close: else the system would discard the response together with what the client has sent
            self.transport.write_eof()
            self._unread.disconnect(LINGER_S)
        else:
            self.transport.close()

    def respond(self, response: bytes | None = None) -> None:
        """Send the response to the request, and wait for the next request. None: the response is sent already."""
        work, transport = self._work, self.transport
        if response is not None:
            transport.write(response)
            if work is not None and not work.keep_alive:
                self.close()
        if work is not None:
            self._reader = work.client
            self._work = None
        self.server_state.total_requests += 1
        if not transport.is_closing():
            self._connections.waiting[self] = None
            self.flow.resume_reading()
            self._is_idle = True
            self._deadline.set(self.loop.time() + self._connections.limits.idle_timeout_s)
        elif transport.get_write_buffer_size():  # it stays open until its client has read everything
            self._unread.begin(self._reader)
        elif not transport.can_write_eof():  # over TLS, its client has yet to close it
            self._connections.waiting[self] = None

    def _expect_headers(self) -> None:
        self._is_idle = False
        self._deadline.set(self.loop.time() + self._connections.limits.header_timeout_s)

    def _late(self) -> None:
        if not self._is_idle:
            self.end("headers", messages.LATE if self._is_in_head else None)
        elif not self.flow.write_paused:  # else the client's time to read runs already
            self.end("idle")
