"""A request's body, bounded while it is read."""

from __future__ import annotations

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.errors import TooLarge


async def read_body(receive: Receive, declared: bytes, max_bytes: int) -> bytes:
    """The body.

    Args:
        declared: the content length, as the header has it.

    Raises:
        TooLarge: it is longer than ``max_bytes``; no more than that is read.
        ClientDisconnect: the client went away.
    """
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        length += len(part)
        if length > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is longer than {max_bytes} bytes: cut the input into several chunks")
