"""Bodies that are being read: how long each may take, and how many bytes all may hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

from service.errors import Overloaded, ShuttingDown, TooSlow

RETRY_S = 1.0
ENDING_S = 2.0  # that bodies under way have once no more requests are taken
FREE_BYTES = 64 * 1024  # as much of a body lies in the buffer of its connection anyway


class Uploads:
    """Used from one event loop.

    Args:
        max_bytes: of all bodies under way that do not come at once, from when they are read until their requests are
            answered.
        timeout_s: for one body.
    """

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._bytes = 0
        self._deadlines: set[asyncio.Timeout] = set()
        self._is_ending = False

    @property
    def bytes(self) -> int:
        """Held by bodies under way."""
        return self._bytes

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Within it a body has to arrive.

        Raises:
            TooSlow: it did not.
            ShuttingDown: the server ends, and did not wait any longer.
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
                raise ShuttingDown(
                    f"the server is shutting down: send the chunk again in {RETRY_S:g} s", RETRY_S
                ) from None
            raise TooSlow(
                f"the body was not complete after {self._timeout_s:g} s: send it faster, or cut the input into "
                "several chunks"
            ) from None

    def end_soon(self) -> None:
        """Let what is being read come to its end, but not for long."""
        self._is_ending = True
        latest_s = asyncio.get_running_loop().time() + ENDING_S
        for deadline in self._deadlines:
            deadline.reschedule(min(latest_s, deadline.when() or latest_s))

    def take(self, count: int) -> None:
        """Hold so many bytes more.

        Raises:
            Overloaded: there is no room for them.
        """
        if self._bytes + count > self._max_bytes:
            raise Overloaded(
                f"{self._bytes} bytes of bodies are under way: send the chunk again in {RETRY_S:g} s", RETRY_S
            )
        self._bytes += count

    def give(self, count: int) -> None:
        """Hold so many bytes less."""
        self._bytes -= count


class Upload:
    """A context: within it the body of one request is read, and the request answered."""

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
