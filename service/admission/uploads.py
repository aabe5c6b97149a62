"""Bodies that are being read: how long each may take, and how many bytes all may hold."""

from __future__ import annotations

import asyncio
from types import TracebackType

from service.errors import Overloaded, ShuttingDown, TooSlow

RETRY_S = 1.0
ENDING_S = 2.0  # that bodies under way have once no more requests are taken
FREE_BYTES = 64 * 1024  # as much of a body lies in the buffer of its connection anyway


class Uploads:
    """Used from one event loop.

    Nearly every body is there before it is asked for, so one timer, for the oldest, serves all of them: a timer each
    would cost 5% of a chunk's time.

    Args:
        max_bytes: of all bodies under way that do not come at once, from when they are read until their requests are
            answered.
        timeout_s: for one body.
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
        """Held by bodies under way."""
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
            return ShuttingDown(f"the server is shutting down: send the chunk again in {RETRY_S:g} s", RETRY_S)
        return TooSlow(
            f"the body was not complete after {self._timeout_s:g} s: send it faster, or cut the input into "
            "several chunks"
        )

    def end_soon(self) -> None:
        """Let what is being read come to its end, but not for long."""
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
            deadline.reschedule(loop.time())

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
