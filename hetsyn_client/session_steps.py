"""One session: its numbers, its repeats, and how it goes on after a break. Pure: ``steps`` says how.

Over a WebSocket, a chunk goes out as a frame, and its result is waited for. Whatever happens to the connection, the
chunk then goes to ``POST /infer`` under the same number: the server has kept its reply, or applies it now, so that no
reply is lost. The next chunk opens another WebSocket. The end goes to ``POST /infer`` too, for the same reason.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any, Literal

from hetsyn_client.bodies import Body
from hetsyn_client.calls import LONGEST_PAUSE_S, Calls, ChunkOptions, SessionOptions, check_names
from hetsyn_client.errors import HetsynError, InputError, ServiceProblem
from hetsyn_client.results import Reply
from hetsyn_client.steps import Broken, CloseSocket, OpenSocket, Pause, ReadFrame, SendFrame, Steps, target

TransportName = Literal["http", "websocket"]
PASSING = (429, 502, 503, 504)  # statuses with which a WebSocket is refused for now


class SessionSteps:
    """The steps of one session.

    Args:
        calls: of the server.
        session: id of a session that may have begun; None for a new one.
        transport: ``http`` or ``websocket``.
        options: of every chunk.

    Attributes:
        id: on the server.
        seq: number of the next chunk; None while it is not known.
    """

    def __init__(self, calls: Calls, session: str | None, transport: TransportName, options: SessionOptions) -> None:
        check_names(options, SessionOptions.__optional_keys__)
        if transport not in ("http", "websocket"):
            raise InputError(f"there is no transport {transport!r}: choose http or websocket")
        if options.get("carry") and (transport == "websocket" or session is not None):
            raise InputError("a carried session is new, and goes over HTTP: leave out session and transport")
        self.id = session or secrets.token_urlsafe(16)
        self.seq = None if session else 0
        self.transport = transport
        self._is_named = session is not None
        self._calls = calls
        self._options = options
        self._token: bytes | None = None
        self._empty: Body | None = None  # an input without content, of the kind that the session takes
        self._has_begun = False
        self._has_ended = False
        self._is_busy = False
        self._utterance: int | None = None if session else 0  # that is under way or comes next
        self._socket: object | None = None
        self._socket_query: dict[str, str] = {}
        self._is_clean = False  # nothing is under way on the socket
        self._begin: dict[str, Any] = {}

    def send(self, body: Body, *, end: bool = False) -> Steps[Reply]:
        """Send a chunk; a chunk that raised keeps its number.

        Raises:
            InputError: another chunk is under way.
            ServiceProblem: the server refused the chunk.
            ServiceUnreachable: the server cannot be reached.
        """
        if self._is_busy:
            raise InputError("a chunk of this session is under way: wait for its reply before you send the next")
        self._is_busy = True
        try:
            if self.seq is None:
                self.seq = yield from self._calls.expected_seq(self.id)
                self._has_begun = self.seq > 0
            reply = None
            knows_utterance = self._utterance is not None or not self.seq or not self._options.get("endpointing")
            if self.transport == "websocket" and not end and knows_utterance:
                reply = yield from self._by_socket(body)
            if reply is None:
                if end:
                    yield from self._close_socket()
                reply = yield from self._by_http(body, end=end)
        finally:
            self._is_busy = False
        self._token, self._empty = reply.get("token"), body.emptied
        self._utterance = reply.get("utterance", 0)
        self._has_begun = True
        self.seq += 1
        self._has_ended = end
        return reply

    def end(self) -> Steps[Reply]:
        """End the session without further input; errors as ``send``, and InputError if no chunk was sent."""
        if self._empty is None:
            raise InputError("the session has no chunk yet: send one before you end it")
        return (yield from self.send(self._empty, end=True))

    def leave(self) -> Steps[None]:
        """Leave the session. One that has not ended is deleted on the server, unless the caller has named it."""
        yield from self._close_socket()
        if self._has_begun and not (self._has_ended or self._is_named or self._options.get("carry")):
            with suppress(HetsynError):  # the server deletes an idle session by itself
                yield from self._calls.drop(self.id)

    def _by_http(self, body: Body, *, end: bool) -> Steps[Reply]:
        options: ChunkOptions = {
            **self._options, "session": self.id, "seq": self.seq, "end": end, "token": self._token,
        }  # fmt: skip
        return (yield from self._calls.infer(body, options, has_begun=self._has_begun))

    def _by_socket(self, body: Body) -> Steps[Reply | None]:
        """The reply to a chunk; None if the connection broke: then the chunk may be applied.

        Raises:
            ServiceProblem: the server refused the chunk.
        """
        query, content = body.frame
        try:
            if self._socket is not None and not (self._is_clean and query == self._socket_query):
                yield from self._close_socket()
            self._is_clean = False
            if self._socket is None:
                yield from self._open_socket(query)
                if self._begin["next_seq"] != self.seq:
                    return None  # it was applied when it was sent before; else the reply says what is wrong
            with suppress(Broken):  # what the server said before it closed the connection is read below
                yield SendFrame(self._socket, content)
            reply = yield from self._result()
        except Broken as broken:
            yield from self._close_socket()
            if broken.retry_after_s:
                yield Pause(min(LONGEST_PAUSE_S, broken.retry_after_s))
            if broken.status is not None and broken.status not in PASSING:
                self.transport = "http"  # which says what is wrong, or works where no WebSocket passes
            return None
        self._is_clean = True
        return reply

    def _open_socket(self, query: dict[str, str]) -> Steps[None]:
        named = {name: self._options.get(name) for name in ("model", "version", "form")}
        endpointing = "on" if self._options.get("endpointing") else "off"
        more = {name: self._options.get(name) or None for name in ("spikes", "timing")}
        opening = target("/stream", {"session": self.id, **named, **query, "endpointing": endpointing, **more})
        self._socket = yield OpenSocket(opening)
        self._socket_query = query
        self._begin = yield from self._frame()

    def _close_socket(self) -> Steps[None]:
        socket, self._socket = self._socket, None
        if socket is not None:
            yield CloseSocket(socket)

    def _result(self) -> Steps[Reply]:
        """The reply to the chunk that is under way, as ``/infer`` has it."""
        events: list[Any] = []
        while True:
            frame = yield from self._frame()
            if frame["type"] in ("SpeechStarted", "UtteranceEnd"):
                if frame["utterance"] >= (self._utterance or 0):  # else it is repeated after a break
                    events.append(frame)
            elif frame["type"] == "Result":
                break
        begin = self._begin
        reply: Reply = {
            "session": self.id, "model": begin["model"], "version": begin["version"], "form": begin["form"],
            "seq": frame["seq"], "steps": round(1000 * frame["duration"] / begin["step_ms"]),
            "total_steps": frame["total_steps"], "label": frame["label"], "labels": begin["labels"],
            "probabilities": frame["probabilities"], "end": False,
        }  # fmt: skip
        if self._options.get("endpointing"):
            reply |= {"utterance": frame["utterance"], "events": events}
        for name in ("readout", "spikes", "timing"):
            if name in frame:
                reply[name] = frame[name]
        return reply

    def _frame(self) -> Steps[dict[str, Any]]:
        frame = self._calls.read((yield ReadFrame(self._socket)))
        if frame["type"] == "Error":
            if frame["retryable"]:
                raise Broken(frame["detail"], retry_after_s=frame["retry_after_s"])
            raise ServiceProblem(frame["status"], frame["detail"], frame["expected_seq"], None, frame["problem"])
        return frame


class NumberedSession:
    """What a session tells of itself, blocking or not."""

    def __init__(self, steps: SessionSteps) -> None:
        self._steps = steps

    @property
    def id(self) -> str:
        """Its id on the server."""
        return self._steps.id

    @property
    def seq(self) -> int | None:
        """Number of the next chunk; None before the first chunk of a session that you have named."""
        return self._steps.seq

    @property
    def transport(self) -> TransportName:
        """Over which chunks go: ``http`` also after a proxy has refused WebSockets."""
        return self._steps.transport
