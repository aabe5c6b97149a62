"""Bodies of requests: the time of each while it arrives, and the bytes that it takes until its request is answered."""

from __future__ import annotations

import asyncio
from types import TracebackType

from service.admission.budget import AGAIN, Budget
from service.errors import ShuttingDown, TooSlow

ENDING_S = 2.0  # time for bodies under way once the server shuts down
# Not counted: as much of a body is in its connection's buffer anyway. Nor decoded on a thread, which would cost more
FREE_BYTES = 64 * 1024


class Uploads:
    """All bodies. Used from one event loop.

    A body that is not complete when its request begins is under way until it is. Bytes count from when they arrive
    until the request is answered. A body of up to ``FREE_BYTES`` that arrives in one piece has no bytes that count.

    Args:
        budget: of the bytes.
        timeout_s: time for one body to arrive.

    Attributes:
        is_ending: the server shuts down, and no more bodies should begin.
    """

    def __init__(self, budget: Budget, timeout_s: float) -> None:
        self._ledger = budget.bytes
        self._timeout_s = timeout_s
        self._under_way: set[Upload] = set()
        self._finished = asyncio.Event()
        self._finished.set()
        self.is_ending = False

    @property
    def bytes(self) -> int:
        """Bytes that the server holds for its clients."""
        return self._ledger.total

    @property
    def under_way(self) -> int:
        """Number of bodies under way."""
        return len(self._under_way)

    def begin(self, upload: Upload) -> asyncio.Timeout:
        """The time of a body that is read from now on: a context that raises TimeoutError when it is over."""
        upload.deadline = asyncio.timeout(ENDING_S if self.is_ending else self._timeout_s)
        self._under_way.add(upload)
        self._finished.clear()
        return upload.deadline

    def end(self, upload: Upload) -> None:
        """The body is read no more."""
        self._under_way.discard(upload)
        if not self._under_way:
            self._finished.set()

    def late(self) -> TooSlow | ShuttingDown:
        """Why a body's time was over, as an error."""
        if self.is_ending:
            return ShuttingDown(f"the server is shutting down: {AGAIN}")
        return TooSlow(
            f"the body was not complete after {self._timeout_s:g} s: send it faster, or cut the input into "
            "several chunks"
        )

    def end_soon(self) -> None:
        """Give bodies under way, and new ones, ``ENDING_S`` at most."""
        self.is_ending = True
        latest_s = asyncio.get_running_loop().time() + ENDING_S
        for upload in self._under_way:
            due_s = upload.deadline.when()
            if due_s is not None and due_s > latest_s and not upload.deadline.expired():
                upload.deadline.reschedule(latest_s)

    async def finish(self) -> None:
        """Wait until no body is under way."""
        await self._finished.wait()

    def take(self, upload: Upload, count: int) -> None:
        """Count more bytes of a body.

        Raises:
            Overloaded: there is no room for them.
        """
        self._ledger.take(upload.client, count)
        upload.bytes += count

    def give_back(self, upload: Upload) -> None:
        """Count the bytes of a body no longer."""
        self._ledger.give(upload.client, upload.bytes)
        upload.bytes = 0


class Upload:
    """The body of one request, as a context in which the body is read and the request is answered.

    Args:
        uploads: count the body's bytes until the end of the context.
        client: sender of the body (``budget.client_of``).

    Attributes:
        deadline: the context in which the body is read; set when it is under way.
        bytes: of the body, those that count.
    """

    deadline: asyncio.Timeout

    def __init__(self, uploads: Uploads, client: str) -> None:
        self.uploads = uploads
        self.client = client
        self.bytes = 0

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uploads.give_back(self)
