"""Holds calls back for milliseconds, so that chunks that come together are decoded and computed together.

The library accepts one call after the other, and each takes several rounds of the event loop. Without this, the batcher
would compute every chunk alone, at several times the cost.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

GAP_S = 2e-3  # after this time without a new call, none is expected. uvloop's timers count milliseconds
MOST_S = 16e-3  # a chunk waits no longer
BATCHES = 16  # the number of expected calls is the highest of the last 16 batches


class Gathering:
    """The calls of a server. Used from one event loop.

    Chunks wait until as many wait as calls were in flight at a time (in the last ``BATCHES`` batches, or twice as
    many), or until no other call has come for ``GAP_S``. So a single client never waits. A call that is still computed
    after a later batch has started is long, and nobody waits for it.
    """

    def __init__(self) -> None:
        self._calls = 0
        self._most = [0, 1]
        self._left = BATCHES
        self._waiting: list[tuple[GatheredCall, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._last_s = self._due_s = 0.0
        self._latest: set[GatheredCall] = set()  # the calls of the last batch that have not ended
        self._long = 0  # calls of earlier batches that have not ended

    def call(self) -> GatheredCall:
        return GatheredCall(self)

    def begin(self) -> None:
        """Count a call that has begun."""
        self._calls += 1
        self._most[0] = max(self._most[0], self._calls)

    def end(self, call: GatheredCall) -> None:
        """Count a call that has ended."""
        self._calls -= 1
        if call in self._latest:
            self._latest.remove(call)
        elif call.has_gone_on:
            self._long -= 1

    async def others(self, call: GatheredCall) -> None:
        """Wait for other calls; the first to come goes on first."""
        loop = asyncio.get_running_loop()
        expected = max(self._most) - self._long
        if expected <= 1 and not self._waiting:
            self._together({call})
            return
        turn = loop.create_future()
        self._waiting.append((call, turn))
        self._last_s = time.monotonic()
        if len(self._waiting) >= expected:
            loop.call_soon(self._go_on)  # the last one too waits for it, behind the others
        elif self._timer is None:
            self._due_s = self._last_s + MOST_S
            self._timer = loop.call_later(GAP_S, self._late)
        await turn

    def _together(self, calls: set[GatheredCall]) -> None:
        self._long += len(self._latest)
        self._latest = calls
        for call in calls:
            call.has_gone_on = True

    def _late(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = time.monotonic()
        if now_s < (due_s := min(self._last_s + GAP_S, self._due_s)):
            self._timer = loop.call_later(due_s - now_s, self._late)
        else:
            self._timer = None
            loop.call_soon(self._go_on)  # behind the calls that have come meanwhile

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._left -= 1
        if not self._left:
            self._left = BATCHES
            self._most = [self._calls, self._most[0]]
        waiting, self._waiting = self._waiting, []
        here = [(call, turn) for call, turn in waiting if not turn.done()]  # the callers of the others have gone
        if here:
            self._together({call for call, _ in here})
        for _, turn in here:
            turn.set_result(None)


class GatheredCall:
    """One call, as a context manager. ``has_gone_on``: it has waited for others."""

    __slots__ = ("_gathering", "has_gone_on")

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering
        self.has_gone_on = False

    def __enter__(self) -> GatheredCall:
        self._gathering.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gathering.end(self)

    async def others(self) -> None:
        await self._gathering.others(self)
