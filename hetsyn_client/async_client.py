"""The client for asyncio, as ``hetsyn_client.client`` with ``await``.

    async with AsyncStreamingClient("http://127.0.0.1:8000") as client, client.session() as session:
        await session.send(first_samples, 8000)
        reply = await session.send(last_samples, 8000, end=True)

Hundreds of sessions share one client. Within a session, wait for a reply before you send the next chunk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from hetsyn_client.access import TIMEOUT_S, ClientOptions, access_of
from hetsyn_client.network.async_transport import AsyncTransport
from hetsyn_client.protocol.calls import Calls, SessionOptions, SteppedClient
from hetsyn_client.protocol.session_steps import SessionSteps, SteppedSession
from hetsyn_client.results import Reply
from hetsyn_client.sources.chunks import Chunk


class AsyncStreamingClient(SteppedClient[Coroutine[Any, Any, Reply]]):
    """Connections to one server. Close it, or use it as an asynchronous context manager, in one event loop.

    Its arguments are those of ``StreamingClient``, except for ``network``. Its methods raise the same errors.
    """

    def __init__(
        self,
        url: str,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        access = access_of(url, options)
        self._transport = AsyncTransport(access, options.get("timeout_s", TIMEOUT_S), sleep)
        super().__init__(Calls.of(url, options), self._transport.run)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    def session(self, session: str | None = None, **options: Unpack[SessionOptions]) -> AsyncSession:
        """Prepare a session, as ``StreamingClient.session``."""
        return AsyncSession(self._transport, SessionSteps(self._calls, session, options))

    async def describe(self, model: str | None = None) -> dict[str, Any]:
        """Describe a model, as ``StreamingClient.describe``."""
        return await self._transport.run(self._calls.describe(model))

    async def stream_file(
        self, path: str | Path, chunk_s: float = 0.1, **options: Unpack[SessionOptions]
    ) -> AsyncIterator[Reply]:
        """Stream a file, as ``StreamingClient.stream_file``."""
        model = options.get("model")
        chunks, options["model"] = await self._transport.run(self._calls.file_chunks(Path(path), chunk_s, model))
        async for reply in self.session(**options).stream(chunks):
            yield reply

    async def drop(self, session: str) -> None:
        """Delete a session on the server."""
        await self._transport.run(self._calls.drop(session))


async def _asynchronous(chunks: Iterable[Chunk]) -> AsyncIterator[Chunk]:
    for chunk in chunks:
        yield chunk


class AsyncSession(SteppedSession[Coroutine[Any, Any, Reply]]):
    """One session on a server, as ``Session``. A chunk that raised, or was cancelled, keeps its number.

    ``AsyncStreamingClient.session`` makes one. Use it as an asynchronous context manager.
    """

    def __init__(self, transport: AsyncTransport, steps: SessionSteps) -> None:
        super().__init__(steps, transport.run)
        self._transport = transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.run(self._steps.leave())

    async def stream(self, chunks: AsyncIterable[Chunk] | Iterable[Chunk]) -> AsyncIterator[Reply]:
        """Send the chunks of a source, and end the session with it, as ``Session.stream``.

        A source that blocks, such as a microphone, must be asynchronous.
        """
        is_last = True
        async for chunk in chunks if isinstance(chunks, AsyncIterable) else _asynchronous(chunks):
            is_last = chunk.is_last
            yield await self._send(chunk.body, is_last)
        if not is_last:
            yield await self.end()
