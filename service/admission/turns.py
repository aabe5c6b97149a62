"""Slow work: a few places at which clients take turns, and threads that nothing ends."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import Any, TypeVar

from service.admission.permits import waited_too_long

T = TypeVar("T")


async def on_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run something on a thread, to its end. A caller that is cancelled keeps what it holds until then."""
    task = asyncio.create_task(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # else asyncio logs it, though nobody waits for it any more
        raise


class Turns:
    """Places, each for one work at a time. A place that becomes free goes to the next client, not to the next work.

    So a client waits for one work of each other client, however many those have. Used from one event loop.

    Args:
        places: works that run at the same time.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, client: str, due_s: float = inf) -> AsyncIterator[None]:
        """A context that has a place.

        Args:
            client: whose work it is (``budget.client_of``).
            due_s: when the turn has to come at the latest, in seconds of ``time.monotonic``.

        Raises:
            Overloaded: the turn did not come in time.
        """
        if not self.take():
            await self.wait(client, due_s)
        try:
            yield
        finally:
            self.give_back()

    def take(self) -> bool:
        """Take a place, if one is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self, client: str, due_s: float) -> None:
        """Wait for a place, and take it; as ``turn``."""
        turn = asyncio.get_running_loop().create_future()
        row = self._waiting.setdefault(client, deque())
        row.append(turn)
        try:
            async with asyncio.timeout(None if due_s == inf else max(0.0, due_s - time.monotonic())):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.give_back()  # the place came at the same moment
            elif turn in row:
                row.remove(turn)
                if not row and self._waiting.get(client) is row:
                    del self._waiting[client]
            if isinstance(error, TimeoutError):
                raise waited_too_long() from None
            raise

    def give_back(self) -> None:
        """Give a place to the next client that waits for one."""
        while self._waiting:
            client, row = self._waiting.popitem(last=False)
            turn = row.popleft()
            if row:
                self._waiting[client] = row
            if not turn.done():  # else its work was cancelled a moment ago
                turn.set_result(None)
                return
        self._free += 1
