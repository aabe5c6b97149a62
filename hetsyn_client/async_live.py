"""A session over one WebSocket for asyncio, as ``hetsyn_client.live`` with ``await``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, Unpack

from hetsyn_client.access import TIMEOUT_S, access_of
from hetsyn_client.network.async_transport import AsyncTransport
from hetsyn_client.protocol.live_steps import LiveOptions, LiveSteps, SteppedStream
from hetsyn_client.protocol.reconnecting import Frame
from hetsyn_client.protocol.steps import Steps, T


class AsyncLiveStream(SteppedStream[Coroutine[Any, Any, list[Frame]]]):
    """One session, as ``LiveStream``. Use it as an asynchronous context manager, in one event loop.

    Its calls run one after the other. If a cancelled ``send`` has raised ``seq``, the chunk is sent; else send it
    again.
    """

    def __init__(
        self, url: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, **options: Unpack[LiveOptions]
    ) -> None:
        access = access_of(url, options)
        super().__init__(LiveSteps(access, options), self._in_turn)
        self._transport = AsyncTransport(access, options.get("timeout_s", TIMEOUT_S), sleep)
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._in_turn(self._steps.begin_once())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, as ``LiveStream.close``."""
        await self._in_turn(self._steps.close())
        await self._transport.close()

    async def end(self) -> Frame:
        """End the session, and return the end of its last utterance."""
        return await self._in_turn(self._steps.end())

    async def _in_turn(self, steps: Steps[T]) -> T:
        async with self._turn:
            return await self._transport.run(steps)
