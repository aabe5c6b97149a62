"""Waits for the results of chunks that came together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from service.session.session import Answer

Told = Callable[[Answer | Exception], None]
"""Hears of the result of one chunk."""


class NotApplied(Exception):
    """The caller left during the commit of its chunk, and another process was faster."""


class Droppable(Protocol):
    """A chunk that can be dropped."""

    told: Told

    def drop(self) -> bool: ...


class Together:
    """Collects the results of chunks."""

    def __init__(self, count: int) -> None:
        self._results: list[Answer | Exception | None] = [None] * count
        self._left = count
        self._done = asyncio.get_running_loop().create_future()

    async def results(self, chunks: Sequence[Droppable]) -> list[Answer | Exception]:
        """Wait for all. If the caller is cancelled, the chunks are dropped, unless all are already stored."""
        try:
            await self._done
        except asyncio.CancelledError:
            for index, chunk in enumerate(chunks):
                if self._results[index] is not None:
                    continue
                if chunk.drop():
                    self._left -= 1
                else:
                    chunk.told = partial(self.answered, index)
            if self._left:  # their commits have begun
                self._done = asyncio.get_running_loop().create_future()
                await self._done
            if any(result is None or isinstance(result, NotApplied) for result in self._results):
                raise
        return [result for result in self._results if result is not None]

    def answered(self, index: int, result: Answer | Exception) -> None:
        """Take the result of a chunk."""
        self._results[index] = result
        self._left -= 1
        if not self._left and not self._done.done():
            self._done.set_result(None)
