"""Requests as bytes, over HTTP/1.1 connections that take little CPU time from a server on the same machine."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple, Protocol, cast

import httptools

from hetsyn_client.protocol.steps import Broken

CONNECT_TIMEOUT_S = 5.0
CONNECTIONS = 256
LOST = Broken("connection lost")


class Response(NamedTuple):
    """A server's response; its body is not decoded."""

    status: int
    body: bytes = b""
    retry_after_s: float | None = None


class ConnectionOwner(Protocol):
    """Receives the events of a connection."""

    def responded(self, connection: Connection, response: Response) -> None:
        """The response has come. ``connection.is_reusable`` says whether another request may follow."""

    def closed(self, connection: Connection) -> None:
        """The connection was closed, by either side. Called once, unless the connection was never made."""


class Connection(asyncio.Protocol):
    """One connection with at most one request under way, and whether another request may be sent on it."""

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


class Pool:
    """Connections that are opened as requests need them, up to a limit. Other requests wait in order."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._address, self._tls = (host, port), tls
        self._permits = asyncio.Semaphore(CONNECTIONS)
        self._free: list[Connection] = []
        self._answers: dict[Connection, asyncio.Future[Response]] = {}

    async def exchange(self, request: bytes) -> Response:
        """Send a request, and wait for the response.

        Raises:
            Broken: no connection, or it broke.
        """
        async with self._permits:
            while True:
                is_new = not self._free
                connection = await self._opened() if is_new else self._free.pop()
                answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
                self._answers[connection] = answer
                connection.send(request)
                try:
                    response = await answer
                except Broken:
                    if is_new or connection.has_begun:
                        raise
                    continue  # the server has closed an idle connection (RFC 9112, section 9.3.1)
                except BaseException:
                    connection.abort()
                    raise
                if connection.is_reusable:
                    self._free.append(connection)
                return response

    def close(self) -> None:
        for connection in [*self._free, *self._answers]:
            connection.abort()

    async def _opened(self) -> Connection:
        connection = Connection(self)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: connection, *self._address, ssl=self._tls)
        except OSError as error:
            raise Broken(f"cannot connect ({error})") from error
        return connection

    # connections call these

    def responded(self, connection: Connection, response: Response) -> None:
        answer = self._answers.pop(connection, None)
        if answer is not None and not answer.done():
            answer.set_result(response)

    def closed(self, connection: Connection) -> None:
        if connection in self._free:
            self._free.remove(connection)
        answer = self._answers.pop(connection, None)
        if answer is not None and not answer.done():
            answer.set_exception(LOST)
