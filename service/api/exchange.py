"""A request with a chunk, from its headers to its response, without ASGI and without a task.

A connection passes on what it has parsed, in the order of ``Exchange``. The request's interface makes a ``Plan`` of its
headers (``api.infer``, ``api.open_inference``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import Context
from functools import cached_property
from typing import Protocol

from uvicorn.server import ServerState

from service.admission.uploads import FREE_BYTES, Upload, check_length, too_large
from service.api import problems
from service.api.messages import STATUS_LINES, Field, Head, lines_of
from service.errors import forget_frames
from service.ingress import SMALL_BYTES, Arrival, Encoded, Ingress, Source
from service.keys.caller import ANYBODY, Caller, Scope
from service.keys.credential import credentials_of
from service.keys.keys import Keys
from service.observe.context import SESSION, RequestContext
from service.observe.counters import Counters
from service.observe.timings import Transport
from service.problem import Problem
from service.registry.applying import NotApplied
from service.session.session import Answer

EXPOSED = (b"access-control-expose-headers", b"Retry-After, X-Request-ID")
access_log = logging.getLogger("uvicorn.access")


class Plan(Protocol):
    """The handling of a request, chosen by its headers.

    Attributes:
        request: its name in the log.
        advice: what to do about a longer body.
    """

    request: str
    transport: Transport
    max_bytes: int
    advice: str

    def encoded(self, body: bytes, upload: Upload | None) -> Encoded:
        """Return the body as the ingress takes it."""

    def reply(self, answer: Answer) -> tuple[bytes, bytes]:
        """Make the response: lines of its head, without the length, and its body."""

    def failed(self) -> None:
        """Note that the request was refused."""


class Door:
    """The part that all exchanges of a server share.

    Args:
        keys: None lets everybody in.
        planners: the planners of requests with a chunk (POST) for fixed paths.
        find: finds the planner of any other path, or none.
        cors_origins: origins of pages that may send requests.

    Attributes:
        defaults, default_lines: the headers that all responses have, which change with the date, and their lines.
    """

    def __init__(
        self,
        ingress: Ingress,
        counters: Counters,
        keys: Keys | None,
        planners: Mapping[str, Planner],
        find: Callable[[str], Planner | None],
        cors_origins: Collection[str] = (),
    ) -> None:
        self.ingress = ingress
        self.counters = counters
        self.keys = keys
        self.planners, self.find = planners, find
        self._origins = {origin.lower().encode() for origin in cors_origins}  # as browsers send them
        self.defaults: Sequence[Field] = ()
        self.default_lines = b""

    def headers(self, head: Head) -> Sequence[Field]:
        """Make the headers that a response has for its request: its ids, and what a page of another origin may read."""
        fields = head.fields
        headers: list[Field] = []
        if b"x-request-id" in fields:  # so a client and a proxy can match a response to its request
            headers += dict.fromkeys(field for field in head.headers if field[0] == b"x-request-id")
        is_question = b"access-control-request-method" in fields  # which the application answers
        if b"origin" in fields and (origin := fields[b"origin"]) in self._origins and not is_question:
            headers += [(b"access-control-allow-origin", origin), EXPOSED, (b"vary", b"Origin")]
        return headers


Planner = Callable[[Head], Plan]
"""An interface: it plans a request, or raises a ``HetsynError``."""


class Responder(Protocol):
    """The connection of an exchange."""

    server_state: ServerState

    def respond(self, response: bytes) -> None:
        """Send the response to the current request."""

    def write(self, data: bytes) -> None:
        """Send an interim response."""


class Exchange:
    """One request: call ``take`` with each part of its body, and ``go_on`` after all that has come.

    Args:
        responder: gets the response, once, unless ``leave`` was called before.

    Attributes:
        client: its sender: a key, or an address.
        keep_alive: the connection stays after the response.
    """

    _arrival: Arrival | None = None
    _upload: Upload | None = None
    _plan: Plan | None = None
    _error: Exception | None = None
    _caller: Caller = ANYBODY
    _body: bytes | bytearray = b""
    _counted_bytes = 0
    _is_over = False

    def __init__(self, door: Door, planner: Planner, head: Head, responder: Responder) -> None:
        self.head = head
        self.keep_alive = head.keep_alive
        self._door = door
        self._responder = responder
        self.client = head.client
        try:
            if door.keys is not None:
                self._caller = door.keys.admit(credentials_of(head.headers), Scope.infer)
                self.client = self._caller.client(head.client)
            self._plan = planner(head)
        except Exception as error:
            self._error = error

    @cached_property
    def context(self) -> Context:
        """Make the context of the request, which has its ids."""
        return RequestContext(self.head.headers).context()

    def take(self, part: bytes) -> None:
        if self._error is not None or self._plan is None:
            return
        if not self._body:
            self._body = part
        else:  # one piece, because each bytes object takes 33 bytes more
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part
        if len(self._body) > self._plan.max_bytes:
            self._body = b""
            self._error = too_large(self._plan.max_bytes, self._plan.advice)

    def go_on(self, is_complete: bool) -> None:
        """Begin the chunk if the body is complete; else wait for the rest, or refuse the request."""
        if self._is_over or self._arrival is not None:
            return
        plan, upload, size = self._plan, self._upload, len(self._body)
        try:
            if self._error is not None:
                raise self._error
            assert plan is not None
            if not is_complete:
                self._wait(plan)
                return
            if upload is not None:
                upload.end()
                upload.take(size - self._counted_bytes)
            elif size > SMALL_BYTES:
                self._upload = upload = self._door.ingress.arriving(self.client)
                if size > FREE_BYTES:  # a smaller body was in the connection's buffer
                    upload.take(size)
            source = Source(plan.request, plan.transport, self.client, self._caller)
            encoded = plan.encoded(bytes(self._body), upload)
            self._body = b""  # ``encoded`` frees it when the chunk is decoded
            self._arrival = self._door.ingress.begin(source, encoded, self._answer, self)
        except Exception as error:
            self._answer(error)

    def leave(self) -> None:
        """Stop: the client has gone, or its connection ends."""
        if self._is_over:
            return
        self._is_over = True
        if self._arrival is None or self._arrival.drop():
            self._door.counters.chunks_abandoned += 1
            self._release()
        else:
            self._arrival.told = self._committed

    def _wait(self, plan: Plan) -> None:
        """Wait for more of the body, and count the bytes that have come."""
        upload = self._upload
        if upload is None:
            check_length(self.head.fields.get(b"content-length", b""), plan.max_bytes, plan.advice)
            self._upload = upload = self._door.ingress.arriving(self.client)
            upload.check()
            upload.begin(self._answer)
            if self.head.expects:
                self._responder.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        upload.take(len(self._body) - self._counted_bytes)
        self._counted_bytes = len(self._body)

    def _answer(self, result: Answer | Exception) -> None:
        """Respond with the reply to the chunk, or with the problem."""
        plan, door, responder = self._plan, self._door, self._responder
        if isinstance(result, Exception):
            status, lines, body = self._refusal(result)
        else:
            assert plan is not None
            try:
                lines, body = plan.reply(result)
                status, lines = 200, lines + b"content-length: %d\r\n" % len(body)
            except Exception as error:
                status, lines, body = self._refusal(error)
        if self._upload is not None:
            self._release()
        self._is_over = True
        if not self.keep_alive:
            lines += b"connection: close\r\n"
        if b"x-request-id" in self.head.fields or b"origin" in self.head.fields:
            lines = lines_of(door.headers(self.head)) + lines
        if (defaults := responder.server_state.default_headers) is not door.defaults:
            door.defaults, door.default_lines = defaults, lines_of(defaults)
        lines = door.default_lines + lines
        if access_log.hasHandlers():
            self.context.copy().run(self._log, status)
        self._arrival = None
        responder.respond(b"%b%b\r\n%b" % (STATUS_LINES[status], lines, body))

    def _committed(self, result: Answer | Exception) -> None:
        """Count the chunk of a client that has gone, if it was not committed."""
        self._release()
        if isinstance(result, NotApplied):
            self._door.counters.chunks_abandoned += 1
        elif isinstance(result, Exception):
            self._problem(result)

    def _problem(self, error: Exception) -> Problem:
        """Count and log an error."""
        request = f"POST {self.head.path}" if self._plan is None else self._plan.request
        session = "" if self._arrival is None else self._arrival.session
        return self.context.copy().run(self._door.ingress.refused, error, request, session)

    def _refusal(self, error: Exception) -> tuple[int, bytes, bytes]:
        """Make the response to a request that is refused: its status, lines of its head, and its body."""
        if self._plan is not None:
            self._plan.failed()
        response = problems.response(self._problem(error))
        if response.headers.get("connection") == "close":
            self.keep_alive = False
            del response.headers["connection"]
        self._error = None
        forget_frames(error)  # they refer to this object
        return response.status_code, lines_of(response.raw_headers), bytes(response.body)

    def _log(self, status: int) -> None:
        """Write the access line; runs in the request's context, which has its ids."""
        if self._arrival is not None:
            SESSION.set(self._arrival.session)
        head = self.head  # uvicorn formats this line
        access_log.info('%s - "%s %s HTTP/%s" %d', self.client, "POST", head.raw_path.decode(), head.version, status)

    def _release(self) -> None:
        self._body = b""
        if self._upload is not None:
            self._upload.end()
            self._upload.give_back()
