"""Sends the chunks of streams to ``hetsyn serve``. A transport is a class that sends a chunk and awaits its answer."""

from __future__ import annotations

import asyncio
import json
import ssl
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from contextlib import suppress
from enum import StrEnum
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import numpy as np
from aiohttp import ClientError, ClientWebSocketResponse, WSMsgType

from hetsyn_client import columns
from hetsyn_client.access import Access
from hetsyn_client.events import HEADER
from hetsyn_client.loadtest.connections import LOST, Pool
from hetsyn_client.loadtest.load import Load, Served
from hetsyn_client.network.async_transport import AsyncTransport
from hetsyn_client.protocol.steps import target
from hetsyn_client.sources.bodies import encoding_of

TIMEOUT_S = 10.0  # of one chunk
GATHER_S = 0.01  # in which chunks for one frame of /streams are gathered


class Transport(StrEnum):
    """The interface that chunks use."""

    infer = "infer"
    stream = "stream"
    streams = "streams"
    open_inference = "open-inference"


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


class Way(ABC):
    """Carries the chunks of many sessions. Without an answer, its methods raise Broken or OSError."""

    async def begin(self, session: str) -> Answer:  # noqa: ARG002
        """Prepare a session before its first chunk is due."""
        return Answer(200)

    @abstractmethod
    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        """Send a chunk, and wait for its answer. A session has one chunk at a time."""

    @abstractmethod
    async def drop(self, session: str) -> Answer:
        """Delete a session."""

    @abstractmethod
    async def close(self) -> None: ...


class InferWay(Way):
    """Sends a request of ``POST /infer`` a chunk."""

    def __init__(self, access: Access, served: Served, load: Load) -> None:
        url = urlsplit(access.url)
        is_tls = url.scheme == "https"
        tls = (access.tls or ssl.create_default_context()) if is_tls else None
        self._pool = Pool(url.hostname or "", url.port or (443 if is_tls else 80), tls)
        self._path = url.path
        self._headers = {
            "host": url.netloc.rpartition("@")[2],
            "content-type": load.content_type,
            **{name.lower(): value for name, value in access.headers.items()},
        }
        self._connections = AsyncTransport(access, TIMEOUT_S)  # for WebSockets
        self._served = served
        self._encoding = encoding_of(load.content_type)

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        opening = "" if seq else f"&model={quote(self._served.name)}"
        path = f"/infer?session={session}&seq={seq}{opening}{'&end=true' if is_last else ''}"
        return await self._exchange("POST", path, chunk)

    async def drop(self, session: str) -> Answer:
        return await self._exchange("DELETE", f"/sessions/{session}")

    async def close(self) -> None:
        self._pool.close()
        await self._connections.close()

    async def _exchange(self, method: str, target: str, content: bytes = b"", **more: str) -> Answer:
        headers = {**self._headers, "content-length": len(content), **more}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {self._path}{target} HTTP/1.1\r\n{lines}\r\n"
        response = await self._pool.exchange(head.encode("ascii") + content)
        return Answer(response.status, response.retry_after_s)


