"""Messages between workers: calls of an ASGI application, their replies, and cancellations.

A message is its length (4 bytes), its kind (1), the number of its call (8), and its content. The content of calls and
replies is the length of a head (4), the head, and a body. Heads are written by ``marshal``: both ends run the same
program, and nobody else can reach the sockets.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, NamedTuple

_FRAME = struct.Struct("!IBQ")
_LENGTH = struct.Struct("!I")


class Kind(IntEnum):
    call = 0
    reply = 1
    cancel = 2


class Call(NamedTuple):
    """A request.

    Attributes:
        method: of HTTP.
        path: of the URL.
        query: of the URL.
        content_type: of the body; empty if there is none.
        client: address and port at the other end of the client's connection.
        context: headers by which the other worker's log and spans name the request.
    """

    method: str
    path: str
    query: bytes = b""
    content_type: bytes = b""
    client: tuple[str, int] | None = None
    context: tuple[tuple[bytes, bytes], ...] = ()


class Reply(NamedTuple):
    """A response.

    Attributes:
        status: of HTTP.
        headers: of the response.
        body: of the response.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Message(NamedTuple):
    """What has come.

    Attributes:
        kind: of the message.
        number: of the call.
        head: of a call or a reply.
        body: of a call or a reply.
    """

    kind: Kind
    number: int
    head: Any
    body: bytes


def pack(kind: Kind, number: int, head: Any = (), body: bytes = b"") -> bytes:
    """The bytes of a message."""
    packed = marshal.dumps(head)
    length = _FRAME.size - _LENGTH.size + _LENGTH.size + len(packed) + len(body)
    return b"".join((_FRAME.pack(length, kind, number), _LENGTH.pack(len(packed)), packed, body))


class Unpacker:
    """Cuts bytes into messages."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def receive(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with more bytes."""
        self._rest += data
        begin = 0
        while len(self._rest) - begin >= _FRAME.size:
            length, kind, number = _FRAME.unpack_from(self._rest, begin)
            end = begin + _LENGTH.size + length
            if len(self._rest) < end:
                break
            position = begin + _FRAME.size
            (head_length,) = _LENGTH.unpack_from(self._rest, position)
            position += _LENGTH.size
            head = marshal.loads(self._rest[position : position + head_length])
            body = bytes(self._rest[position + head_length : end])
            begin = end
            yield Message(Kind(kind), number, head, body)
        del self._rest[:begin]
