"""Connections to a replica that a client or a fault breaks."""

from __future__ import annotations

import asyncio
from typing import Protocol

from hetsyn_client.loadtest.connections import Connection, Response
from tests.support.servers.target import Address

REQUEST_TIMEOUT_S = 1.0


class Unanswered(Exception):
    """A request without a reply. The message has the reason."""


class Line(Protocol):
    """A connection to a replica. It is opened on demand, and again after a loss."""

    @property
    def is_busy(self) -> bool: ...

    async def exchange(self, request: bytes) -> Response:
        """Send a request. Its response.

        Raises:
            Unanswered: no connection, a broken connection, or no response in time.
        """

    async def tear(self, request: bytes, length: int, after_s: float) -> None:
        """Send the first bytes of a request, and break the connection.

        Raises:
            Unanswered: no connection.
        """

    def cut(self) -> None: ...

    async def close(self) -> None: ...


class HttpLine:
    """See ``Line``."""

    def __init__(self, address: Address, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._answer: asyncio.Future[Response] | None = None

    @property
    def is_busy(self) -> bool:
        return self._answer is not None

    async def exchange(self, request: bytes) -> Response:
        connection = await self._open()
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._answer = answer
        connection.send(request)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError:
            raise Unanswered("no answer in time") from None
        finally:
            self._answer = None
            if not (answer.done() and not answer.cancelled() and answer.exception() is None):
                connection.abort()

    async def tear(self, request: bytes, length: int, after_s: float) -> None:
        connection = await self._open()
        connection.send(request[:length])
        await asyncio.sleep(after_s)
        connection.abort()

    def cut(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        self.cut()

    async def _open(self) -> Connection:
        if self._connection is not None and self._connection.is_reusable:
            return self._connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, self._connection = await loop.create_connection(
                    lambda: Connection(self), self._address.host, self._address.port
                )
        except TimeoutError:
            raise Unanswered("no connection in time") from None
        except OSError:
            raise Unanswered("no connection") from None
        return self._connection

    # the connection calls these

    def responded(self, connection: Connection, response: Response) -> None:
        if connection is self._connection and self._answer is not None and not self._answer.done():
            self._answer.set_result(response)

    def closed(self, connection: Connection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unanswered("connection lost"))
