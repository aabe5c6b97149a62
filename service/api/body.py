"""A request's body, bounded while it is read."""

from __future__ import annotations

from fastapi import Request

from service.errors import TooLarge


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body.

    Raises:
        TooLarge: it is longer than ``max_bytes``; no more than that is read.
    """
    too_large = TooLarge(f"the body is longer than {max_bytes} bytes: cut the input into several chunks")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)
