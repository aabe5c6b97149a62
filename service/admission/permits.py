"""Admits requests: a limited number at a time, and none when the server shuts down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf

from service.admission.budget import Budget
from service.admission.uploads import Uploads, shutting_down
from service.clock import Clock
from service.errors import RETRY_S, Overloaded
from service.observe.timings import Transport


class Admission:
    """Permits for requests in flight. Used from one event loop.

    Args:
        uploads: bodies of the requests.
        queue_timeout_s: time within which the work for a request must begin.
        clock: seconds, for that time.

    Attributes:
        idle: set while no request is in flight.
        admits: permits are still given.
        before_stop: awaited by ``stop`` first: finishes the chunks that have arrived on streams and have no permit yet.
    """

    def __init__(
        self,
        budget: Budget,
        uploads: Uploads,
        queue_timeout_s: float = inf,
        clock: Clock = time.monotonic,
    ) -> None:
        self.ledger = budget.requests
        self._uploads = uploads
        self.queue_timeout_s = queue_timeout_s
        self.clock = clock
        self.idle = asyncio.Event()
        self.idle.set()
        self.admits = True
        self._is_ready = True
        self.before_stop: Callable[[], Awaitable[None]] | None = None

    @property
    def in_flight(self) -> int:
        """Count the requests in flight."""
        return self.ledger.total

    @property
    def is_ready(self) -> bool:
        """Return whether balancers should send requests to this server."""
        return self._is_ready

    def check(self, client: str) -> None:
        """Check that a request may come, as ``Uploads.check``."""
        if not self.admits:
            raise shutting_down()
        self._uploads.check(client)

    def permit(self, client: str, transport: Transport = "http", came_s: float | None = None) -> Permit:
        """Make a permit, a context manager: taken when the request's body has arrived, and held until the reply.

        Args:
            client: the request's sender.
            transport: the request's transport.

        Raises:
            Overloaded, ShuttingDown: as ``check``.
        """
        return Permit(self, client, transport, came_s)

    async def finish(self) -> None:
        """Wait until no request is in flight."""
        await self.idle.wait()

    def leave_rotation(self) -> None:
        """Become unready and go on serving, so that balancers notice."""
        self._is_ready = False

    async def stop(self) -> None:
        """Admit no more requests, and wait for those in flight. Unfinished bodies get ``ENDING_S``."""
        self._is_ready = False
        self._uploads.end_soon()
        await self._uploads.finish()  # those that arrive in time still get a permit,
        for _ in range(2):  # rounds of the event loop (``Ingress.begin``)
            await asyncio.sleep(0)
        if self.before_stop is not None:
            await self.before_stop()
        self.admits = False
        await self.idle.wait()


class Permit:
    """A permit of ``Admission.permit``.

    Attributes:
        client: the request's sender.
        due_s: deadline for the beginning of the work, in seconds of the clock; set when the permit is taken.
        transport: the request's transport.
        came_s: when the request was complete, in seconds of ``time.perf_counter``.
        place: gives back what is held together with the permit; None if there is nothing.
    """

    __slots__ = ("_admission", "_is_taken", "came_s", "client", "due_s", "place", "transport")

    def __init__(
        self, admission: Admission, client: str, transport: Transport = "http", came_s: float | None = None
    ) -> None:
        self._admission = admission
        self.client = client
        self.due_s = inf
        self.transport = transport
        self.came_s = time.perf_counter() if came_s is None else came_s
        self.place: Callable[[], None] | None = None
        self._is_taken = False

    def take(self) -> None:
        """Take the permit.

        Raises:
            Overloaded, ShuttingDown: as ``Admission.check``.
        """
        admission = self._admission
        if not admission.admits:
            raise shutting_down()
        admission.ledger.take(self.client)
        admission.idle.clear()
        self.due_s = admission.clock() + admission.queue_timeout_s
        self._is_taken = True

    def give_back(self) -> None:
        """Give back the permit, if it is taken, and what is held with it."""
        if self._is_taken:
            self._is_taken = False
            admission = self._admission
            admission.ledger.give(self.client)
            if not admission.ledger.total:
                admission.idle.set()
        if self.place is not None:
            give_back, self.place = self.place, None
            give_back()

    def __enter__(self) -> Permit:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()


def waited_too_long() -> Overloaded:
    """Make the error for a chunk that has not begun in time."""
    return Overloaded(f"the chunk waited too long for its turn, and was not applied: send it again in {RETRY_S:g} s")
