"""WebSockets as bytes, for tests that send what no library sends."""

from __future__ import annotations

import json
import struct
from typing import Any

from websockets.frames import Frame, Opcode

TEXT, BINARY, CONT, PING, CLOSE = Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.CLOSE
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


def handshake(query: str, *fields: str, line: str = "GET /stream?{} HTTP/1.1", leave_out: str = "") -> bytes:
    """An opening handshake.

    Args:
        query: of the URL.
        fields: further headers.
        line: of the request.
        leave_out: name of a header.
    """
    usual = [
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: hetsyn.v1",
    ]
    kept = [field for field in usual if field.partition(":")[0] != leave_out or not leave_out]
    return "\r\n".join((line.format(query), *kept, *fields, "", "")).encode()


def sent(opcode: Opcode, content: bytes, *, fin: bool = True) -> bytes:
    """A frame of a client."""
    return Frame(opcode, content, fin).serialize(mask=True)


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
