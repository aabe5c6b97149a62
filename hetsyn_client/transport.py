"""Carries out the steps of a client, blocking: httpx for HTTP, websockets for WebSockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import Any, cast

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection

from hetsyn_client.access import Access
from hetsyn_client.steps import (
    Broken,
    CloseSocket,
    OpenSocket,
    Pause,
    ReadFrame,
    Request,
    Response,
    SendFrame,
    Step,
    Steps,
    T,
    retry_after_s,
)
from hetsyn_client.web_socket import connecting


class Transport:
    """Connections to one server. Threads may share them.

    Args:
        access: to the server.
        timeout_s: for one answer.
        network: replaces the network for HTTP in tests.
        sleep: waits between two tries, in seconds; tests replace it.
    """

    def __init__(
        self,
        access: Access,
        timeout_s: float,
        network: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._access = access
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._sockets: dict[ClientConnection, ExitStack] = {}  # each with what closes it
        self._http = httpx.Client(
            headers=dict(access.headers), timeout=timeout_s, transport=network, verify=access.tls or True
        )

    def close(self) -> None:
        for socket in list(self._sockets):
            self._closed(socket)
        self._http.close()

    def run(self, steps: Steps[T]) -> T:
        """Carry out steps to their result, or to their error."""
        with closing(steps):
            try:
                step = next(steps)
                while True:
                    try:
                        answer = self._do(step)
                    except Broken as broken:
                        step = steps.throw(broken)
                    else:
                        step = steps.send(answer)
            except StopIteration as end:
                return cast(T, end.value)

    def _do(self, step: Step) -> Any:
        match step:
            case Request():
                return self._exchanged(step)
            case SendFrame(socket, content):
                return self._sent(cast(ClientConnection, socket), content)
            case ReadFrame(socket):
                return self._read(cast(ClientConnection, socket))
            case Pause(seconds):
                return self._sleep(seconds)
            case OpenSocket(target):
                return self._opened(target)
            case CloseSocket(socket):
                return self._closed(cast(ClientConnection, socket))

    def _exchanged(self, request: Request) -> Response:
        headers = dict(request.headers)
        headers |= {} if request.content_type is None else {"Content-Type": request.content_type}
        try:
            response = self._http.request(
                request.method, self._access.url + request.target, content=request.content, headers=headers
            )
        except httpx.RequestError as error:
            waited_s = self._timeout_s if isinstance(error, httpx.TimeoutException) else 0.0
            raise Broken(str(error) or type(error).__name__, waited_s=waited_s) from error
        return Response(response.status_code, response.reason_phrase, response.headers, response.content)

    def _opened(self, target: str) -> ClientConnection:
        try:
            closing_it = ExitStack()
            socket = closing_it.enter_context(connecting(self._access, target, self._timeout_s))
        except InvalidStatus as error:
            refusal = error.response
            raise Broken(
                str(error), status=refusal.status_code, retry_after_s=retry_after_s(refusal.headers)
            ) from error
        except (InvalidHandshake, InvalidURI, ConnectionClosed, OSError) as error:  # TimeoutError is an OSError
            raise Broken(str(error)) from error
        self._sockets[socket] = closing_it
        return socket

    def _closed(self, socket: ClientConnection) -> None:
        closing_it = self._sockets.pop(socket, None)  # None: the client was closed before its session
        if closing_it is not None:
            with suppress(OSError, ConnectionClosed):
                closing_it.close()

    def _sent(self, socket: ClientConnection, content: bytes) -> None:
        try:
            socket.send(content)
        except (ConnectionClosed, OSError) as error:
            raise Broken(str(error)) from error

    def _read(self, socket: ClientConnection) -> str:
        try:
            return str(socket.recv(self._timeout_s, decode=True))
        except TimeoutError as error:
            raise Broken("the server does not answer", waited_s=self._timeout_s) from error
        except (ConnectionClosed, OSError) as error:
            raise Broken(str(error)) from error
