"""The other workers, as one worker sees them: calls of their applications, and connections that move to them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from service.admission.body import Message as AsgiMessage
from service.admission.presence import SCOPE_KEY, Presence
from service.errors import RETRY_S, Overloaded
from service.observe.context import CURRENT
from service.observe.counters import Counters
from service.workers.handover import Factory, Receiver, Sender
from service.workers.messages import Call, Kind, Message, Reply, Unpacker, pack
from service.workers.routing import Routing, hint

log = logging.getLogger("hetsyn.workers")

PASSED_ON = "hetsyn.passed-on"
"""Key of a scope that another worker has sent."""

CALLER = "hetsyn.caller"
"""Key of such a scope: that worker, as something with ``when_gone``."""

ASK_S = 2.0  # for a question to all workers
CLOSING_S = 2.0  # for replies to other workers

Application = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


class Away(Exception):
    """A worker could not be reached, and has got nothing."""


class Siblings:
    """All workers of a server, as this one sees them. Used from one event loop.

    Args:
        routing: which of them has a session.
        folder: of their sockets.
        has_store: whether this worker can stand in for one that is away.
        counters: count what goes to other workers.

    Attributes:
        routing: see above.
    """

    def __init__(self, routing: Routing, folder: Path, *, has_store: bool, counters: Counters) -> None:
        self.routing = routing
        self._folder = folder
        self._has_store = has_store
        self._counters = counters
        others = [index for index in range(routing.count) if index != routing.index]
        self._callers = {index: _Caller(_calls_path(folder, index)) for index in others}
        self._senders = {index: Sender(_connections_path(folder, index)) for index in others}
        self._places = itertools.cycle(range(routing.count))
        self._server: asyncio.Server | None = None
        self._receiver: Receiver | None = None
        self._served: set[_Served] = set()
        self._telling: set[asyncio.Task[None]] = set()

    async def listen(self, application: Application) -> None:
        """Take calls from the other workers.

        Args:
            application: that they call.
        """
        path = _calls_path(self._folder, self.routing.index)
        with suppress(FileNotFoundError):
            path.unlink()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Served(application, self._served), str(path))

    def take_connections(self, factory: Factory) -> None:
        """Take connections from the other workers.

        Args:
            factory: makes the protocol of a connection.
        """
        self._receiver = Receiver(_connections_path(self._folder, self.routing.index), factory)

    async def close(self) -> None:
        """Answer the calls under way, and take no more."""
        if self._receiver is not None:
            self._receiver.close()
        if self._server is not None:
            self._server.close()
        for served in list(self._served):
            await served.finish()
        for sender in self._senders.values():
            sender.close()
        for caller in self._callers.values():
            caller.close()

    def other(self, session_id: str | None, scope: MutableMapping[str, Any]) -> int | None:
        """The worker that has a session; None if it is this one, or the request was passed on already.

        Args:
            session_id: None is a session that this worker begins.
            scope: of the request.
        """
        if session_id is None or PASSED_ON in scope:
            return None
        index = self.routing.worker_of(session_id)
        return None if index == self.routing.index else index

    async def call(self, index: int, call: Call, body: bytes = b"") -> Reply | None:
        """Pass a request on. If the caller is cancelled, the client has left.

        Args:
            index: of the worker.
            call: the request.
            body: of the request.

        Returns:
            The reply; None if the worker is away, and this one should serve the request.

        Raises:
            Overloaded: the worker is away, or died meanwhile.
        """
        self._counters.requests_passed_on += 1
        try:
            return await self._callers[index].call(call, body)
        except Away:
            if self._has_store:
                return None
            raise away(index) from None

    def check_stream(self, session_id: str) -> None:
        """Check that a stream may be served here.

        Raises:
            Overloaded: its session's worker is away.
        """
        if not self._has_store and (index := self.routing.worker_of(session_id)) != self.routing.index:
            raise away(index)

    def moves(self, fd: int, data: bytes) -> bool | None:
        """Move a connection to the worker of the session that its first request names.

        A connection whose request begins a session goes to each worker in turn.

        Args:
            fd: of the connection.
            data: that has come.

        Returns:
            Whether it has moved; None if the request says nothing of sessions, so that the next one may move it.
        """
        if (said := hint(data)) is None:
            return None
        index = next(self._places) if said.session is None else self.routing.worker_of(said.session)
        return self.move(index, fd, data)

    def move(self, index: int, fd: int, data: bytes) -> bool:
        """Move a connection to a worker; whether that was possible, and not needless.

        Args:
            index: of the worker.
            fd: of the connection.
            data: that has come on it, and not been answered.
        """
        if index == self.routing.index or not self._senders[index].send(fd, data):
            return False
        self._counters.connections_moved += 1
        return True

    def tell(self, index: int, call: Call) -> None:
        """Call another worker without waiting for its reply, if it is there."""
        task = asyncio.get_running_loop().create_task(self._told(index, call))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _told(self, index: int, call: Call) -> None:
        with suppress(Away, Overloaded):
            await self._callers[index].call(call, b"")

    async def ask_all(self, path: str) -> list[Reply | None]:
        """The answers of all other workers to GET; None of one that does not answer in time."""

        async def ask(index: int) -> Reply | None:
            try:
                async with asyncio.timeout(ASK_S):
                    return await self._callers[index].call(Call("GET", path), b"")
            except (Away, Overloaded, TimeoutError):
                return None

        return await asyncio.gather(*map(ask, self._callers))


def away(index: int) -> Overloaded:
    """The error for a request whose worker is being started."""
    return Overloaded(
        f"worker {index}, which has this session, is being started: send the chunk again in {RETRY_S:g} s", RETRY_S
    )


def _calls_path(folder: Path, index: int) -> Path:
    return folder / f"{index}.calls"


def _connections_path(folder: Path, index: int) -> Path:
    return folder / f"{index}.connections"


class _Caller(asyncio.Protocol):
    """Calls one other worker. Any number of calls share a connection, which is made when it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._transport: asyncio.Transport | None = None
        self._connecting = asyncio.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._unpacker = Unpacker()

    async def call(self, call: Call, body: bytes) -> Reply:
        """Call, and wait for the reply.

        Raises:
            Away: the worker has got nothing.
            Overloaded: it died before it replied.
        """
        if self._transport is None:
            await self._connect()
        if self._transport is None:  # it has closed the connection at once
            raise Away
        if (request := CURRENT.get()) is not None:
            call = call._replace(context=request.passed_on())
        number = next(self._numbers)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        self._transport.write(pack(Kind.call, number, tuple(call), body))
        try:
            return await reply
        except asyncio.CancelledError:
            if self._transport is not None:
                self._transport.write(pack(Kind.cancel, number))
            raise
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _connect(self) -> None:
        async with self._connecting:
            if self._transport is not None:
                return
            try:
                await asyncio.get_running_loop().create_unix_connection(lambda: self, str(self._path))
            except OSError as error:
                raise Away from error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._unpacker = Unpacker()

    def data_received(self, data: bytes) -> None:
        for message in self._unpacker.receive(data):
            waiting = self._waiting.get(message.number)
            if waiting is not None and not waiting.done():
                status, headers = message.head
                waiting.set_result(Reply(status, headers, message.body))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(
                    Overloaded(
                        "the worker that has this session has ended before it answered, and the chunk may be applied "
                        f"or not: send it again, under its number, in {RETRY_S:g} s",
                        RETRY_S,
                    )
                )


