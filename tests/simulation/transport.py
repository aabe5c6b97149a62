"""Carries out the steps of our client in the simulated network: HTTP/1.1 and WebSockets from a simulated process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from hetsyn_client.protocol.steps import (
    Broken,
    CloseSocket,
    Now,
    OpenSocket,
    Pause,
    ReadFrame,
    Request,
    Response,
    SendFrame,
    Steps,
    carried_out,
    retry_after_s,
)
from tests.simulation.loop import Process

T = TypeVar("T")
PORT = 8000


class SimulatedTransport:
    """Carries out steps, as ``hetsyn_client.network``.

    Args:
        host: names the server for the next request or connection, as a balancer would.
        headers: of all requests.
        answered: is told when a request was sent, once it has its answer.
    """

    def __init__(
        self,
        process: Process,
        host: Callable[[], str],
        timeout_s: float,
        headers: Mapping[str, str],
        answered: Callable[[float], None],
    ) -> None:
        self._process = process
        self._answered = answered
        self._headers = headers
        self.host = host
        self._timeout_s = timeout_s
        self._idle: dict[str, _Http] = {}
        self._sockets: list[_Socket] = []

    async def run(self, steps: Steps[T]) -> T:
        """Carry out steps to their result, or to their error."""
        return await carried_out(steps, self.carry_out)

    async def carry_out(self, step: Any) -> Any:
        match step:
            case Request():
                return await self.exchange(step)
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Now():
                return self._process.time()
            case OpenSocket(target):
                return await self._opened(target)
            case SendFrame(socket, content):
                return socket.send(content)
            case ReadFrame(socket, timeout_s):
                return await socket.read(timeout_s)
            case CloseSocket(socket):
                return socket.close()

    async def exchange(self, request: Request) -> Response:
        """Send a request; Broken if there is no answer."""
        host, sent_s = self.host(), self._process.time()
        connection = self._idle.pop(host, None)
        try:
            async with asyncio.timeout(self._timeout_s):
                if connection is None or connection.is_lost:
                    _, connection = await self._process.connect(_Http, host, PORT)
                    assert connection is not None
                headers = "".join(
                    f"{name}: {value}\r\n" for name, value in {**self._headers, **request.all_headers}.items()
                )
                head = f"{request.method} {request.target} HTTP/1.1\r\nHost: {host}\r\n{headers}"
                length = f"Content-Length: {len(request.content)}\r\n\r\n"
                response = await connection.answer(f"{head}{length}".encode() + request.content)
        except TimeoutError:
            if connection is not None:
                connection.transport.abort()
            raise Broken("the server does not answer", waited_s=self._timeout_s) from None
        except OSError as error:
            raise Broken(str(error)) from error
        except asyncio.CancelledError:
            if connection is not None:
                connection.transport.abort()
            raise
        if not connection.is_lost:
            self._idle[host] = connection
        self._answered(sent_s)
        return response

    async def _opened(self, target: str) -> Any:
        host, socket = self.host(), None
        try:
            async with asyncio.timeout(self._timeout_s):
                _, socket = await self._process.connect(
                    lambda: _Socket(f"ws://{host}:{PORT}{target}", self._headers), host, PORT
                )
                await socket.opened
        except asyncio.CancelledError:
            if socket is not None:
                socket.transport.abort()
            raise
        except InvalidStatus as error:
            headers = error.response.headers
            later_s = retry_after_s(headers)
            status, body = error.response.status_code, bytes(error.response.body or b"")
            raise Broken(str(error), status=status, retry_after_s=later_s, body=body) from error
        except TimeoutError:
            if socket is not None:
                socket.transport.abort()
            raise Broken("the server does not answer", waited_s=self._timeout_s) from None
        except (InvalidHandshake, OSError) as error:
            raise Broken(str(error)) from error
        self._sockets = [*(each for each in self._sockets if not each.transport.is_closing()), socket]
        return socket

    def break_a_socket(self) -> None:
        """Break the WebSocket that was opened first, as a network that is lost."""
        for socket in self._sockets[:1]:
            socket.transport.abort()

    def close(self) -> None:
        for connection in self._idle.values():
            connection.transport.close()


class _Http(asyncio.Protocol):
    """A connection for one request after the other."""

    def __init__(self) -> None:
        self.is_lost = False
        self._buffer = b""
        self._answer: asyncio.Future[Response] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    async def answer(self, request: bytes) -> Response:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator or self._answer is None:
            return
        first, *lines = head.decode().split("\r\n")
        headers = {name.title(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("Content-Length", "0"))
        if len(rest) < length:
            return
        _, status, reason = first.split(" ", 2)
        self._buffer = rest[length:]
        if headers.get("Connection") == "close":
            self.is_lost = True
        if not self._answer.done():
            self._answer.set_result(Response(int(status), reason, headers, rest[:length]))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the server has closed the connection"))


class _Socket(asyncio.Protocol):
    """A WebSocket."""

    def __init__(self, uri: str, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._protocol = ClientProtocol(parse_uri(uri), subprotocols=["hetsyn.v1"])  # type: ignore[list-item]
        self._frames: asyncio.Queue[bytes | str | None] = asyncio.Queue()
        self._parts: list[bytes] = []
        self._is_text = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._take()
        self._flush()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._take()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionResetError("the server has closed the connection"))
        self._frames.put_nowait(None)

    def send(self, content: bytes | str) -> None:
        if self._protocol.state is not State.OPEN or self.transport.is_closing():
            raise Broken("the connection is closed")
        if isinstance(content, str):
            self._protocol.send_text(content.encode())
        else:
            self._protocol.send_binary(content)
        self._flush()

    async def read(self, timeout_s: float) -> bytes | str | None:
        """Read a frame; None if none comes in time; Broken if the connection is closed."""
        try:
            async with asyncio.timeout(timeout_s):
                frame = await self._frames.get()
        except TimeoutError:
            return None
        if frame is None:
            self._frames.put_nowait(None)
            raise Broken("the connection was closed")
        return frame

    def close(self) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_close()
            self._flush()
        self.transport.close()

    def _take(self) -> None:
        for event in self._protocol.events_received():
            opcode = getattr(event, "opcode", None)
            if opcode is None:  # the response to the handshake
                if self.opened.done():  # given up
                    pass
                elif self._protocol.handshake_exc is None:
                    self.opened.set_result(None)
                else:
                    self.opened.set_exception(self._protocol.handshake_exc)
            elif opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if opcode is not Opcode.CONT:
                    self._is_text = opcode is Opcode.TEXT
                self._parts.append(bytes(event.data))  # type: ignore[union-attr]
                if event.fin:  # type: ignore[union-attr]
                    whole = b"".join(self._parts)
                    self._parts = []
                    self._frames.put_nowait(whole.decode() if self._is_text else whole)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self.transport.close()
