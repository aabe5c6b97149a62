"""Requests of httpx to a server in the test's own loop, over connections without sockets.

httpx's own transport for ASGI has no connection, and the server answers requests with a chunk on its connections.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpcore
import httpx
import uvicorn
from uvicorn.server import ServerState

from service.api.application import Application


class Wire(asyncio.Transport):
    """The server's end of a connection.

    Args:
        client: address at the other end.

    Attributes:
        connection: of the server.
    """

    def __init__(self, app: Application, client: str = "127.0.0.1") -> None:
        super().__init__({"peername": (client, 50_000), "sockname": ("127.0.0.1", 80)})
        config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False)
        self.connection = app.state.server.protocol(config, ServerState(), {})
        self._sent = bytearray()
        self._news = asyncio.Event()
        self._is_closed = False
        self.connection.connection_made(self)

    @property
    def has_sent(self) -> bool:
        """The server has sent something that nobody has read."""
        return bool(self._sent)

    async def read(self, most_bytes: int) -> bytes:
        """What the server has sent, as soon as there is something; nothing at the end."""
        while not self._sent and not self._is_closed:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._sent[:most_bytes])
        del self._sent[:most_bytes]
        return data

    async def send(self, data: bytes) -> None:
        """Hand bytes to the server."""
        if not self._is_closed:
            self.connection.data_received(data)
        await asyncio.sleep(0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._sent += data
        self._news.set()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._news.set()
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._is_closed

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Stream(httpcore.AsyncNetworkStream):
    """The client's end of a connection, as httpcore calls it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return await self._wire.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        await self._wire.send(buffer)

    async def aclose(self) -> None:
        self._wire.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        return None


class WireBackend(httpcore.AsyncNetworkBackend):
    """Connects to an application, whatever the address."""

    def __init__(self, app: Application, client: str) -> None:
        self._app, self._client = app, client

    async def connect_tcp(self, *_: Any, **__: Any) -> Stream:
        return Stream(Wire(self._app, self._client))


def wire_transport(app: Application, client: str = "127.0.0.1") -> httpx.AsyncHTTPTransport:
    """A transport of httpx to a running application.

    Args:
        app: with its lifespan entered.
        client: address of the client.
    """
    transport = httpx.AsyncHTTPTransport()
    transport._pool = httpcore.AsyncConnectionPool(network_backend=WireBackend(app, client))
    return transport
