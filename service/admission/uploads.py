"""Limits for the bodies of requests: the time of each, and the bytes of all together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

from service.errors import RETRY_S, Overloaded, ShuttingDown, TooSlow

ENDING_S = 2.0  # time for bodies under way once the server shuts down
FREE_BYTES = 64 * 1024  # not counted: as much of a body is in its connection's buffer anyway


class Uploads:
    """All bodies under way. Used from one event loop.

    A body counts from when it is read until its request is answered. A body of up to ``FREE_BYTES`` that arrives in
    one piece does not count.

    Args:
        max_bytes: most bytes of all bodies.
        timeout_s: time for one body to arrive.
    """

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._bytes = 0
        self._deadlines: set[asyncio.Timeout] = set()
        self._is_ending = False

    @property
    def bytes(self) -> int:
        """Bytes of all bodies under way."""
        return self._bytes

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """A context in which a body has to arrive.

        Raises:
            TooSlow: it did not arrive in time.
            ShuttingDown: the server ends, and the body did not arrive before that.
        """
        try:
            async with asyncio.timeout(ENDING_S if self._is_ending else self._timeout_s) as deadline:
                self._deadlines.add(deadline)
                try:
                    yield
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if self._is_ending:
                raise ShuttingDown(f"the server is shutting down: send the chunk again in {RETRY_S:g} s") from None
            raise TooSlow(
                f"the body was not complete after {self._timeout_s:g} s: send it faster, or cut the input into "
                "several chunks"
            ) from None

    def end_soon(self) -> None:
        """Give bodies under way, and new ones, ``ENDING_S`` at most."""
        self._is_ending = True
        latest_s = asyncio.get_running_loop().time() + ENDING_S
        for deadline in self._deadlines:
            deadline.reschedule(min(latest_s, deadline.when() or latest_s))

    def take(self, count: int) -> None:
        """Count more bytes.

        Raises:
            Overloaded: there is no room for them.
        """
        if self._bytes + count > self._max_bytes:
            raise Overloaded(f"{self._bytes} bytes of bodies are under way: send the chunk again in {RETRY_S:g} s")
        self._bytes += count

    def give(self, count: int) -> None:
        """Count bytes no longer."""
        self._bytes -= count


class Upload:
    """The body of one request, as a context in which the body is read and the request is answered.

    Args:
        uploads: count the body's bytes until the end of the context.

    Attributes:
        uploads: see above.
    """

    def __init__(self, uploads: Uploads) -> None:
        self.uploads = uploads
        self._bytes = 0

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uploads.give(self._bytes)
        self._bytes = 0

    def take(self, count: int) -> None:
        """As ``Uploads.take``, until the end of the context."""
        self.uploads.take(count)
        self._bytes += count
