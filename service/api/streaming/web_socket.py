"""A connection that has become a WebSocket: the asyncio shell around a protocol of ``live`` and ``api.frames``.

It counts as a connection, and as a stream of its client. It bounds the bytes that its client does not read, and ends if
the client is silent. While the stream should not be read, or the client does not read, nothing is read from the socket.
So a client can make the server hold one large message, some small ones, and the bytes of one read.

uvicorn's own sans-I/O WebSocket has a queue and a task between a message and its answer, which takes one and a half
times the CPU time.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import Generic, TypeVar

from pydantic_core import to_json
from uvicorn.server import ServerState

from service.admission.connections import Connections
from service.admission.uploads import FREE_BYTES
from service.api import problems
from service.api.streaming import handshakes
from service.api.streaming.frames import PING, POLICY, FrameReader, Message, binary_frame, close_frame, text_frame
from service.api.streaming.handshakes import Handshake
from service.api.streaming.many_streams import ManyStreams
from service.api.unread import Unread
from service.errors import BadFrame, HetsynError, KeyRefused, Overloaded, StreamIdle, TooSlow
from service.keys.caller import ANYBODY, Scope
from service.keys.keys import StreamKey
from service.live.actions import Close, Send, SendBinary
from service.live.machine import SHUTTING_DOWN, Machine
from service.observe.context import RequestContext
from service.problem import Problem

PING_S, CLOSING_S = 20.0, 2.0  # CLOSING_S: time for the client to answer a close frame
BYTES_A_ROUND, FRAMES_A_ROUND = 64 * 1024, 256  # so that small frames do not stop the event loop
MOST_CONTROLS = 1_024  # limit of frames without a chunk between two pings

W = TypeVar("W")


class WebSocket(asyncio.Protocol, ABC, Generic[W]):
    """One WebSocket, for any protocol.

    Args:
        many: shared by its WebSockets.
        client: the connection's client (``budget.client_of``).

    Attributes:
        is_idle: all that has come was read, and the socket is being read.
    """

    def __init__(
        self,
        connections: Connections,
        many: ManyStreams,
        server_state: ServerState,
        unread: Unread,
        transport: asyncio.Transport,
        handshake: Handshake,
        client: str,
    ) -> None:
        self.transport = transport
        self.client = client
        self.is_idle = False
        self.context = RequestContext(handshake.context).context()  # the context of all works
        self._loop = asyncio.get_running_loop()
        self._connections, self._server_state, self._unread = connections, server_state, unread
        self._limits, self._budget = connections.limits, connections.budget
        self._many = many
        self._counters = many.streams.counters
        self._handshake = handshake
        self._headers = server_state.default_headers
        self._live: Machine[W] | None = None  # None while the connection opens
        self._next_work: W | None = None  # waits until the client reads
        self._reader = FrameReader(self._limits.max_body_bytes)
        self._is_over = False  # our close frame was sent: nothing more is sent
        self._is_counted = False  # it counts as a stream of its client
        self._is_scheduled = self._drains = False
        self._task: asyncio.Task[None] | None = None
        self._key = StreamKey(many.streams.keys, ANYBODY)
        self._waking: asyncio.TimerHandle | None = None  # fires when the key may send again
        self._is_writable, self._drained = True, asyncio.Event()
        self._held_bytes = 0  # bytes of a large message, until it is applied
        self._heard_s = self._pinged_s = self._loop.time()
        self._partial_s = self._taken_s = inf  # times since which a message is incomplete, and messages are read
        self._controls = 0  # frames without a chunk at the last ping
        self._transport_name = handshake.path.removeprefix("/")
        self._tick_s = min(PING_S, self._limits.idle_timeout_s / 2, self._limits.body_timeout_s)
        self._ticking: asyncio.TimerHandle | None = None

    @abstractmethod
    async def _opened(self) -> Machine[W]:
        """Open the client's session or sessions, or raise a ``HetsynError``."""

    @abstractmethod
    def _receive(self, content: bytes) -> Sequence[Send | SendBinary | Close | W]:
        """Pass a binary message to the machine."""

    @abstractmethod
    async def _done(self, work: W) -> Sequence[Send | SendBinary | Close | W]:
        """Do a work, and report it to the machine. A ``HetsynError`` refuses it, and ends the connection."""

    @abstractmethod
    def _release(self) -> None:
        """Release the client's sessions."""

    def begin(self) -> None:
        """Take over the connection, and open the client's session or sessions."""
        self.transport.set_protocol(self)
        self.transport.pause_reading()  # a client sends nothing before the answer to its handshake
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # it has all that uvicorn calls
        self._connections.enter(self)  # the place of its HTTP connection
        self._task = self._loop.create_task(self._open(), context=self.context)

    def drain(self) -> None:
        self._drains = True
        self._unread.end_soon()
        if self._live is not None:
            self._act(self._live.drain())
            self._read_on(self._reader.has_frame())

    async def drained(self) -> None:
        await self._drained.wait()

    def cut(self) -> None:
        self._fail(SHUTTING_DOWN)

    def shutdown(self) -> None:
        """End the connection because the server closes; uvicorn calls this for each one."""
        if self._live is None:
            self.cut()
        else:
            self.drain()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._connections.leave(self)
        self._unread.stop()
        self._server_state.connections.discard(self)
        if self._is_counted:
            self._budget.streams.give(self.client)
        if self._live is not None:
            self._live.leave()
            self._counters.streams_open[self._transport_name] -= 1
        self._leave()
        if self._waking is not None:
            self._waking.cancel()
        if self._ticking is not None:
            self._ticking.cancel()

    def data_received(self, data: bytes) -> None:
        self._heard_s = self._loop.time()
        if not self._is_over:  # else it is dropped
            self._reader.feed(data)
            self._pump()

    def pause_writing(self) -> None:
        self._is_writable = False
        self._unread.begin(self.client)

    def resume_writing(self) -> None:
        self._is_writable = True
        self._unread.stop()
        work, self._next_work = self._next_work, None
        if work is not None:
            self._begin_work(work)
        self._read_on(self._reader.has_frame())

    def _leave(self) -> None:
        """Stop working for the client."""
        self._partial_s, self._next_work = inf, None
        self._hold(0)
        self._release()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._drained.set()

    async def _open(self) -> None:
        try:
            if (keys := self._many.streams.keys) is not None:
                self._key.caller = keys.admit([self._handshake.credential], Scope.infer)
            self.client = self._key.caller.client(self.client)
            self._budget.streams.take(self.client)
            self._is_counted = True
            live = await self._opened()
        except Exception as error:
            self._counters.refused(error)
            self._answer(Problem.of(error, f"GET {self._handshake.path}"))
            return
        if self.transport.is_closing():
            self._leave()
            return
        self._task = None
        self._live = live
        self._counters.streams_open[self._transport_name] += 1
        self.transport.write(handshakes.acceptance(self._handshake, self._headers))
        self._act([*live.begin(), *(live.drain() if self._drains else ())])
        self._ticking = self._loop.call_later(self._tick_s, self._tick)
        self._read_on(self._reader.has_frame())

    def _answer(self, problem: Problem) -> None:
        """Refuse the handshake."""
        self._leave()
        if self.transport.is_closing():
            return
        self._is_over = True
        self.transport.write(handshakes.refusal(self._handshake, problems.response(problem), self._headers))
        self._let_go()

    def _pump(self) -> None:
        """Read messages while the stream takes them, up to a limit for one round of the event loop."""
        live, reader = self._live, self._reader
        if self._is_over or live is None:
            return
        frames, first_bytes, is_complete = reader.frames, reader.bytes, False
        while (has_frame := reader.has_frame()) and self._takes():
            message = reader.read()
            if message is not None:
                is_complete = True
                self._deliver(live, message)
            if message is None or not message.content:  # no chunk
                self._look_at_reader()
            if reader.frames - frames >= FRAMES_A_ROUND or reader.bytes - first_bytes >= BYTES_A_ROUND:
                has_frame = reader.has_frame()
                break
        self._counters.stream_frames[self._transport_name] += reader.frames - frames
        if not (has_frame or self._is_over):
            self._count_partial(is_complete)
        self._read_on(has_frame)

    def _takes(self) -> bool:
        """Return whether the next message may be read."""
        if self._live is None or not (self._live.reads and self._is_writable):
            return False
        return self._many.streams.keys is None or self._may_send()

    def _may_send(self) -> bool:
        """Return whether the key may send its next message now; if not, it is read later."""
        wait_s = self._key.wait_s()
        if wait_s > 0 and self._waking is None:
            self._waking = self._loop.call_later(wait_s, self._wake)
        return wait_s <= 0

    def _wake(self) -> None:
        self._waking = None
        self._pump()

    def _look_at_reader(self) -> None:
        reader = self._reader
        if reader.answer and not self.transport.is_closing():
            self.transport.write(reader.take_answer())
        if reader.violation is not None:
            self._counters.chunks_refused[reader.violation.code] += 1
            self._end(reader.violation)
        elif reader.is_closed:
            self._is_over = True
            if self._live is not None:
                self._live.leave()
            self._leave()
            self.transport.close()
            self._loop.call_later(
                CLOSING_S, self.transport.abort
            )  # the client may not read the bytes before the answer
        elif reader.controls - self._controls > MOST_CONTROLS:
            detail = f"more than {MOST_CONTROLS} frames came that are no chunks: a ping every {PING_S:g} s is enough"
            self._fail(BadFrame(detail, POLICY))

    def _count_partial(self, is_complete: bool) -> None:
        """Count the bytes of an incomplete message. ``is_complete``: another one was completed before it."""
        if not self._reader.held_bytes:
            self._partial_s = inf
            return
        if is_complete or self._partial_s == inf:
            self._partial_s = self._loop.time()
        try:
            self._hold(self._reader.held_bytes)
        except Overloaded as error:
            self._fail(error)

    def _hold(self, count: int) -> None:
        """Count the bytes of a large message while it arrives and until it is applied. Small ones do not count."""
        if count > max(self._held_bytes, FREE_BYTES):
            self._budget.bytes.take(self.client, count - self._held_bytes)
            self._held_bytes = count
        elif not count:
            self._budget.bytes.give(self.client, self._held_bytes)
            self._held_bytes = 0

    def _deliver(self, live: Machine[W], message: Message) -> None:
        has_rate = self._many.streams.keys is not None
        before = live.inflight if has_rate else 0
        actions = self._receive(message.content) if message.text is None else live.text(message.text)
        if has_rate:
            self._key.took(max(1, live.inflight - before))
        for action in actions:
            if isinstance(action, Send) and action.frame["type"] == "Error":  # the message was refused
                self._counters.chunks_refused[action.frame["problem"]] += 1
        self._act(actions)

    def _read_on(self, has_more: bool) -> None:
        """Resume or pause reading from the socket; continue in the next round if more has come than one round takes.

        Args:
            has_more: a frame has come that was not read.
        """
        transport = self.transport
        if transport.is_closing() or self._is_over:
            return
        is_wanted = self._takes()
        was_idle, self.is_idle = self.is_idle, is_wanted and not has_more
        if was_idle and self.is_idle:
            return
        if is_wanted and self._taken_s == inf:
            self._taken_s = self._loop.time()
        elif not is_wanted:
            self._taken_s = inf
        if is_wanted and has_more and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._next_round)
        if self.is_idle:
            transport.resume_reading()  # does nothing if it reads already
        else:
            transport.pause_reading()

    def _next_round(self) -> None:
        self._is_scheduled = False
        self._pump()

    def _act(self, actions: Sequence[Send | SendBinary | Close | W]) -> W | None:
        """Carry out the machine's actions. A work begins, or is returned if one is under way."""
        sent: list[bytes] = []
        work, is_end = None, False
        for action in actions:
            if isinstance(action, Send):
                sent.append(text_frame(to_json(action.frame)))
            elif isinstance(action, SendBinary):
                sent.append(binary_frame(action.content))
            elif isinstance(action, Close):
                sent.append(close_frame(action.code, action.reason))
                is_end = True
            else:
                work = action
        if sent and not self.transport.is_closing() and not self._is_over:
            self.transport.write(b"".join(sent))
        if is_end:
            self._end_stream()
        if work is not None and self._task is None:
            self._go_on(work)
        return work

    def _go_on(self, work: W) -> None:
        """Begin a work now, or when the client reads."""
        if self._is_writable:
            self._begin_work(work)
        else:
            self._next_work = work

    def _begin_work(self, work: W) -> None:
        """Begin a work while none is under way."""
        self._task = self._loop.create_task(self._run(work), context=self.context)

    def _after(self, actions: Sequence[Send | SendBinary | Close | W]) -> W | None:
        """Carry out the machine's actions after a work."""
        if (
            self._held_bytes
            and self._live is not None
            and self._live.held_bytes < FREE_BYTES
            and self._reader.held_bytes <= FREE_BYTES
        ):
            self._hold(0)
        return self._act(actions)

    async def _run(self, work: W) -> None:
        """Do a work, and begin the next one."""
        assert self._live is not None
        following = self._after(await self._outcome(work, self._live))
        self._task = None
        if following is not None:
            self._go_on(following)
        if not self.is_idle:
            self._pump()

    async def _outcome(self, work: W, live: Machine[W]) -> Sequence[Send | SendBinary | Close | W]:
        """Return the actions after a work."""
        try:
            return await self._done(work)
        except asyncio.CancelledError:
            self._counters.chunks_abandoned += 1
            raise
        except Exception as error:
            self._counters.refused(error)
            return live.refuse(Problem.of(error, f"WS {self._handshake.path}"))

    def _fail(self, error: HetsynError) -> None:
        """End the stream, or the handshake."""
        if not self._is_over:
            self._counters.refused(error)
            self._end(Problem.of(error))

    def _end(self, problem: Problem) -> None:
        if self._live is None:
            self._answer(problem)
        else:
            self._act(self._live.refuse(problem))

    def _end_stream(self) -> None:
        """Wait for the client's close frame, after ours was sent. Its other frames are not read."""
        if self._is_over:
            return
        self._is_over = True
        self._leave()
        if not self.transport.is_closing():
            self._let_go()

    def _let_go(self) -> None:
        """Half-close, discard input for a while, then close.

        Closing with unread input would send a reset, and could destroy our last frame. TLS has no half-close: closing
        it discards input until the client closes, too.
        """
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            with suppress(OSError):  # the client may have reset the connection already
                self.transport.write_eof()
            self._unread.disconnect(CLOSING_S)
        else:
            self.transport.close()

    def _tick(self) -> None:
        """Check from time to time that the client is alive, and that its message is completed in time."""
        assert self._live is not None
        if self._is_over:
            return
        now_s, limits = self._loop.time(), self._limits
        self._ticking = self._loop.call_later(self._tick_s, self._tick)
        if self._live.is_busy or not self._takes():
            self._heard_s = now_s  # the server is at work: the client need not send
        try:
            self._key.check()
        except KeyRefused as refused:
            self._fail(refused)
            return
        if now_s - self._heard_s >= limits.idle_timeout_s:
            self._connections.counters.connections_ended["idle"] += 1
            self._fail(StreamIdle(f"the client was silent for {limits.idle_timeout_s:g} s: open the stream again"))
        elif now_s - max(self._partial_s, self._taken_s) >= limits.body_timeout_s:
            self._fail(TooSlow(f"the frame was not complete after {limits.body_timeout_s:g} s: send it faster"))
        elif now_s - self._pinged_s >= min(PING_S, limits.idle_timeout_s / 2):
            self._pinged_s, self._controls = now_s, self._reader.controls
            self.transport.write(PING)
