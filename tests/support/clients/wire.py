"""Connections without sockets to a server in the test's own loop: for bytes in the pieces that a test names, and httpx.

httpx's own transport for ASGI has no connection, and the server answers requests with a chunk on its connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpcore
import httpx
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState


class Wire(asyncio.Transport):
    """The server's end of a connection.

    Args:
        app: with its lifespan entered.
        client: address at the other end.

    Attributes:
        connection: the server's protocol object.
        is_closed: the server has closed the connection, or writes no more.
    """

    def __init__(self, app: FastAPI, client: str = "127.0.0.1") -> None:
        super().__init__({"peername": (client, 50_000), "sockname": ("127.0.0.1", 80)})
        config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, lifespan="off", ws="none")
        self.server_state = ServerState()
        self.connection = app.state.server.protocol(config, self.server_state, {})
        self.is_closed = self._is_lost = False
        self._reads = asyncio.Event()
        self._reads.set()
        self._written = bytearray()
        self._news = asyncio.Event()
        self.connection.connection_made(self)

    @property
    def has_written(self) -> bool:
        """The server has written something that nobody has read."""
        return bool(self._written)

    async def read(self, most_bytes: int = 2**20) -> bytes:
        """What the server has written, as soon as there is something; nothing at the end."""
        while not self._written and not self.is_closed:
            self._news.clear()
            await self._news.wait()
        data = bytes(self._written[:most_bytes])
        del self._written[:most_bytes]
        return data

    async def send(self, data: bytes) -> None:
        """Hand bytes to the server, when it reads."""
        await self._reads.wait()
        if not self._is_lost:
            self.connection.data_received(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed, "nothing is written after the end"
        self._written += data
        self._news.set()

    def write_eof(self) -> None:
        self.is_closed = True
        self._news.set()
        self._reads.set()

    def close(self) -> None:
        self.write_eof()
        if not self._is_lost:
            self._is_lost = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def pause_reading(self) -> None:
        if not self.is_closed:
            self._reads.clear()

    def resume_reading(self) -> None:
        self._reads.set()


async def exchange(app: FastAPI, requests: Sequence[Sequence[bytes]]) -> tuple[bytes, bool]:
    """Send requests to a server, each in pieces, and each after the answer to the one before.

    Returns:
        All that the server writes, and whether it closes the connection.
    """
    wire = Wire(app)
    for pieces in requests:
        for piece in pieces:
            await wire.send(piece)
        while wire.connection.is_working and not wire.is_closed:
            await asyncio.sleep(0)
    was_closed = wire.is_closed
    wire.close()
    await asyncio.sleep(0)
    return await wire.read(), was_closed


class Stream(httpcore.AsyncNetworkStream):
    """The client's end of a connection, as httpcore calls it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return await self._wire.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        await self._wire.send(buffer)
        await asyncio.sleep(0)

    async def aclose(self) -> None:
        self._wire.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002
        return None


class WireBackend(httpcore.AsyncNetworkBackend):
    """Connects to an application, whatever the address."""

    def __init__(self, app: FastAPI, client: str) -> None:
        self._app, self._client = app, client

    async def connect_tcp(self, *_: Any, **__: Any) -> Stream:
        return Stream(Wire(self._app, self._client))


def wire_transport(app: FastAPI, client: str = "127.0.0.1") -> httpx.AsyncHTTPTransport:
    """A transport of httpx to a running application.

    Args:
        app: with its lifespan entered.
        client: address of the client.
    """
    transport = httpx.AsyncHTTPTransport()
    transport._pool = httpcore.AsyncConnectionPool(network_backend=WireBackend(app, client))
    return transport
