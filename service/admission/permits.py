"""Admits requests: a limited number at a time, and none once the server shuts down."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.admission.uploads import Uploads
from service.errors import RETRY_S, Overloaded, ShuttingDown

T = TypeVar("T")


class Admission:
    """Permits for requests in flight. Used from one event loop.

    It is a context that may be entered many times at once: each request takes one permit, after its body has arrived,
    and returns it after its reply. A body that is still on its way has none.

    Args:
        max_in_flight: number of permits.
        uploads: bodies of the requests.
    """

    def __init__(self, max_in_flight: int, uploads: Uploads) -> None:
        self._max_in_flight = max_in_flight
        self._uploads = uploads
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._admits = True
        self._is_ready = True
        self._abandoned: set[asyncio.Task[Any]] = set()

    @property
    def in_flight(self) -> int:
        """Number of requests in flight."""
        return self._in_flight

    @property
    def is_ready(self) -> bool:
        """Whether balancers should send requests to this server."""
        return self._is_ready

    def check(self) -> None:
        """Refuse a request before its body is read.

        Raises:
            Overloaded: all permits are taken.
            ShuttingDown: the server shuts down.
        """
        if self._uploads.is_ending:
            raise self._shutting_down()
        self._check()

    def __enter__(self) -> None:
        """Take a permit.

        Raises:
            Overloaded: all permits are taken.
            ShuttingDown: the server admits no more requests.
        """
        self._check()
        self._take()

    def __exit__(self, *_: object) -> None:
        self._give_back()

    async def complete(self, work: Coroutine[Any, Any, T]) -> T:
        """Do a request's work to its end, even if the request is cancelled. The work has a permit until then.

        Returns:
            The result of the work.
        """
        task = asyncio.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._take()  # the cancelled request gives its own permit back
                self._abandoned.add(task)  # nobody else holds the task now
                task.add_done_callback(self._finish_abandoned)
            raise

    async def finish(self) -> None:
        """Wait for the work that is under way."""
        await self._idle.wait()

    def _finish_abandoned(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for it, and asyncio would report it as never retrieved
        self._give_back()

    def leave_rotation(self) -> None:
        """Become unready and serve on, so that balancers notice."""
        self._is_ready = False

    async def stop(self) -> None:
        """Admit no more requests, and wait for those in flight. Bodies under way get little more time."""
        self._is_ready = False
        self._uploads.end_soon()
        await self._uploads.finish()  # those that arrive in time still get a permit
        self._admits = False
        await self._idle.wait()

    def _check(self) -> None:
        if not self._admits:
            raise self._shutting_down()
        if self._in_flight >= self._max_in_flight:
            raise Overloaded(f"{self._in_flight} requests are waiting: send the chunk again in {RETRY_S:g} s")

    @staticmethod
    def _shutting_down() -> ShuttingDown:
        return ShuttingDown(f"the server is shutting down: send the chunk again in {RETRY_S:g} s")

    def _take(self) -> None:
        self._in_flight += 1
        self._idle.clear()

    def _give_back(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()
