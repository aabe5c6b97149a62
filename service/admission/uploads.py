"""Reads the bodies of requests within limits of length, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from math import inf
from typing import Any

from service.admission.budget import Admission, shutting_down
from service.admission.connections import Deadline
from service.errors import HetsynError, ShuttingDown, TooLarge, TooSlow

ENDING_S = 2.0  # time for unfinished bodies, and for clients to read, when the server shuts down
# Smaller bodies do not count, because a connection's buffer has as much anyway, and are not decoded on a thread
FREE_BYTES = 64 * 1024
MOST_DIGITS = 20  # limit of a length's digits
SHORTER = "cut the input into several chunks"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Uploads:
    """All bodies. Used from one event loop.

    A body is under way from its request's beginning until it is complete. Bytes count from their arrival until the
    request is answered. The bytes of a body of up to ``FREE_BYTES`` that arrives in one piece do not count.

    Args:
        admission: limits bytes and requests. A request beyond the limit is refused before its body is read.
        timeout_s: time for one body to arrive.
    """

    def __init__(self, admission: Admission, timeout_s: float) -> None:
        self.ledger = admission.budget.bytes
        self.admission = admission
        self._timeout_s = timeout_s
        self._under_way: set[Upload] = set()
        self._finished = asyncio.Event()
        self._finished.set()
        admission.before_stop.append(self._finish)

    @property
    def bytes(self) -> int:
        return self.ledger.total

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def begin(self, upload: Upload) -> None:
        timeout_s = ENDING_S if self.admission.is_ending else self._timeout_s
        upload.deadline.set(asyncio.get_running_loop().time() + timeout_s)
        self._under_way.add(upload)
        self._finished.clear()

    def end(self, upload: Upload) -> None:
        if upload in self._under_way:
            upload.deadline.close()
            self._under_way.remove(upload)
            if not self._under_way:
                self._finished.set()

    def late(self) -> TooSlow | ShuttingDown:
        if self.admission.is_ending:
            return shutting_down()
        return TooSlow(f"the body was not complete after {self._timeout_s:g} s: send it faster, or {SHORTER}")

    async def _finish(self) -> None:
        """Give bodies under way, and new ones, ``ENDING_S`` at most, and wait until those that came have a permit."""
        latest_s = asyncio.get_running_loop().time() + ENDING_S
        for upload in self._under_way:
            if latest_s < upload.deadline.due_s < inf:
                upload.deadline.set(latest_s)
        await self._finished.wait()
        for _ in range(2):  # rounds of the event loop (``Ingress.begin``)
            await asyncio.sleep(0)


class Upload:
    """The body of one request: limits its time until it is complete, and counts its bytes until the answer.

    As a context manager it gives the bytes back at the end.
    """

    deadline: Deadline

    def __init__(self, uploads: Uploads, client: str) -> None:
        self._uploads = uploads
        self._client = client
        self._bytes = 0

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def take(self, count: int) -> None:
        """Count more bytes of the body. Raises Overloaded if there is no room for them."""
        self._uploads.ledger.take(self._client, count)
        self._bytes += count

    def give_back(self) -> None:
        if self._bytes:
            self._uploads.ledger.give(self._client, self._bytes)
            self._bytes = 0

    def check(self) -> None:
        """Check that the request may send its body, as ``Admission.check``."""
        self._uploads.admission.check(self._client)

    def begin(self, late: Callable[[HetsynError], None]) -> None:
        """Wait for the rest of the body, until ``end``. If it does not come in time, ``late`` gets the error."""
        self.deadline = Deadline(lambda: late(self._uploads.late()))
        self._uploads.begin(self)

    def end(self) -> None:
        """Note that the body is complete, or no longer read."""
        self._uploads.end(self)

    async def read(self, receive: Receive, declared: bytes, max_bytes: int, advice: str = SHORTER) -> bytes:
        """Read the body.

        Args:
            declared: the header ``Content-Length``; empty if there is none.
            advice: what to do about a body that is too long.

        Raises:
            TooLarge: the body is longer than ``max_bytes``; reading stops there.
            TooSlow: the body did not arrive in time.
            Overloaded: the limit of requests or of bytes is reached.
            ShuttingDown: the server ends.
        """
        check_length(declared, max_bytes, advice)
        self.check()
        parts: list[bytes] = []
        length = 0
        async with self.under_way():
            while True:
                message = await receive()
                part: bytes = message.get("body", b"")
                length += len(part)
                if length > max_bytes:
                    raise too_large(max_bytes, advice)
                self.take(len(part))
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Count the body as under way within the context. Raises TooSlow or ShuttingDown if it is late."""
        try:
            async with asyncio.timeout(None) as timeout:
                self.begin(lambda _: timeout.reschedule(0.0))
                try:
                    yield
                finally:
                    self.end()
        except TimeoutError:
            raise self._uploads.late() from None


def check_length(declared: bytes, max_bytes: int, advice: str = SHORTER) -> None:
    """Check the header ``Content-Length``. Thousands of zeros are valid, but ``int`` refuses too many digits."""
    digits = declared.lstrip(b"0")
    if digits.isdigit() and (len(digits) > MOST_DIGITS or int(digits) > max_bytes):
        raise too_large(max_bytes, advice)


def too_large(max_bytes: int, advice: str = SHORTER) -> TooLarge:
    return TooLarge(f"the body is longer than {max_bytes} bytes: {advice}")
