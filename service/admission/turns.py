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

    So a client waits for at most one work of each other client. Used from one event loop.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

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

    def take(self) -> bool:
        """Take a place if one is free. Returns whether it did."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self, client: str, due_s: float) -> None:
        """Wait for a place, and take it. Arguments and errors as ``turn``."""
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
        """Pass the place to the next waiting client."""
        while self._waiting:
            client, row = self._waiting.popitem(last=False)
            turn = row.popleft()
            if row:
                self._waiting[client] = row
            if not turn.done():  # else its work was just cancelled
                turn.set_result(None)
                return
        self._free += 1
