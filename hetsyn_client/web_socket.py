"""WebSockets of the server, blocking."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from hetsyn_client.access import Access
from hetsyn_client.errors import ServiceProblem, ServiceUnreachable
from hetsyn_client.steps import own_pause_s, retry_after_s

Frame = dict[str, Any]
SUBPROTOCOL = Subprotocol("hetsyn.v1")
LONGEST_PAUSE_S = 30.0
LONGEST_OWN_PAUSE_S = 4.0  # where the server names none: it is noticed so soon that it is back


def connecting(access: Access, target: str, timeout_s: float) -> AbstractContextManager[ClientConnection]:
    """A context in which a WebSocket is open.

    Args:
        access: to the server.
        target: path and query.
        timeout_s: for the opening.

    Raises:
        InvalidHandshake: the server refused.
        ConnectionClosed, OSError, TimeoutError: no connection.
    """
    return connect(
        f"ws{access.url.removeprefix('http')}{target}",
        subprotocols=[SUBPROTOCOL],
        compression=None,
        additional_headers=access.headers,
        ssl=access.tls,
        open_timeout=timeout_s,
        close_timeout=1.0,
        max_size=None,
        proxy=None,
    )


class SessionHasEnded(ServiceProblem):
    """The session has ended."""


class Reconnecting(ABC):
    """A WebSocket that is opened again when it breaks.

    Args:
        access: to the server.
        target: path and query.
        timeout_s: for an answer of the server.
        repeats: how often in a row it is opened again before it gives up.
        patience_s: for how long it is opened again at least, once the server has answered a chunk.
        sleep: waits between two tries, in seconds; tests replace it.
    """

    def __init__(
        self,
        access: Access,
        target: str,
        timeout_s: float,
        repeats: int,
        patience_s: float,
        sleep: Callable[[float], None],
    ) -> None:
        self._access = access
        self._target = target
        self._timeout_s = timeout_s
        self._repeats = repeats
        self._patience_s = patience_s if repeats else 0.0
        self._left_s = 0.0  # of the patience
        self._sleep = sleep
        self._connection: ClientConnection | None = None
        self._closing = ExitStack()
        self._failures = 0
        self._retry_after_s = 0.0  # as the server has asked for

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The sessions stay on the server until they expire.

        Chunks that were not acknowledged may not be applied: ``wait`` first.
        """
        self._connection = None
        self._closing.close()

    def _begin(self) -> None:
        """Open the connection for the first time."""
        try:
            self._open()
        except (ConnectionClosed, OSError, TimeoutError) as error:
            self._reopen(error)

    def _answered(self) -> None:
        """The server has answered a chunk: so it will be back."""
        self._failures = 0
        self._left_s = self._patience_s

    @abstractmethod
    def _open(self) -> None:
        """Open the connection, and send again what was not acknowledged; errors as of ``_connect``."""

    @abstractmethod
    def _read(self, timeout_s: float) -> object:
        """Read a frame.

        Raises:
            ServiceProblem: it is an error that another try does not mend.
            ConnectionClosed, OSError: the connection broke.
            TimeoutError: none came.
        """

    def _connected(self) -> ClientConnection:
        if self._connection is None:
            raise OSError("the connection is closed")
        return self._connection

    def _connect(self) -> ClientConnection:
        """Open the WebSocket.

        Raises:
            ServiceProblem: the server refused, and another try does not mend it.
            ConnectionClosed, OSError, TimeoutError: no connection.
        """
        try:
            opening = connecting(self._access, self._target, self._timeout_s)
            self._connection = self._closing.enter_context(opening)
        except InvalidStatus as error:
            response = error.response
            if response.status_code in (429, 502, 503, 504):
                self._retry_after_s = retry_after_s(response.headers) or 0.0
                raise OSError(f"the server answers {response.status_code}") from error
            raise _problem(response.status_code, bytes(response.body or b"")) from error
        except (InvalidHandshake, InvalidURI) as error:  # a redirect leads to an address that is none
            raise OSError(str(error)) from error
        return self._connection

    def _reopen(self, error: Exception) -> None:
        """Open the connection again after a pause."""
        with suppress(ConnectionClosed, OSError, TimeoutError):
            while self._connection is not None:
                self._read(0)  # raises what the server said before it closed the connection
        while True:
            self.close()
            self._failures += 1
            if self._failures > self._repeats and self._left_s <= 0:
                raise ServiceUnreachable(f"the connection broke {self._failures} times in a row: {error}") from error
            own_s = min(LONGEST_OWN_PAUSE_S, own_pause_s(self._failures))
            pause_s, self._retry_after_s = min(LONGEST_PAUSE_S, max(own_s, self._retry_after_s)), 0.0
            self._sleep(pause_s)
            begun_s = time.monotonic()
            try:
                self._open()
            except (ConnectionClosed, OSError, TimeoutError) as again:
                error = again
                self._left_s -= pause_s + time.monotonic() - begun_s
            else:
                return


def _problem(status: int, body: bytes) -> ServiceProblem:
    try:
        content = json.loads(body)
        problem = str(content["type"]).rpartition(":")[2]
        kind = SessionHasEnded if problem == "session-ended" else ServiceProblem
        return kind(status, str(content["detail"]), content.get("expected_seq"), None, problem)
    except (ValueError, KeyError, TypeError):
        return ServiceProblem(status, body[:200].decode("latin-1"), None, None)