class OpenInferenceWay(InferWay):
    """Sends a request of the Open Inference Protocol a chunk, as a binary tensor."""

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        parameters: dict[str, Any] = {
            "sequence_id": session, "sequence_start": seq == 0, "sequence_end": is_last, "seq": seq,
            "binary_data_output": True,
        }  # fmt: skip
        if rate := self._encoding.get("sample_rate"):
            parameters["sample_rate"] = int(rate)
        name, datatype, shape, content = self._tensor(chunk)
        tensor = {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(content)}}
        described = json.dumps({"parameters": parameters, "inputs": [tensor]}).encode()
        more = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(described))}
        path = f"/v2/models/{quote(self._served.name)}/infer"
        return await self._exchange("POST", path, described + content, **more)

    def _tensor(self, chunk: bytes) -> tuple[str, str, list[int], bytes]:
        """Return name, type, shape and little-endian content of the input."""
        if self._encoding["encoding"] == "pcm_s16le":
            return "audio", "INT16", [len(chunk) // 2], chunk
        if self._encoding["encoding"] == "values":
            channels = self._served.row_values
            return "values", "FP32", [len(chunk) // (4 * channels), channels], chunk
        _, steps, events = HEADER.unpack_from(chunk)
        times, units = np.frombuffer(chunk, "<u2", 2 * events, HEADER.size).reshape(2, events)
        spikes = np.zeros((steps, self._served.channels), np.uint8)
        spikes[times, units] = 1
        return "spikes", "BOOL", list(spikes.shape), spikes.tobytes()


class StreamWay(InferWay):
    """Sends each session over its own connection of ``WS /stream``.

    The answer to a chunk is its ``Result``, to a session's last chunk the final result.
    """

    def __init__(self, access: Access, served: Served, load: Load) -> None:
        super().__init__(access, served, load)
        self._query = {"model": served.name, "endpointing": "off", **self._encoding}  # no endpointer, as at /infer
        self._sockets: dict[str, ClientWebSocketResponse] = {}

    async def begin(self, session: str) -> Answer:
        self._sockets[session] = socket = await self._connections.open_socket(
            target("/stream", {"session": session, **self._query})
        )
        if (answer := await _answer(socket, "Begin")).status != 200:
            await self._leave(session)
        return answer

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:  # noqa: ARG002
        if session not in self._sockets and (answer := await self.begin(session)).status != 200:
            return answer
        socket = self._sockets[session]
        try:
            await socket.send_bytes(chunk)
            if is_last:
                await socket.send_str('{"type":"CloseStream"}')
            answer = await _answer(socket, "UtteranceEnd" if is_last else "Result")
        except BaseException:
            await self._leave(session)
            raise
        if is_last or answer.status != 200:
            await self._leave(session)
        return answer

    async def drop(self, session: str) -> Answer:
        await self._leave(session)
        return await super().drop(session)

    async def _leave(self, session: str) -> None:
        if (socket := self._sockets.pop(session, None)) is not None:
            await socket.close()


async def _answer(socket: ClientWebSocketResponse, awaited: str) -> Answer:
    """Read frames up to one of type ``awaited``, or an error."""
    async for message in socket:
        if message.type is WSMsgType.TEXT and message.data.startswith(f'{{"type":"{awaited}"'):
            return Answer(200)
        if message.type is WSMsgType.TEXT and message.data.startswith('{"type":"Error"'):
            error = json.loads(message.data)
            return Answer(error["status"], error["retry_after_s"])
    raise LOST


class StreamsWay(InferWay):
    """Sends all sessions over one connection of ``WS /streams``.

    Chunks that fall due within ``GATHER_S`` go in one frame, as in a gateway. Latencies contain this time.
    """

    def __init__(self, access: Access, served: Served, load: Load) -> None:
        super().__init__(access, served, load)
        self._target = target("/streams", {"model": served.name, **self._encoding})
        self._item_bytes = {"events": 0, "pcm_s16le": 2}.get(self._encoding["encoding"], 4 * served.row_values)
        self._connecting = asyncio.Lock()
        self._socket: ClientWebSocketResponse | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count(1)
        self._handles: dict[str, int] = {}  # by session
        self._due: list[tuple[int, int, int, int, int, bytes, bytes]] = []
        self._answers: dict[int, asyncio.Future[Answer]] = {}  # by handle

    async def begin(self, session: str) -> Answer:
        async with self._connecting:
            if self._socket is None:
                socket = await self._connections.open_socket(self._target)
                if (begun := await _answer(socket, "Begin")).status != 200:
                    await socket.close()
                    return begun
                self._socket = socket
                self._start(self._read(socket))
        handle = next(self._numbers)
        answered = self._answered(handle)
        await self._socket.send_bytes(columns.pack_sessions([handle], [session]))
        if (answer := await answered).status == 200:
            self._handles[session] = handle
        return answer

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        if session not in self._handles and (answer := await self.begin(session)).status != 200:
            return answer
        handle, action = self._handles[session], columns.END if is_last else columns.CHUNK
        if not self._due:
            self._start(self._send_due())
        self._due.append((handle, seq, action, *self._split(chunk)))
        answer = await self._answered(handle)
        if is_last and answer.status == 200:
            del self._handles[session]
        return answer

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()
        await super().close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(self._tasks.discard)

    def _answered(self, handle: int) -> asyncio.Future[Answer]:
        self._answers[handle] = asyncio.get_running_loop().create_future()
        return self._answers[handle]

    async def _read(self, socket: ClientWebSocketResponse) -> None:
        """Settle what is answered, until the connection breaks."""
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                continue
            is_result = message.data.startswith(columns.RESULTS)
            found = (columns.unpack_results if is_result else columns.unpack_opened)(message.data)
            for row, (handle, status) in enumerate(zip(found.handle.tolist(), found.status.tolist(), strict=True)):
                answer = self._answers.pop(handle, None)
                if answer is not None and not answer.done():  # it may have timed out
                    answer.set_result(Answer(status, found.more.get(row, {}).get("retry_after_s")))
        self._socket = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LOST)
        for emptied in (self._answers, self._handles, self._due):
            emptied.clear()

    async def _send_due(self) -> None:
        await asyncio.sleep(GATHER_S)
        due, self._due = self._due, []
        for at in range(0, len(due), columns.MOST_ROWS):
            rows = zip(*due[at : at + columns.MOST_ROWS], strict=True)
            handles, numbers, actions, steps, items, first, second = rows
            frame = columns.pack_chunks(handles, numbers, items, b"".join(first + second), steps, actions)
            if self._socket is not None:
                with suppress(ClientError, OSError):  # reading ends, too
                    await self._socket.send_bytes(frame)

    def _split(self, chunk: bytes) -> tuple[int, int, bytes, bytes]:
        """Return network steps and items of a chunk, and its content: of events, times and units."""
        if self._item_bytes:
            return 0, len(chunk) // self._item_bytes, chunk, b""
        _, steps, events = HEADER.unpack_from(chunk)
        middle = HEADER.size + 2 * events
        return steps, events, chunk[HEADER.size : middle], chunk[middle:]


WAYS = dict(zip(Transport, (InferWay, StreamWay, StreamsWay, OpenInferenceWay), strict=True))
