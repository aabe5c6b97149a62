"""Bodies that are being read: for how long each, and how many bytes of them there may be at a time.

Nearly every body is there before it is asked for, so one costs no timer of its own: there is one for all, which looks
at the oldest.
"""

from __future__ import annotations

import asyncio
from asyncio import current_task
from time import monotonic
from types import TracebackType

from service.errors import HetsynError, Overloaded, ShuttingDown, TooSlow

RETRY_S = 1.0
ENDING_S = 2.0  # that bodies under way have once no more requests are taken
FREE_BYTES = 64 * 1024  # as much of a body lies in the buffer of its connection anyway


class Uploads:
    """Used from one event loop.

    Args:
        at_most_bytes: of all bodies under way that do not come at once, from when they are read until their requests
            are answered. timeout_s: for one body.
    """

    def __init__(self, at_most_bytes: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._at_most_bytes = at_most_bytes
        self._bytes = 0
        self.reading: dict[Upload, None] = {}  # the oldest first
        self.is_looking = False
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.TimerHandle | None = None

    @property
    def bytes(self) -> int:
        """Held by bodies under way."""
        return self._bytes

    def end_soon(self) -> None:
        """Let what is being read come to its end, but not for long."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(ENDING_S, self._end)

    def close(self) -> None:
        """Forget the event loop; another may follow."""
        for timer in (self._timer, self._ending):
            if timer is not None:
                timer.cancel()
        self._timer = self._ending = None
        self.is_looking = False

    # uploads call these

    def look_later(self) -> None:
        self.is_looking = True
        self._timer = asyncio.get_running_loop().call_later(self.timeout_s, self._look)

    def take(self, count: int) -> None:
        """
        Raises:
            Overloaded: there is no room for so many bytes more.
        """
        if self._bytes + count > self._at_most_bytes:
            raise Overloaded(
                f"{self._bytes} bytes of bodies are under way: send the chunk again in {RETRY_S:g} s", RETRY_S
            )
        self._bytes += count

    def give(self, count: int) -> None:
        self._bytes -= count

    def _look(self) -> None:
        """At the oldest: some may be overdue, and the next will be after a while."""
        self.is_looking = False
        now_s = monotonic()
        for upload in list(self.reading):
            left_s = upload.began_s + self.timeout_s - now_s
            if left_s > 0:
                self.is_looking = True
                self._timer = asyncio.get_running_loop().call_later(left_s, self._look)
                return
            upload.interrupt(
                TooSlow(
                    f"the body was not complete after {self.timeout_s:g} s: send it faster, or cut the input into "
                    "several chunks"
                )
            )

    def _end(self) -> None:
        self._ending = None
        for upload in list(self.reading):
            upload.interrupt(
                ShuttingDown(f"the server is shutting down: send the chunk again in {RETRY_S:g} s", RETRY_S)
            )


class Upload:
    """A context: within it the body of one request is read, and the request answered."""

    began_s: float
    _task: asyncio.Task[object] | None
    # of the class until one has its own: few ever do
    _bytes = 0
    _cancelling = 0
    _interruption: HetsynError | None = None

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bytes:
            self._uploads.give(self._bytes)
            self._bytes = 0

    def begin(self) -> None:
        """The body is being read from now on, in this task."""
        uploads = self._uploads
        uploads.reading[self] = None
        if not uploads.is_looking:
            uploads.look_later()
        self._task = current_task()
        self.began_s = monotonic()

    def end(self) -> None:
        """It is being read no more."""
        self._uploads.reading.pop(self, None)

    def take(self, count: int) -> None:
        """Hold so many bytes more.

        Raises:
            Overloaded: there is no room for them.
        """
        self._uploads.take(count)
        self._bytes += count

    def interrupt(self, error: HetsynError) -> None:
        """Cancel the task, which waits for the client; ``raise_interruption`` tells it why."""
        self.end()
        if self._task is not None:
            self._interruption = error
            self._cancelling = self._task.cancelling()
            self._task.cancel()

    def raise_interruption(self) -> None:
        """To be called where the task was cancelled.

        Raises:
            TooSlow, ShuttingDown: by ``interrupt``, and by nobody else.
        """
        if self._interruption is not None and self._task is not None and self._task.uncancel() <= self._cancelling:
            raise self._interruption
