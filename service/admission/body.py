"""Reads a request's body within limits of length, time and memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from service.admission.uploads import FREE_BYTES, Upload
from service.errors import TooLarge

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's ``receive``."""


class ClientDisconnect(Exception):
    """The client disconnected before it had sent its whole request."""


async def read_body(receive: Receive, declared: bytes, max_bytes: int, upload: Upload) -> bytes:
    """Read the body of a request.

    Args:
        receive: of the request.
        declared: the header ``Content-Length``; empty if there is none.
        max_bytes: longest body.
        upload: counts the bytes that are read.

    Raises:
        TooLarge: the body is longer than ``max_bytes``; reading stops there.
        TooSlow: the body did not arrive in time, or others needed its room.
        Overloaded: the bytes of other bodies take all the room.
        ShuttingDown: the server ends.
        ClientDisconnect: the client disconnected.
    """
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    deadline = upload.uploads.begin(upload.client)
    try:
        async with deadline:
            return await _receive(receive, max_bytes, upload)
    except TimeoutError:
        raise upload.uploads.late(deadline) from None
    finally:
        upload.uploads.end(deadline)


async def _receive(receive: Receive, max_bytes: int, upload: Upload) -> bytes:
    parts: list[bytes] = []
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        length += len(part)
        if length > max_bytes:
            raise _too_large(max_bytes)
        if not (more or parts) and length <= FREE_BYTES:
            return part  # it was there at once
        upload.take(len(part))
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is longer than {max_bytes} bytes: cut the input into several chunks")
