"""One persistent HTTP/1.1 connection with at most one request under way, as cheap as can be."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools

from tests.support.servers.target import Response


class ConnectionOwner(Protocol):
    """Receives the events of a connection."""

    def responded(self, connection: Connection, response: Response) -> None:
        """The response has come. ``connection.is_reusable`` says whether another request may follow."""

    def closed(self, connection: Connection) -> None:
        """The connection was closed, by either side. Called once, unless the connection was never made."""


class Connection(asyncio.Protocol):
    """One connection, and whether another request may be sent on it."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self.is_reusable = False
        self.has_begun = False  # a part of the awaited response has come
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._awaits = False
        self._body = b""
        self._retry_after_s: float | None = None
        self._complete: Response | None = None
        self._stays_open = True

    def send(self, request: bytes) -> None:
        """Send one request; its response must have come before the next."""
        assert self._transport is not None, "send after connection_made"
        self.has_begun = False
        self._awaits = True
        self._transport.write(request)

    def abort(self) -> None:
        """Close at once; the owner's ``closed`` is called."""
        self.is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_reusable = True

    def connection_lost(self, _: Exception | None) -> None:
        self.is_reusable = False
        self._owner.closed(self)

    def data_received(self, data: bytes) -> None:
        if not self._awaits:
            self.abort()  # a response without a request
            return
        self.has_begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            return
        response = self._complete
        if response is None:
            return
        self._complete = None
        self._awaits = False
        if not self._stays_open:
            self.abort()
        self._owner.responded(self, response)

    # httptools calls these

    def on_message_begin(self) -> None:
        self._body = b""
        self._retry_after_s = None

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 11 and name.lower() == b"retry-after":
            # a date counts as one second
            self._retry_after_s = float(value) if value.isdigit() else 1.0

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:  # below 200 the response itself is yet to come
            self._stays_open = self._parser.should_keep_alive()  # not known after this callback
            self._complete = Response(status, self._body, self._retry_after_s)
