"""Chunks of calls that come at the same time go on at the same time, so that one batch computes them.

The library accepts one call after the other, and each takes some rounds of the event loop. The batcher would find every
chunk alone, and compute each at several times the cost.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

MOST_S = 4e-3  # that a chunk waits


class Gathering:
    """The calls of a server, each as a context. Used from one event loop.

    Chunks wait until as many wait as calls were in flight at a time, or until the first has waited for ``MOST_S``: then
    fewer are expected. So a client that is alone waits for nobody.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._expected = 1
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls -= 1

    async def others(self) -> None:
        """Wait for others; those that came first go on first."""
        loop = asyncio.get_running_loop()
        self._expected = max(self._expected, self._calls)
        if self._expected == 1:
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) >= self._expected:
            loop.call_soon(self._go_on)  # the last one too waits for it, behind the others
        elif self._timer is None:
            self._timer = loop.call_later(MOST_S, self._late)
        await turn

    def _late(self) -> None:
        self._expected = len(self._waiting)
        self._go_on()

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():  # else its caller has gone
                turn.set_result(None)
