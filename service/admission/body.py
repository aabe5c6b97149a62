"""Reads a request's body within limits of length, time and memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any

from service.admission.uploads import FREE_BYTES, Upload
from service.errors import TooLarge

MOST_DIGITS = 20  # of a length in bytes
SHORTER = "cut the input into several chunks"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
"""ASGI's ``receive``."""


class ClientDisconnect(Exception):
    """The client disconnected before it had sent its whole request."""


async def read_body(receive: Receive, declared: bytes, max_bytes: int, upload: Upload, advice: str = SHORTER) -> bytes:
    """Read the body of a request.

    Args:
        receive: of the request.
        declared: the header ``Content-Length``; empty if there is none.
        max_bytes: longest body.
        upload: counts the bytes that are read.
        advice: what to do about a body that is too long.

    Raises:
        TooLarge: the body is longer than ``max_bytes``; reading stops there.
        TooSlow: the body did not arrive in time.
        Overloaded: the bytes of other bodies take all the room.
        ShuttingDown: the server ends.
        ClientDisconnect: the client disconnected.
    """
    digits = declared.lstrip(b"0")  # thousands of zeros are valid, but ``int`` refuses so many digits
    if digits.isdigit() and (len(digits) > MOST_DIGITS or int(digits) > max_bytes):
        raise _too_large(max_bytes, advice)
    first = _Begun(receive())
    if first.message is not None and not first.message.get("more_body", False):
        return _whole(first.message, max_bytes, upload, advice)  # nearly every body: it needs no time
    try:
        async with upload.uploads.begin(upload):
            return await _receive(first, receive, max_bytes, upload, advice)
    except TimeoutError:
        raise upload.uploads.late() from None
    finally:
        upload.uploads.end(upload)


class _Begun:
    """A call of ``receive`` that has run as far as it can without waiting; to be awaited once if it waits.

    Args:
        call: of ``receive``.

    Attributes:
        message: the result; None if the call waits for the client.
    """

    def __init__(self, call: Awaitable[Message]) -> None:
        self.message: Message | None = None
        self._call = call.__await__()
        try:
            self._waits_for = next(self._call)
        except StopIteration as done:
            self.message = done.value

    def __await__(self) -> Generator[Any, Any, Message]:
        try:
            while True:
                try:
                    value = yield self._waits_for
                except BaseException as error:
                    self._waits_for = self._call.throw(error)
                else:
                    self._waits_for = self._call.send(value)
        except StopIteration as done:
            message: Message = done.value
            return message


def _whole(message: Message, max_bytes: int, upload: Upload, advice: str) -> bytes:
    """A body that was there at once."""
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    body: bytes = message.get("body", b"")
    if len(body) > max_bytes:
        raise _too_large(max_bytes, advice)
    if len(body) > FREE_BYTES:
        upload.uploads.take(upload, len(body))
    return body


async def _receive(first: _Begun, receive: Receive, max_bytes: int, upload: Upload, advice: str) -> bytes:
    parts: list[bytes] = []
    length = 0
    message = first.message or await first
    while True:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        length += len(part)
        if length > max_bytes:
            raise _too_large(max_bytes, advice)
        upload.uploads.take(upload, len(part))
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def _too_large(max_bytes: int, advice: str) -> TooLarge:
    return TooLarge(f"the body is longer than {max_bytes} bytes: {advice}")
