"""Sends the chunks of streams to ``hetsyn serve``: as requests, or over WebSockets."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import NamedTuple, Protocol
from urllib.parse import quote

from aiohttp import ClientWebSocketResponse, WSMsgType

from hetsyn_client.bodies import encoding_of
from hetsyn_client.loadtest.load import Load, Served
from hetsyn_client.network.access import Access
from hetsyn_client.network.async_transport import AsyncTransport
from hetsyn_client.protocol.steps import Broken, Request, retry_after_s, target

TIMEOUT_S = 10.0  # of one chunk
LOST = Broken("connection lost")


class Transport(StrEnum):
    """The interface that chunks use."""

    infer = "infer"
    stream = "stream"


class Answer(NamedTuple):
    """The server's answer to a chunk."""

    status: int  # of HTTP; 0: no answer
    retry_after_s: float | None = None
    reason: str = ""  # why there is no answer

    @property
    def is_refused(self) -> bool:
        """Return whether the server is full. Nothing was applied, so the next chunk has the same number."""
        return self.status in (429, 503) and self.retry_after_s is not None

    @property
    def error(self) -> str:
        """Return the kind of an answer other than 200."""
        if not self.status:
            return self.reason
        return f"refused ({self.status})" if self.is_refused else f"status {self.status}"


class Sender(Protocol):
    """Sends the chunks of a stream, one at a time."""

    async def begin(self, session: str) -> Answer:
        """Prepare a session before its first chunk is due; errors as of ``send``."""

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        """Send a chunk, and wait for its answer.

        Raises:
            Broken: no connection, or it broke; or a refusal of the connection.
        """


class Way(Protocol):
    """Carries the chunks of many streams."""

    def sender(self, stream: int) -> Sender: ...

    async def drop(self, session: str) -> Answer:
        """Delete a session; errors as of ``Sender.send``."""

    async def close(self) -> None: ...


class HetsynWay:
    """Carries chunks to a server: requests by itself, ``/stream`` by a sender a stream."""

    def __init__(self, access: Access, transport: Transport, served: Served, load: Load) -> None:
        self._connections = AsyncTransport(access, TIMEOUT_S)
        self._transport = transport
        self._served = served
        self._content_type = load.content_type
        self._encoding = encoding_of(load.content_type)

    def sender(self, stream: int) -> Sender:  # noqa: ARG002
        if self._transport is not Transport.stream:
            return self
        # without an endpointer, as at /infer
        query = {"model": self._served.name, "endpointing": "off"}
        return StreamSender(self._connections, query | self._encoding)

    async def begin(self, session: str) -> Answer:  # noqa: ARG002
        return Answer(200)

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        opening = "" if seq else f"&model={quote(self._served.name)}"
        path = f"/infer?session={session}&seq={seq}{opening}{'&end=true' if is_last else ''}"
        return await self._answer(Request("POST", path, chunk, self._content_type))

    async def drop(self, session: str) -> Answer:
        return await self._answer(Request("DELETE", f"/sessions/{session}"))

    async def close(self) -> None:
        await self._connections.close()

    async def _answer(self, request: Request) -> Answer:
        response = await self._connections.exchange(request)
        return Answer(response.status, retry_after_s(response.headers))


class StreamSender:
    """Sends the sessions of a stream over ``/stream``, each on its own connection.

    The answer to a chunk is its ``Result``, to a session's last chunk the final result.
    """

    def __init__(self, connections: AsyncTransport, query: dict[str, str]) -> None:
        self._connections = connections
        self._query = query
        self._socket: ClientWebSocketResponse | None = None

    async def begin(self, session: str) -> Answer:
        await self._close()
        self._socket = await self._connections.open_socket(target("/stream", {"session": session, **self._query}))
        if (answer := await self._answer(self._socket, "Begin")).status != 200:
            await self._close()
        return answer

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:  # noqa: ARG002
        if self._socket is None and (answer := await self.begin(session)).status != 200:
            return answer
        socket = self._socket
        assert socket is not None
        try:
            await socket.send_bytes(chunk)
            if is_last:
                await socket.send_str('{"type":"CloseStream"}')
            answer = await self._answer(socket, "UtteranceEnd" if is_last else "Result")
        except BaseException:
            await self._close()
            raise
        if is_last or answer.status != 200:
            await self._close()
        return answer

    async def _answer(self, socket: ClientWebSocketResponse, awaited: str) -> Answer:
        """Read frames up to one of type ``awaited``, or an error."""
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data.startswith(f'{{"type":"{awaited}"'):
                return Answer(200)
            if message.type is WSMsgType.TEXT and message.data.startswith('{"type":"Error"'):
                error = json.loads(message.data)
                return Answer(error["status"], error["retry_after_s"])
        raise LOST

    async def _close(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()
