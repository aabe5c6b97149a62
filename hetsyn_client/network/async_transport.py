"""Carries out the steps of a client with asyncio: aiohttp for HTTP, websockets for WebSockets.

It does not use httpx, because httpx's pool walks all its connections whenever a request begins or ends. For 300
sessions that takes thirty times as long as all the rest (docs/explanation/performance.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from yarl import URL

from hetsyn_client.access import Access
from hetsyn_client.network.web_socket import BREAKS, CLOSING_S, SUBPROTOCOL, address, arguments, broken
from hetsyn_client.protocol.steps import Broken, Carrier, Request, Response, Steps, T, carried_out, retry_after_s


class AsyncTransport(Carrier):
    """Connections to one server, in one event loop.

    Args:
        timeout_s: time limit for one answer.
        sleep: waits between two tries, in seconds; tests replace it.
    """

    def __init__(
        self, access: Access, timeout_s: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._http: aiohttp.ClientSession | None = None
        self._sockets: set[ClientConnection] = set()

    async def close(self) -> None:
        for socket in list(self._sockets):
            await self._closed(socket)
        if self._http is not None:
            await self._http.close()

    async def run(self, steps: Steps[T]) -> T:
        """Carry out steps to their result, or to their error."""
        return await carried_out(steps, self._do)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            connector = (
                aiohttp.TCPConnector(limit=0)  # each session has at most one request at a time
                if self._access.tls is None
                else aiohttp.TCPConnector(limit=0, ssl=self._access.tls)
            )
            self._http = aiohttp.ClientSession(
                connector=connector,
                headers=self._access.headers,
                timeout=aiohttp.ClientTimeout(self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._http

    def _url(self, target: str) -> URL:
        return URL(self._access.url + target, encoded=True)

    async def exchange(self, request: Request) -> Response:
        """Send a request.

        Raises:
            Broken: there is no answer.
        """
        try:
            async with self._session().request(
                request.method,
                self._url(request.target),
                data=request.content,
                headers=request.all_headers,
                allow_redirects=False,
            ) as response:
                return Response(response.status, response.reason or "", response.headers, await response.read())
        except TimeoutError as error:
            raise Broken("the server does not answer", waited_s=self._timeout_s) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(str(error) or type(error).__name__) from error

    async def open_socket(self, target: str) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket of aiohttp: its frames cost a load generator less.

        Raises:
            Broken: no connection, or the server refused.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._session().ws_connect(
                    self._url(target),
                    protocols=(SUBPROTOCOL,),
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSING_S),
                    compress=0,
                    max_msg_size=0,
                )
        except aiohttp.WSServerHandshakeError as error:
            later_s = None if error.headers is None else retry_after_s(error.headers)
            raise Broken(str(error), status=error.status, retry_after_s=later_s) from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise Broken(str(error) or type(error).__name__) from error

    async def _now(self) -> float:
        return time.monotonic()

    async def _opened(self, target: str) -> ClientConnection:
        try:
            socket = await connect(address(self._access, target), **arguments(self._access, self._timeout_s))
        except BREAKS as error:
            raise broken(error, self._timeout_s) from error
        self._sockets.add(socket)
        return socket

    async def _closed(self, socket: ClientConnection) -> None:
        self._sockets.discard(socket)
        with suppress(*BREAKS):
            await socket.close()

    async def _sent(self, socket: ClientConnection, content: bytes | str) -> None:
        try:
            await socket.send(content)
        except BREAKS as error:
            raise broken(error) from error

    async def _read(self, socket: ClientConnection, timeout_s: float) -> bytes | str | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await socket.recv()
        except TimeoutError:
            return None
        except BREAKS as error:
            raise broken(error) from error
