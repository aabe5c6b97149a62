"""Reopens a WebSocket that breaks. Pure: it yields ``steps``."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from hetsyn_client.access import PATIENCE_S, REPEATS, TIMEOUT_S, ClientOptions
from hetsyn_client.errors import ServiceProblem, SessionLost
from hetsyn_client.protocol.calls import PASSING, stranger, unreachable
from hetsyn_client.protocol.patience import Patience
from hetsyn_client.protocol.steps import Broken, CloseSocket, Now, OpenSocket, Pause, ReadFrame, SendFrame, Steps

Frame = dict[str, Any]


class ConnectionOptions(ClientOptions, total=False):
    """Options of a WebSocket's connections: ``ClientOptions``, and these.

    Attributes:
        model: by default the server's default model.
        version: by default the newest.
    """

    model: str | None
    version: str | None


class Reconnecting(ABC):
    """A WebSocket that is reopened when it breaks."""

    def __init__(self, url: str, target: str, options: ConnectionOptions) -> None:
        self._url = url
        self._target = target
        self._timeout_s = options.get("timeout_s", TIMEOUT_S)
        self._repeats = options.get("repeats", REPEATS)
        self._patience = Patience(self._repeats, options.get("patience_s", PATIENCE_S))
        self._socket: object | None = None
        self._half_open: object | None = None  # its opening was cancelled: the next step closes it
        self._refusal: ServiceProblem | None = None  # the connection's, if it asked to come again later

    def _close(self) -> Steps[None]:
        """Close the connection."""
        sockets = self._socket, self._half_open
        self._socket = self._half_open = None
        for socket in sockets:
            if socket is not None:
                yield CloseSocket(socket)

    def _begin_once(self) -> Steps[None]:
        """Open the connection for the first time."""
        try:
            yield from self._connect_and_open()
        except Broken as error:
            yield from self._reopen(error)

    @property
    def _resumes(self) -> bool:
        """Return whether the server must know the connection's one session, because it stored a chunk of it."""
        return False

    @abstractmethod
    def _open(self) -> Steps[None]:
        """Open a new connection, and send again what was not acknowledged.

        Raises:
            Broken: the connection broke.
            ServiceProblem: a session cannot go on.
        """

    def _send_frame(self, content: bytes | str) -> Steps[None]:
        if self._socket is None:
            raise Broken("the connection is closed")
        yield SendFrame(self._socket, content)

    def _read(self, timeout_s: float) -> Steps[bytes | Frame | None]:
        """Read a frame; None if none comes in time.

        Raises:
            ServiceProblem: the frame is an error that another try does not solve.
            ServiceUnreachable: it is no frame of a HetSyn server.
            Broken: the connection broke.
        """
        if self._socket is None:
            raise Broken("the connection is closed")
        content: str | bytes | None = yield ReadFrame(self._socket, timeout_s)
        if not isinstance(content, str):
            return content
        try:
            frame: Frame = json.loads(content)
            is_error = frame["type"] == "Error"
        except (ValueError, KeyError, TypeError) as error:
            raise stranger(self._url) from error
        if is_error:
            problem = ServiceProblem(
                frame["status"], frame["detail"], frame["expected_seq"], frame["retry_after_s"], frame["problem"]
            )
            if not frame["retryable"]:
                yield from self._close()
                raise problem
            self._refusal = problem
        return frame

    def _awaited(self) -> Steps[bytes | Frame]:
        """Read the next frame, as ``_read``; Broken if none comes in time."""
        frame = yield from self._read(self._timeout_s)
        if frame is None:
            raise Broken("the server does not answer", waited_s=self._timeout_s)
        return frame

    def _begun(self) -> Steps[Frame]:
        """Read the first frame of a connection."""
        frame = yield from self._awaited()
        if isinstance(frame, bytes) or frame["type"] not in ("Begin", "Error"):
            raise stranger(self._url)
        if frame["type"] == "Error":
            raise Broken(frame["detail"])
        return frame

    def _connect_and_open(self) -> Steps[None]:
        yield from self._close()
        try:
            self._socket = yield OpenSocket(f"{self._target}&resume=true" if self._resumes else self._target)
        except Broken as error:
            if error.status is not None:
                problem = _problem(error.status, error.body, error.retry_after_s)
                if error.status not in (429, *PASSING):
                    raise SessionLost.of(problem) if self._resumes and error.status == 404 else problem from error
                self._refusal = problem
            raise
        try:
            yield from self._open()
        except GeneratorExit:  # cancelled: the next step opens another connection
            self._half_open, self._socket = self._socket, None
            raise

    def _reopen(self, error: Broken) -> Steps[None]:
        """Reopen the connection after a pause.

        Raises:
            ServiceProblem: the server asked again and again to come later, or refuses for good.
            ServiceUnreachable: the connection broke again and again.
        """
        while True:
            with suppress(Broken):
                while (yield from self._read(0)) is not None:
                    pass  # an error that the server sent before it closed the connection is raised
            yield from self._close()
            refusal, self._refusal = self._refusal, None
            if self._patience.is_over((yield Now()), error.waited_s):
                if refusal is not None:
                    raise refusal from error
                times = self._patience.failures + 1
                raise unreachable(self._url, Broken(f"the connection broke {times} times in a row: {error}")) from error
            asked_s = 0.0 if refusal is None else refusal.retry_after_s or 0.0
            yield Pause(self._patience.pause_s(asked_s, error.waited_s))
            try:
                yield from self._connect_and_open()
            except Broken as again:
                error = again
            else:
                return


def _problem(status: int, body: bytes, retry_after_s: float | None) -> ServiceProblem:
    try:
        content = json.loads(body)
        problem = str(content["type"]).rpartition(":")[2]
        return ServiceProblem(status, str(content["detail"]), content.get("expected_seq"), retry_after_s, problem)
    except (ValueError, KeyError, TypeError):
        return ServiceProblem(status, body[:200].decode("latin-1"), None, retry_after_s)
