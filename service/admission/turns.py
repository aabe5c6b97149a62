"""Runs slow work: a few places that clients take in turn, and work on threads that nothing ends early."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any, TypeVar

from service.admission.budget import waited_too_long

T = TypeVar("T")


async def on_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run work on a thread to its end. A cancelled caller holds its resources until then."""
    task = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # else asyncio logs it, although nobody waits for it
        raise


class Turns:
    """Limits how much work runs at a time. A free place goes to the next client in turn, not to the oldest work.

    So a client waits for at most one work of each other client. Large work takes several places. It begins when one is
    free, and no other work begins until all that it takes more are given back. Used from one event loop.
    """

    def __init__(self, places: int) -> None:
        self._free = places  # negative after large work
        self._waiting: OrderedDict[str, deque[tuple[asyncio.Future[None], int]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str, due_s: float = inf) -> AsyncIterator[None]:
        """Hold a place, as a context manager.

        Raises:
            Overloaded: the turn did not come by ``due_s``, in seconds of ``time.monotonic``.
        """
        if not self.take():
            await self.wait(client, due_s)
        try:
            yield
        finally:
            self.give_back()

    def take(self, places: int = 1) -> bool:
        """Take places if one is free. Returns whether it did."""
        if self._free <= 0:
            return False
        self._free -= places
        return True

    async def wait(self, client: str, due_s: float, places: int = 1, *, is_begun: bool = False) -> None:
        """Wait until a place is free, and take places. Arguments and errors as ``turn``.

        Args:
            is_begun: the work had a place before: it goes before the client's other work.
        """
        turn = asyncio.get_running_loop().create_future()
        waiting = turn, places
        row = self._waiting.setdefault(client, deque())
        if is_begun:
            row.appendleft(waiting)
        else:
            row.append(waiting)
        try:
            async with asyncio.timeout(None if due_s == inf else max(0.0, due_s - time.monotonic())):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give_back(places)  # they came at the same moment
            elif waiting in row:
                row.remove(waiting)
                if not row and self._waiting.get(client) is row:
                    del self._waiting[client]
            if isinstance(error, TimeoutError):
                raise waited_too_long() from None
            raise

    def give_back(self, places: int = 1) -> None:
        """Give back places. The next waiting clients take what is free."""
        self._free += places
        while self._waiting and self._free > 0:
            client, row = self._waiting.popitem(last=False)
            turn, wanted = row.popleft()
            if row:
                self._waiting[client] = row
            if not turn.done():  # else its work was just cancelled
                self._free -= wanted
                turn.set_result(None)
