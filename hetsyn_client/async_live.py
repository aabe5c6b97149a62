"""A session over one WebSocket for asyncio: that of ``hetsyn_client.live``, with ``await``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, Unpack

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.async_transport import AsyncTransport
from hetsyn_client.bodies import Matrix
from hetsyn_client.live_steps import LiveOptions, LiveSteps, SteppedStream
from hetsyn_client.reconnecting import Frame, access_of, timeout_of
from hetsyn_client.steps import Steps, T


class AsyncLiveStream(SteppedStream):
    """One session, as ``LiveStream``. Use it as an asynchronous context manager, in one event loop.

    Its calls take turns. A chunk that was cancelled is on its way if ``seq`` has grown; else send it again.
    """

    def __init__(
        self, url: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, **options: Unpack[LiveOptions]
    ) -> None:
        access = access_of(url, options)
        super().__init__(LiveSteps(access, options))
        self._transport = AsyncTransport(access, timeout_of(options), sleep)
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._run(self._steps.begin_once())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, as ``LiveStream.close``."""
        await self._run(self._steps.close())
        await self._transport.close()

    async def send(self, samples: NDArray[Any]) -> list[Frame]:
        """Send samples, and return the results that have come meanwhile."""
        return await self.send_bytes(self._steps.samples(samples))

    async def send_bytes(self, content: bytes) -> list[Frame]:
        """Send bytes as a frame of the stream's encoding has them; as ``send``."""
        return await self._run(self._steps.send(content))

    async def send_events(self, steps: int, times: NDArray[np.int64], units: NDArray[np.int64]) -> list[Frame]:
        """Send the spikes of ``steps`` network steps: ``times`` [spikes] and ``units`` [spikes]; as ``send``."""
        return await self.send_bytes(self._steps.events(steps, times, units))

    async def send_values(self, values: Matrix) -> list[Frame]:
        """Send rows of values, an array or lists [steps, channels]; as ``send``."""
        return await self.send_bytes(self._steps.values(values))

    async def finalize(self) -> list[Frame]:
        """End the utterance now, and return what comes up to its end."""
        return await self._run(self._steps.finalize())

    async def receive(self, timeout_s: float) -> list[Frame]:
        """Return the results that come within a time, which is for the first of them."""
        return await self._run(self._steps.receive(timeout_s))

    async def wait(self) -> list[Frame]:
        """Wait until all chunks are acknowledged, and return the results that come."""
        return await self._run(self._steps.wait())

    async def end(self) -> Frame:
        """End the session, and return the end of its last utterance."""
        return await self._run(self._steps.end())

    async def _run(self, steps: Steps[T]) -> T:
        async with self._turn:
            return await self._transport.run(steps)
