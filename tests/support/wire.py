"""A connection without a socket: what the client sends arrives in exactly the pieces that a test names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from service.api.application import Application


class Wire(asyncio.Transport):
    """The server's end of a connection; keeps what is written.

    Attributes:
        written: by the server.
        is_closed: the server has closed the connection, or writes no more.
        is_paused: the server does not read.
    """

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written = b""
        self.is_closed = self.is_paused = False

    def write(self, data: Any) -> None:
        assert not self.is_closed, "nothing is written after the end"
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.is_closed = True

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


async def exchange(app: Application, requests: Sequence[Sequence[bytes]]) -> tuple[bytes, bool]:
    """Send requests to a server, each in pieces, and each after the answer to the one before.

    Returns:
        All that the server writes, and whether it closes the connection.
    """
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
    server_state = ServerState()
    connection = app.state.server.protocol(config, server_state, {})
    wire = Wire()
    connection.connection_made(wire)
    for pieces in requests:
        for piece in pieces:
            while wire.is_paused and not wire.is_closed:
                await asyncio.sleep(0)
            connection.data_received(piece)
        while server_state.tasks:
            await asyncio.sleep(0)
    await asyncio.sleep(0)  # the last response goes out with the round
    was_closed = wire.is_closed
    connection.connection_lost(None)
    return wire.written, was_closed
