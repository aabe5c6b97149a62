"""One WebSocket at the client's end (RFC 6455), without compression.

Frames of chunks are masked once, before a run: to mask each anew takes CPU time from the server that is measured.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import struct
from typing import Protocol, cast

import numpy as np

from hetsyn_client.loadtest.connections import Response
from tests.support.servers.target import Address

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
SUBPROTOCOL = "hetsyn.v1"
MOST_HEAD_BYTES = 64 * 1024


def handshake(address: Address, path: str) -> bytes:
    """Write an opening handshake. ``path`` includes the query."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {address.authority}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    ).encode("ascii")


def masked(opcode: int, content: bytes) -> bytes:
    """Write a frame of a client, with a new masking key."""
    key = secrets.token_bytes(4)
    length = len(content)
    if length < 126:
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", 0x80 | opcode, 0xFE, length)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 0xFF, length)
    whole = length & ~3
    words = np.frombuffer(content, np.uint32, whole // 4) ^ np.frombuffer(key, np.uint32)[0]
    rest = bytes(byte ^ key[index] for index, byte in enumerate(content[whole:]))
    return b"".join((head, key, words.tobytes(), rest))


class WebSocketOwner(Protocol):
    """Receives the events of a WebSocket."""

    def opened(self, socket: WebSocket) -> None:
        """The server has accepted the handshake."""

    def received(self, socket: WebSocket, opcode: int, content: bytes) -> None:
        """A text or a binary frame has come."""

    def refused(self, socket: WebSocket, response: Response) -> None:
        """The server has answered the handshake as HTTP. ``closed`` follows."""

    def closed(self, socket: WebSocket) -> None:
        """The connection was closed, by either side. Called once, unless the connection was never made."""


class WebSocket(asyncio.Protocol):
    """One connection, and whether frames may be sent on it."""

    def __init__(self, owner: WebSocketOwner, opening: bytes) -> None:
        self.is_open = False
        self._owner = owner
        self._opening = opening
        self._transport: asyncio.Transport | None = None
        self._is_accepted = False
        self._rest = b""  # what has come of the head, or of a frame

    def send(self, frames: bytes) -> None:
        assert self._transport is not None, "send after opened"
        self._transport.write(frames)

    def abort(self) -> None:
        """Close at once; the owner's ``closed`` is called."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._opening)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        self._owner.closed(self)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not self._is_accepted:
            rest = self._read_head(data)
            if rest is None:
                return
            data = rest
        at, end = 0, len(data)
        while end - at >= 2:
            length, begin = data[at + 1], at + 2
            if length > 125:
                begin += 2 if length == 126 else 8
                if length > 127:  # a server's frames are not masked
                    self.abort()
                    return
                if end < begin:
                    break
                length = int.from_bytes(data[at + 2 : begin], "big")
            if end - begin < length:
                break
            opcode = data[at] & 15
            at = begin + length
            self._take(opcode, data[begin:at])
        self._rest = data[at:]

    def _read_head(self, data: bytes) -> bytes | None:
        """Read the answer to the handshake. What follows it; None until it is an acceptance."""
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            self._rest = data
            if len(data) > MOST_HEAD_BYTES:
                self.abort()
            return None
        line, *fields = head.split(b"\r\n")
        status = line.split(b" ")[1:2]
        if status == [b"101"]:
            self._is_accepted = self.is_open = True
            self._owner.opened(self)
            return rest
        headers = dict(field.lower().split(b": ", 1) for field in fields if b": " in field)
        if len(rest) < int(headers.get(b"content-length", b"0")):
            self._rest = data
            return None
        retry = headers.get(b"retry-after", b"")
        code = int(status[0]) if status and status[0].isdigit() else 0
        self._owner.refused(self, Response(code, rest, float(retry) if retry.isdigit() else None))
        self.abort()
        return None

    def _take(self, opcode: int, content: bytes) -> None:
        if opcode in (TEXT, BINARY):
            self._owner.received(self, opcode, content)
        elif opcode == PING and self._transport is not None:
            self._transport.write(masked(PONG, content))
        elif opcode == CLOSE and self._transport is not None:
            self.is_open = False
            self._transport.write(masked(CLOSE, content[:2]))
            self._transport.close()
