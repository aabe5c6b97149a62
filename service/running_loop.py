"""The event loop that an object is used from, asked for once.

Up to Python 3.11 asking asyncio each time is a system call, and a chunk would make several.
"""

from __future__ import annotations

import asyncio


class RunningLoop:
    """Of an object that is used from one event loop at a time; another may follow when that one is closed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
        return self._loop

    def forget(self) -> None:
        """Ask again next time."""
        self._loop = None
