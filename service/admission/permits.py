"""Which requests a server takes: so many at a time, and none once it is about to end."""

from __future__ import annotations

import asyncio

from service.admission.uploads import Uploads
from service.errors import Overloaded, ShuttingDown

BUSY_RETRY_S = 1.0


class Admission:
    """A context that may be entered many times at once; each is a place. Used from one event loop.

    at_most: requests under way. uploads: of their bodies.
    """

    def __init__(self, at_most: int, uploads: Uploads) -> None:
        self._at_most = at_most
        self._uploads = uploads
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._admits = True
        self._is_ready = True

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self._is_ready

    def __enter__(self) -> None:
        """A place among the requests under way, until ``__exit__``.

        Raises:
            Overloaded: all places are taken. ShuttingDown: no more are given.
        """
        again = "send the chunk again in"
        if not self._admits:
            raise ShuttingDown(f"the server is shutting down: {again} {BUSY_RETRY_S:g} s", BUSY_RETRY_S)
        if self._in_flight >= self._at_most:
            raise Overloaded(f"{self._in_flight} requests are waiting: {again} {BUSY_RETRY_S:g} s", BUSY_RETRY_S)
        self.take()

    def __exit__(self, *_: object) -> None:
        self.give()

    def take(self) -> None:
        """A place for what is under way whether there is one or not."""
        self._in_flight += 1
        self._idle.clear()

    def give(self) -> None:
        """Give a place back."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def leave_rotation(self) -> None:
        """Be not ready from now on, and serve on: balancers have to notice first."""
        self._is_ready = False

    async def stop(self) -> None:
        """Give no more places, and wait until all are given back; nobody may keep his by sending slowly."""
        self._is_ready = self._admits = False
        self._uploads.end_soon()
        await self._idle.wait()
