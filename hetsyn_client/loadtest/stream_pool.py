"""``WS /stream`` under load: a connection a session, opened before the session's first chunk is due."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from email.message import Message
from urllib.parse import urlencode

from hetsyn_client.errors import ServiceUnreachable
from hetsyn_client.events import MEDIA_TYPE as EVENTS_TYPE
from hetsyn_client.loadtest.carrier import CONNECT_TIMEOUT_S, OPENED_TOGETHER, Carrier, CarrierOwner, Job
from hetsyn_client.loadtest.socket_pool import SocketPool
from hetsyn_client.loadtest.streams import LoadStream
from hetsyn_client.loadtest.target import Address, HetsynTarget, Response
from hetsyn_client.loadtest.websocket import BINARY, TEXT, WebSocket, handshake, masked

RESULT, BEGIN, ACK = b'{"type":"Result"', b'{"type":"Begin"', b'{"type":"Ack"'
FINAL, ERROR = b'{"type":"UtteranceEnd"', b'{"type":"Error"'
CLOSE_STREAM = b'{"type":"CloseStream"}'
UNREACHABLE = "{}: {}: is the server running there?"


def encoding_of(content_type: str) -> dict[str, str]:
    """The parameters of ``/stream`` that say the same as a content type of ``/infer``."""
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_type() == EVENTS_TYPE:
        return {"encoding": "events"}
    if message.get_content_type() == "audio/l16":
        return {"encoding": "pcm_s16le", "sample_rate": str(message.get_param("rate"))}
    return {"encoding": "values", "channels": str(message.get_param("channels"))}


class StreamTarget(HetsynTarget):
    """``WS /stream`` of ``hetsyn serve``. Arguments as ``HetsynTarget``."""

    def __init__(self, address: Address, content_type: str, model: str, version: str, form: str) -> None:
        super().__init__(address, content_type, model, version, form)
        self._query = {
            "model": model, "version": version, "form": form, **encoding_of(content_type),
            "endpointing": "off",  # as at ``/infer``
        }  # fmt: skip
        self._frames: dict[bytes, bytes] = {}
        self._close = masked(TEXT, CLOSE_STREAM)

    def handshake(self, session: str) -> bytes:
        return handshake(self.address, f"/stream?{urlencode({'session': session, **self._query})}")

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:  # noqa: ARG002
        """The frames of a chunk."""
        frame = self._frames.get(chunk)
        if frame is None:
            frame = self._frames[chunk] = masked(BINARY, chunk)
        return frame + self._close if is_last else frame

    def carrier(self, limit: int, timeout_s: float, owner: CarrierOwner) -> Carrier:  # noqa: ARG002
        """A connection a stream, however many that are."""
        return StreamPool(self, timeout_s, owner)


class SessionSocket(WebSocket):
    """The connection of a session.

    Args:
        owner: receives what happens.
        opening: the handshake.
        stream: that has the session.

    Attributes:
        stream: see above.
        session: its id.
        job: that waits for its answer.
        is_ready: ``Begin`` has come.
    """

    def __init__(self, owner: StreamPool, opening: bytes, stream: LoadStream) -> None:
        super().__init__(owner, opening)
        self.stream = stream
        self.session = stream.session
        self.job: Job | None = None
        self.is_ready = False


class StreamPool(SocketPool):
    """The connections of all streams.

    A chunk is answered by its ``Result``, the last one of a session by the final result. Then the next session's
    connection is opened at once.

    Args:
        target: the server.
        timeout_s: time limit of one chunk.
        owner: receives the outcomes.
    """

    def __init__(self, target: StreamTarget, timeout_s: float, owner: CarrierOwner) -> None:
        super().__init__(target.address, timeout_s, owner)
        self._target = target
        self._current: dict[int, SessionSocket] = {}
        self._sockets: set[WebSocket] = set()
        self._awaited = 0  # connections that have no ``Begin`` yet, before the run
        self._begun = asyncio.Event()

    @property
    def size(self) -> int:
        """Open connections."""
        return len(self._sockets)

    async def open(self, streams: Sequence[LoadStream]) -> None:
        """Open the connections of all streams.

        Raises:
            ServiceUnreachable: the first connection fails.
        """
        address = self._target.address
        for begin in range(0, len(streams), OPENED_TOGETHER):
            some = [self._socket(stream) for stream in streams[begin : begin + OPENED_TOGETHER]]
            self._begun.clear()
            self._awaited = len(some)
            results = await asyncio.gather(*(self._connect(socket) for socket in some), return_exceptions=True)
            error = next((result for result in results if isinstance(result, BaseException)), None)
            if error is not None and not begin:
                raise ServiceUnreachable(UNREACHABLE.format(address.url, error)) from error
            self._awaited -= sum(isinstance(result, BaseException) for result in results)
            if self._awaited > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        await self._begun.wait()

    def send(self, job: Job) -> None:
        stream = job.stream
        if stream is None:
            self._deletions.send(job)
            return
        self._under_way += 1
        socket = self._current.get(stream.index)
        if socket is None or socket.session != stream.session:
            socket = self._begin(stream)
        socket.job = job
        job.queued_s = time.perf_counter()
        if socket.is_ready:
            job.sent_s = job.queued_s
            socket.send(job.request)
        else:
            self.waits += 1

    def sweep(self, now_s: float) -> None:
        """Fail the chunks that have taken longer than the timeout. Call it a few times a second."""
        overdue_s = now_s - self._timeout_s
        for socket in [one for one in self._current.values() if one.job is not None and one.job.queued_s < overdue_s]:
            self._fail(socket, "timeout")
            socket.abort()
        self._deletions.sweep(now_s)

    def abandon(self) -> list[Job]:
        """Close all connections. The jobs that have no outcome yet."""
        jobs = self._deletions.abandon()
        for socket in list(self._sockets):
            if isinstance(socket, SessionSocket) and socket.job is not None:
                jobs.append(socket.job)
                socket.job = None
            socket.abort()
        self._under_way = 0
        self._current.clear()
        return jobs

    async def close(self) -> None:
        await self._stop_opening()
        for socket in list(self._sockets):
            socket.abort()
        while self._sockets:  # the transports close in the loop's next turns
            await asyncio.sleep(0)
        await self._deletions.close()

    # sockets call these

    def received(self, socket: WebSocket, opcode: int, content: bytes) -> None:  # noqa: ARG002
        assert isinstance(socket, SessionSocket)
        job = socket.job
        if content.startswith((RESULT, ACK)):
            stream = socket.stream
            if job is None or b'"seq":%d,' % stream.seq not in content[:60].replace(b"}", b","):
                self._end(socket, "a result of another chunk")
            elif not stream.is_last_sent:
                self._answer(socket, job, Response(200, content, None))
        elif content.startswith(FINAL):
            if job is not None:
                self._answer(socket, job, Response(200, content, None))
                if not self._is_closed and self._current.get(socket.stream.index) is socket:  # no chunk was due
                    self._begin(socket.stream)
        elif content.startswith(BEGIN):
            self._note_begun()
            if json.loads(content)["next_seq"] != socket.stream.seq:
                self._end(socket, "the session goes on with another chunk")
                return
            socket.is_ready = True
            if job is not None:
                job.sent_s = time.perf_counter()
                socket.send(job.request)
        elif content.startswith(ERROR):
            error = json.loads(content)
            if job is not None:
                self._answer(socket, job, Response(error["status"], content, error["retry_after_s"]))
            self._forget(socket)

    def refused(self, socket: WebSocket, response: Response) -> None:
        assert isinstance(socket, SessionSocket)
        self._note_begun()
        job = socket.job
        self._forget(socket)
        if job is not None:
            self._answer(socket, job, response)

    def closed(self, socket: WebSocket) -> None:
        assert isinstance(socket, SessionSocket)
        self._sockets.discard(socket)
        self._forget(socket)
        if socket.job is not None and not self._is_closed:
            self._fail(socket, "connection lost")

    def _answer(self, socket: SessionSocket, job: Job, response: Response) -> None:
        socket.job = None
        self._under_way -= 1
        self._owner.answered(job, response, time.perf_counter())

    def _fail(self, socket: SessionSocket, error: str) -> None:
        job, socket.job = socket.job, None
        self._forget(socket)
        if job is not None:
            self._under_way -= 1
            self._owner.failed(job, error, time.perf_counter())

    def _end(self, socket: SessionSocket, error: str) -> None:
        self._fail(socket, error)
        socket.abort()

    def _forget(self, socket: SessionSocket) -> None:
        if self._current.get(socket.stream.index) is socket:
            del self._current[socket.stream.index]

    def _note_begun(self) -> None:
        self._awaited -= 1
        if self._awaited == 0:
            self._begun.set()

    def _socket(self, stream: LoadStream) -> SessionSocket:
        socket = SessionSocket(self, self._target.handshake(stream.session), stream)
        self._current[stream.index] = socket
        return socket

    def _begin(self, stream: LoadStream) -> SessionSocket:
        """Open the connection of a stream's session."""
        socket = self._socket(stream)
        self._open_later(self._connect_later(socket))
        return socket

    async def _connect_later(self, socket: SessionSocket) -> None:
        try:
            await self._connect(socket)
        except OSError:
            self._fail(socket, "cannot connect")

    async def _connect(self, socket: SessionSocket) -> None:
        """``_create``."""
        self._sockets.add(socket)
        try:
            await self._create(socket)
        except BaseException:
            self._sockets.discard(socket)
            raise
