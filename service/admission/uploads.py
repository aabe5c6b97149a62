"""Limits for the bodies of requests: the time of each, and the bytes of all together."""

from __future__ import annotations

import asyncio
from types import TracebackType

from service.errors import RETRY_S, Overloaded, ShuttingDown, TooSlow

ENDING_S = 2.0  # time for bodies under way once the server shuts down
FREE_BYTES = 64 * 1024  # not counted: as much of a body is in its connection's buffer anyway


class Uploads:
    """All bodies under way. Used from one event loop.

    A body counts from when it is read until its request is answered. A body of up to ``FREE_BYTES`` that arrives in
    one piece does not count.

    Nearly every body is there before it is asked for, so one timer, for the oldest, serves all of them: a timer each
    would cost 5% of a chunk's time.

    Args:
        max_bytes: most bytes of all bodies.
        timeout_s: time for one body to arrive.
    """

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._bytes = 0
        self._reading: dict[asyncio.Timeout, float] = {}  # until when, in seconds of the event loop; the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._is_ending = False

    @property
    def bytes(self) -> int:
        """Bytes of all bodies under way."""
        return self._bytes

    def begin(self) -> asyncio.Timeout:
        """The time of a body that is read from now on: a context that raises TimeoutError when it is over."""
        loop = asyncio.get_running_loop()
        allowed_s = ENDING_S if self._is_ending else self._timeout_s
        deadline = asyncio.timeout(None)
        self._reading[deadline] = loop.time() + allowed_s
        if self._timer is None:
            self._timer = loop.call_later(allowed_s, self._interrupt)
        return deadline

    def end(self, deadline: asyncio.Timeout) -> None:
        """The body is read no more."""
        del self._reading[deadline]

    def late(self) -> TooSlow | ShuttingDown:
        """Why a body's time was over, as an error."""
        if self._is_ending:
            return ShuttingDown(f"the server is shutting down: send the chunk again in {RETRY_S:g} s")
        return TooSlow(
            f"the body was not complete after {self._timeout_s:g} s: send it faster, or cut the input into "
            "several chunks"
        )

    def end_soon(self) -> None:
        """Give bodies under way, and new ones, ``ENDING_S`` at most."""
        self._is_ending = True
        latest_s = asyncio.get_running_loop().time() + ENDING_S
        self._reading = {deadline: min(until_s, latest_s) for deadline, until_s in self._reading.items()}
        self.close()
        self._interrupt()

    def close(self) -> None:
        """Cancel the timer; another event loop may follow."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _interrupt(self) -> None:
        """Interrupt what is overdue, and come again for the next."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for deadline, until_s in self._reading.items():
            if until_s > loop.time():
                self._timer = loop.call_at(until_s, self._interrupt)
                return
            if deadline.when() is None:  # else it is interrupted already
                deadline.reschedule(loop.time())

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
