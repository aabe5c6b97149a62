"""WebSockets as bytes, for tests that send what no library sends."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

from websockets.frames import Frame, Opcode

from hetsyn_client.events import pack_events
from tests.support.clients.described import check_described
from tests.support.servers.socket_server import Listening

TEXT, BINARY, CONT, PING, CLOSE = Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.CLOSE
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
EVENTS = "encoding=events"


def handshake(query: str, *fields: str, line: str = "GET /stream?{} HTTP/1.1") -> bytes:
    """An opening handshake with further headers."""
    usual = [
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: hetsyn.v1",
    ]
    return "\r\n".join((line.format(query), *usual, *fields, "", "")).encode()


def sent(opcode: Opcode, content: bytes, *, fin: bool = True) -> bytes:
    """A frame of a client."""
    return Frame(opcode, content, fin).serialize(mask=True)


def by_length(value: object) -> str | None:
    """The name of a parameter that is a frame: its mask is random, and each process must find the same tests."""
    return f"{len(value)} bytes" if isinstance(value, bytes) else None


def said(kind: str, **members: Any) -> bytes:
    """A text frame of a client."""
    return sent(TEXT, json.dumps({"type": kind, **members}).encode())


def received(content: bytes) -> list[tuple[int, bytes]]:
    """The frames of a server: opcode and content of each that is complete."""
    frames = []
    while len(content) >= 2:
        length, at = content[1] & 127, 2
        if length == 126:
            (length,), at = struct.unpack(">H", content[2:4]), 4
        elif length == 127:
            (length,), at = struct.unpack(">Q", content[2:10]), 10
        if len(content) < at + length:
            break
        frames.append((content[0] & 15, content[at : at + length]))
        content = content[at + length :]
    return frames


class Socket:
    """A WebSocket of the loopback, opened by hand: it sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def open(self, query: str, *fields: str, line: str = "GET /stream?{} HTTP/1.1") -> dict[str, Any]:
        """Send the handshake, and return ``Begin``."""
        self.writer.write(handshake(query, *fields, line=line))
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head + await self._reader.read(2000)
        return await self.frame()

    async def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def any_frame(self) -> tuple[int, bytes]:
        """Opcode and content of the next frame."""
        head = await self._reader.readexactly(2)
        more = {126: 2, 127: 8}.get(head[1], 0)
        length = int.from_bytes(await self._reader.readexactly(more), "big") if more else head[1]
        return head[0] & 15, await self._reader.readexactly(length)

    async def frame(self) -> dict[str, Any]:
        """The next text frame, which is as ``/asyncapi.json`` says."""
        opcode, content = await self.any_frame()
        while opcode in (PING, Opcode.PONG):
            opcode, content = await self.any_frame()
        assert opcode == TEXT, (opcode, content)
        frame: dict[str, Any] = json.loads(content)
        check_described(frame)
        return frame

    async def frames(self, count: int) -> list[dict[str, Any]]:
        return [await self.frame() for _ in range(count)]

    async def closed(self) -> int:
        """The code of the close frame, which comes next; then nothing comes any more."""
        opcode, content = await self.any_frame()
        assert opcode == CLOSE, (opcode, content)
        self.writer.write(sent(CLOSE, content[:2]))
        assert await self._reader.read() == b""
        self.writer.close()
        return int.from_bytes(content[:2], "big")

    async def refused(self) -> tuple[str, int]:
        """The problem of the error frame that comes next, and the code of the close frame after it."""
        frame = await self.frame()
        while frame["type"] != "Error":
            frame = await self.frame()
        return frame["problem"], await self.closed()


NOTHING = sent(BINARY, pack_events(5, [], []))
"""A chunk of five silent steps."""


async def opened(server: Listening, query: str = EVENTS, *fields: str) -> tuple[Socket, dict[str, Any]]:
    """A stream, and its first frame."""
    socket = Socket(*await server.connect())
    return socket, await socket.open(query, *fields)
