"""Carries out the steps of a client, blocking: httpx for HTTP, websockets for WebSockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from threading import Lock

import httpx
from websockets.sync.client import ClientConnection, connect

from hetsyn_client.access import Access
from hetsyn_client.network.web_socket import BREAKS, address, arguments, broken
from hetsyn_client.protocol.steps import Broken, Carrier, Request, Response, Steps, T


class Transport(Carrier):
    """Connections to one server. Threads may share them.

    Args:
        timeout_s: time limit for one answer.
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
        self._network = network
        self._sockets: dict[ClientConnection, ExitStack] = {}  # each with the stack that closes it
        self._http: httpx.Client | None = None  # a WebSocket needs none
        self._lock = Lock()

    def close(self) -> None:
        for socket in list(self._sockets):
            self._closed(socket)
        if self._http is not None:
            self._http.close()

    def run(self, steps: Steps[T]) -> T:
        """Carry out steps to their result, or to their error."""
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
            result: T = end.value
            return result
        finally:
            steps.close()

    def _client(self) -> httpx.Client:
        with self._lock:
            if self._http is None:
                self._http = httpx.Client(
                    headers=dict(self._access.headers),
                    timeout=self._timeout_s,
                    transport=self._network,
                    verify=self._access.tls or True,
                )
            return self._http

    def exchange(self, request: Request) -> Response:
        try:
            response = self._client().request(
                request.method, self._access.url + request.target, content=request.content, headers=request.all_headers
            )
        except httpx.RequestError as error:
            waited_s = self._timeout_s if isinstance(error, httpx.TimeoutException) else 0.0
            raise Broken(str(error) or type(error).__name__, waited_s=waited_s) from error
        return Response(response.status_code, response.reason_phrase, response.headers, response.content)

    def _opened(self, target: str) -> ClientConnection:
        closing_it = ExitStack()
        try:
            opening = connect(address(self._access, target), **arguments(self._access, self._timeout_s))
            socket: ClientConnection = closing_it.enter_context(opening)
        except BREAKS as error:
            raise broken(error, self._timeout_s) from error
        self._sockets[socket] = closing_it
        return socket

    def _now(self) -> float:
        return time.monotonic()

    def _closed(self, socket: ClientConnection) -> None:
        closing_it = self._sockets.pop(socket, None)  # None: the client was closed before
        if closing_it is not None:
            with suppress(*BREAKS):
                closing_it.close()

    def _sent(self, socket: ClientConnection, content: bytes | str) -> None:
        try:
            socket.send(content)
        except BREAKS as error:
            raise broken(error) from error

    def _read(self, socket: ClientConnection, timeout_s: float) -> bytes | str | None:
        try:
            return socket.recv(timeout_s)
        except TimeoutError:
            return None
        except BREAKS as error:
            raise broken(error) from error
