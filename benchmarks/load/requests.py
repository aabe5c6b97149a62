"""Requests as bytes, over connections that are as cheap as can be: they take little CPU time from what is measured."""

from __future__ import annotations

import asyncio

from hetsyn_client.loadtest.senders import LOST, Answer, Way
from hetsyn_client.protocol.steps import Broken
from tests.support.clients.connection import Connection
from tests.support.servers.target import Address, Response, Target

CONNECT_TIMEOUT_S = 5.0
CONNECTIONS = 256


class Pool:
    """Connections that are opened as requests need them, up to a limit. Other requests wait in order."""

    def __init__(self, address: Address, limit: int = CONNECTIONS) -> None:
        self._address = address
        self._permits = asyncio.Semaphore(limit)
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
        connection, address = Connection(self), self._address
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(lambda: connection, address.host, address.port)
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


class RequestWay(Way):
    """Carries chunks as requests to a target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pool = Pool(target.address)

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        return await self._exchange(self._target.request(session, seq, chunk, is_last=is_last))

    async def drop(self, session: str) -> Answer:
        request = self._target.drop(session)
        return Answer(200) if request is None else await self._exchange(request)

    async def close(self) -> None:
        self._pool.close()

    async def _exchange(self, request: bytes) -> Answer:
        response = await self._pool.exchange(request)
        return Answer(response.status, response.retry_after_s)