class _Served(asyncio.Protocol):
    """A connection on which another worker calls this one."""

    def __init__(self, application: Application, all_served: set[_Served]) -> None:
        self._application = application
        self._all = all_served
        self._unpacker = Unpacker()
        self._calls: dict[int, tuple[Presence, asyncio.Task[None]]] = {}
        self._when_gone: list[Callable[[], None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._all.add(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._all.discard(self)
        for presence, _ in list(self._calls.values()):
            presence.leave()
        for act in self._when_gone:
            act()

    def when_gone(self, act: Callable[[], None]) -> None:
        """Call something when the other worker has gone."""
        self._when_gone.append(act)

    async def finish(self) -> None:
        """Answer what has come, and close the connection."""
        if self._calls:
            await asyncio.wait([task for _, task in self._calls.values()], timeout=CLOSING_S)
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        for message in self._unpacker.receive(data):
            if message.kind is Kind.call:
                presence = Presence()
                task = asyncio.get_running_loop().create_task(self._answer(message, presence))
                self._calls[message.number] = presence, task
            elif message.kind is Kind.cancel and message.number in self._calls:
                self._calls[message.number][0].leave()

    async def _answer(self, message: Message, presence: Presence) -> None:
        head: tuple[object, ...] = (500, [])
        parts: list[bytes] = []

        async def receive() -> AsgiMessage:
            return {"type": "http.request", "body": message.body, "more_body": False}

        async def send(sent: AsgiMessage) -> None:
            nonlocal head
            if sent["type"] == "http.response.start":
                head = sent["status"], [(bytes(name), bytes(value)) for name, value in sent.get("headers", ())]
            else:
                parts.append(sent.get("body", b""))

        try:
            scope = _scope(Call(*message.head), len(message.body), presence) | {CALLER: self}
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            if not presence.is_gone:
                raise
        except Exception as error:
            log.error("a request of another worker failed", exc_info=error)
        finally:
            del self._calls[message.number]
        if not presence.is_gone:
            self._transport.write(pack(Kind.reply, message.number, head, b"".join(parts)))


def _scope(call: Call, length: int, presence: Presence) -> dict[str, Any]:
    headers = [(b"host", b"worker"), (b"content-length", b"%d" % length), *call.context]
    if call.content_type:
        headers.append((b"content-type", call.content_type))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query,
        "root_path": "",
        "headers": headers,
        "client": call.client,
        "server": None,
        "state": {},
        SCOPE_KEY: presence,
        PASSED_ON: True,
    }
