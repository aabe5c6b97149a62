"""A response in one packet: its headers go out with its body."""

from __future__ import annotations

import asyncio

LINGER_S = 2.0  # a client has as long to read a refusal before it is disconnected


class ResponseWriter:
    """A connection's transport, as uvicorn's responses use it.

    uvicorn writes the headers and the body of a response one after the other. Each would be a call of the system and a
    packet of its own, which costs 2% of a chunk's CPU time. So bytes wait for those that follow in the same round of
    the event loop.

    Args:
        transport: of the connection.
        loop: of the connection.

    Attributes:
        lingers: whether ``close`` lets the client send on, though nobody reads it. Otherwise the system would discard
            the response together with what the client has sent.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""
        self.lingers = False

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
            self._transport.write(data)
            return
        self._held = data
        self._loop.call_soon(self.flush)

    def close(self) -> None:
        """Close the transport after what was written."""
        self.flush()
        if self.lingers and self._transport.can_write_eof():
            self._transport.write_eof()
            self._loop.call_later(LINGER_S, self._transport.abort)
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def flush(self) -> None:
        """Write what waits now."""
        if self._held:
            data, self._held = self._held, b""
            self._transport.write(data)
