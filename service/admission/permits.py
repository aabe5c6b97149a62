"""Which requests a server takes: so many at a time, and none once it is about to end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.admission.uploads import Uploads
from service.errors import Overloaded, ShuttingDown

BUSY_RETRY_S = 1.0
T = TypeVar("T")


class Admission:
    """A context that may be entered many times at once; each entry is a permit. Used from one event loop.

    Args:
        at_most: permits.
        uploads: bodies of the requests.
    """

    def __init__(self, at_most: int, uploads: Uploads) -> None:
        self._at_most = at_most
        self._uploads = uploads
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._admits = True
        self._is_ready = True
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self._is_ready

    def __enter__(self) -> None:
        """Take a permit, until ``__exit__``. A request takes one before its body is read, and is answered within it.

        Raises:
            Overloaded: all permits are taken.
            ShuttingDown: no more are given.
        """
        again = "send the chunk again in"
        if not self._admits:
            raise ShuttingDown(f"the server is shutting down: {again} {BUSY_RETRY_S:g} s", BUSY_RETRY_S)
        if self._in_flight >= self._at_most:
            raise Overloaded(f"{self._in_flight} requests are waiting: {again} {BUSY_RETRY_S:g} s", BUSY_RETRY_S)
        self._take()

    def __exit__(self, *_: object) -> None:
        self._give()

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work returns. It is done as a whole though its caller goes away, and holds a permit until then."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._take()  # the caller gives its own permit back
                task.add_done_callback(lambda _: self._give())
            raise

    async def finish(self) -> None:
        """Wait for the work that is under way."""
        while self._running:
            await asyncio.wait(self._running)

    def _take(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _give(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def leave_rotation(self) -> None:
        """Be not ready from now on, and serve on: balancers have to notice first."""
        self._is_ready = False

    async def stop(self) -> None:
        """Give no more permits, and wait until all are given back; nobody may keep one by sending slowly."""
        self._is_ready = self._admits = False
        self._uploads.end_soon()
        await self._idle.wait()
