"""Packs ``application/vnd.hetsyn.carried``, a token and a body. Little endian:

magic      4 bytes  b"HSF1"
token      uint32   length of the token in bytes; 0 without one
type       uint16   length of the body's content type in bytes
           the token, the content type in ASCII, and the body

A token is too long for the headers of most servers and proxies, and base64 would lengthen it by a third.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hetsyn_client.errors import InputError

MEDIA_TYPE = "application/vnd.hetsyn.carried"
MAGIC = b"HSF1"
HEADER = struct.Struct("<4sIH")


class Frame(NamedTuple):
    """A frame's parts.

    Attributes:
        token: empty before a session's first reply.
        body: the chunk.
    """

    token: bytes
    content_type: str
    body: bytes


def pack_frame(token: bytes, content_type: str, body: bytes) -> bytes:
    """Pack a token and a body, with its content type in ASCII."""
    named = content_type.encode("ascii")
    return b"".join((HEADER.pack(MAGIC, len(token), len(named)), token, named, body))


def unpack_frame(data: bytes) -> Frame:
    """Unpack a frame.

    Raises:
        InputError: the bytes are no frame, or cut off.
    """
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise InputError(f"the body does not begin with {MAGIC.decode()} and two lengths (10 bytes): pack it again")
    _, token_bytes, type_bytes = HEADER.unpack_from(data)
    type_begin = HEADER.size + token_bytes
    body_begin = type_begin + type_bytes
    if len(data) < body_begin:
        raise InputError(f"token and content type take {body_begin} bytes, the body has {len(data)}: send all of it")
    try:
        content_type = data[type_begin:body_begin].decode("ascii")
    except UnicodeDecodeError as error:
        raise InputError("the content type in the frame is not ASCII: pack it again") from error
    return Frame(data[HEADER.size : type_begin], content_type, data[body_begin:])
