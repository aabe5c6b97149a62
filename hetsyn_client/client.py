"""The blocking client. It numbers a session's chunks, and repeats a chunk if the connection breaks, if a proxy lost the
server, or if the server says "later".

    with StreamingClient("http://127.0.0.1:8000") as client, client.session(model="speech-digits") as session:
        session.send(first_samples, 8000)
        reply = session.send(last_samples, 8000, end=True)

``async_client`` has the same for asyncio. ``calls`` and ``session_steps`` decide what both send, and when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from hetsyn_client.access import TIMEOUT_S, ClientOptions, access_of
from hetsyn_client.network.transport import Transport
from hetsyn_client.protocol.calls import Calls, SessionOptions, SteppedClient
from hetsyn_client.protocol.session_steps import SessionSteps, SteppedSession
from hetsyn_client.results import Reply
from hetsyn_client.sources.chunks import Chunk


class StreamingClient(SteppedClient[Reply]):
    """Connections to one server. Close it, or use it as a context manager. Threads may share it.

    Its methods raise ServiceProblem if the server refuses, ServiceUnreachable if it does not answer, and InputError for
    input that cannot be sent.

    Args:
        url: as ``http://127.0.0.1:8000``.
        network: replaces the network for HTTP in tests.
        sleep: waits between two tries, in seconds; tests replace it.
        options: those of ``ClientOptions``.

    Raises:
        InputError: the address, a header or a file cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        network: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        **options: Unpack[ClientOptions],
    ) -> None:
        access = access_of(url, options)
        self._transport = Transport(access, options.get("timeout_s", TIMEOUT_S), network, sleep)
        super().__init__(Calls.of(url, options), self._transport.run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def session(self, session: str | None = None, **options: Unpack[SessionOptions]) -> Session:
        """Prepare a session, which begins with its first chunk, under a new id or the one that is given."""
        return Session(self._transport, SessionSteps(self._calls, session, options))

    def describe(self, model: str | None = None) -> dict[str, Any]:
        """Describe a model, by default the server's default model, as ``GET /models/{name}`` does.

        Raises:
            NotFound: none was named, and the server has no default model.
        """
        return self._transport.run(self._calls.describe(model))

    def stream_file(self, path: str | Path, chunk_s: float = 0.1, **options: Unpack[SessionOptions]) -> Iterator[Reply]:
        """Stream a recording, or a file of spikes or values (``hetsyn_client.sources.files``), and yield the replies.

        A chunk is sent when its reply is requested.

        Raises:
            InputError: the file cannot be used, or has values and the model takes spikes.
            NotFound: no model was named for spikes or values, and the server has no default model.
        """
        model = options.get("model")
        chunks, options["model"] = self._transport.run(self._calls.file_chunks(Path(path), chunk_s, model))
        return self.session(**options).stream(chunks)

    def drop(self, session: str) -> None:
        """Delete a session on the server. ServiceProblem with status 404: there is none of this id."""
        self._transport.run(self._calls.drop(session))


class Session(SteppedSession[Reply]):
    """One session on a server. It numbers its chunks, so that each counts once, however often it is sent.

    ``StreamingClient.session`` makes one, and its methods raise the same errors. As a context manager, a session that
    was not ended is deleted on the server, unless you have named it. A chunk that raised keeps its number: send the
    same one again. One thread at a time may use it.
    """

    def __init__(self, transport: Transport, steps: SessionSteps) -> None:
        super().__init__(steps, transport.run)
        self._transport = transport

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.run(self._steps.leave())

    def stream(self, chunks: Iterable[Chunk]) -> Iterator[Reply]:
        """Send the chunks of a source, and end the session with it.

        Returns:
            The reply to each chunk, and to the end of the session if the source does not mark its last chunk.
        """
        is_last = True
        for chunk in chunks:
            is_last = chunk.is_last
            yield self._send(chunk.body, is_last)
        if not is_last:
            yield self.end()
