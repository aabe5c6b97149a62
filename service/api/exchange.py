"""A request with a chunk, from its headers to its response: it needs neither ASGI nor a task.

A connection hands over what it has parsed, in the order of ``Exchange``. What the request asks for is a ``Plan``, which
its interface makes of its headers (``api.infer``, ``api.open_inference``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from service.admission.uploads import FREE_BYTES, Upload, check_length, too_large
from service.api import problems
from service.ingress import SMALL_BYTES, Arrival, Decode, Encoded, Ingress, Source
from service.keys.caller import ANYBODY, Caller, Scope
from service.keys.keys import Keys
from service.keys.token import credentials_of
from service.observe.context import RequestContext
from service.observe.counters import Counters
from service.observe.timings import Transport
from service.problem import Problem
from service.registry.together import NotApplied
from service.wire.answer import Answer

Field = tuple[bytes, bytes]


class Plan(Protocol):
    """What a request asks for, by its headers.

    Attributes:
        request: as which the log names it.
        transport: by which its chunk comes.
        max_bytes: longest body.
        advice: what to do about a longer one.
    """

    request: str
    transport: Transport
    max_bytes: int
    advice: str

    def decode(self, body: bytes) -> Decode:
        """How to decode the body."""

    def reply(self, answer: Answer) -> tuple[Sequence[Field], bytes]:
        """The headers of the response without its length, and its body."""

    def failed(self) -> None:
        """The request was refused."""


class Door(NamedTuple):
    """What all exchanges of a server share."""

    ingress: Ingress
    counters: Counters
    keys: Keys | None


class Head(NamedTuple):
    """A request without its body.

    Attributes:
        path: of the URL, decoded.
        query: of the URL.
        headers: with names in lower case.
        fields: the last header of each name.
        client: that sends it.
        expects: the client waits for 100 before it sends the body.
    """

    path: str
    query: bytes
    headers: Sequence[Field]
    fields: Mapping[bytes, bytes]
    client: str
    expects: bool


Planner = Callable[[Head], Plan]
"""An interface: it plans a request, or raises a ``HetsynError``."""


class Responder(Protocol):
    """A connection."""

    def respond(self, head: Head, status: int, headers: Sequence[Field], body: bytes) -> None:
        """Answer the request that is under way."""

    def ask_for_body(self) -> None:
        """Send the interim response 100."""


class Exchange:
    """One request: ``take`` each part of its body, and ``go_on`` once all is taken that has come.

    Args:
        door: see above.
        planner: of the request.
        head: of the request.
        responder: gets the response, once, unless ``leave`` was called before.

    Attributes:
        head: see above.
        client: that sends it: its key, or its address.
        more_body: a part of the body has not come.
        is_answered: the response is made, or nobody wants one.
    """

    _arrival: Arrival | None = None
    _upload: Upload | None = None
    _plan: Plan | None = None
    _error: Exception | None = None
    _caller: Caller = ANYBODY
    _size = _counted = 0

    def __init__(self, door: Door, planner: Planner, head: Head, responder: Responder) -> None:
        self.head = head
        self.more_body = True
        self.is_answered = False
        self._door = door
        self._responder = responder
        self._context = RequestContext(head.headers).context()
        self.client = head.client
        self._parts: list[bytes] = []
        try:
            if door.keys is not None:
                self._caller = door.keys.admit(credentials_of(head.headers), Scope.infer)
                self.client = self._caller.client(head.client)
            self._plan = plan = planner(head)
            if (length := head.fields.get(b"content-length")) is not None:
                check_length(length, plan.max_bytes, plan.advice)
        except Exception as error:
            self._error = error

    def take(self, part: bytes) -> None:
        """Take a part of the body."""
        if self._error is None and self._plan is not None:
            self._size += len(part)
            self._parts.append(part)
            if self._size > self._plan.max_bytes:
                self._parts.clear()
                self._error = too_large(self._plan.max_bytes, self._plan.advice)

    def go_on(self) -> None:
        """Begin the chunk if the body is complete; else wait for the rest, or refuse the request."""
        if self.is_answered or self._arrival is not None:
            return
        try:
            if self._error is not None:
                self._refuse(self._error)
            elif self.more_body:
                self._wait()
            else:
                self._begin()
        except Exception as error:
            self._refuse(error)

    def leave(self) -> None:
        """The client has gone, or its connection ends."""
        if self.is_answered:
            return
        self.is_answered = True
        if self._arrival is None or self._arrival.drop():
            self._door.counters.chunks_abandoned += 1
            self._release()
        else:
            self._arrival.on_answer(self._committed)

    def _wait(self) -> None:
        """Wait for more of the body, and count what has come."""
        upload = self._upload
        if upload is None:
            self._upload = upload = self._door.ingress.arriving(self.client)
            upload.check()
            upload.begin(self._refuse)
            if self.head.expects:
                self._responder.ask_for_body()
        upload.take(self._size - self._counted)
        self._counted = self._size

    def _begin(self) -> None:
        plan, upload, size = self._plan, self._upload, self._size
        assert plan is not None
        if upload is not None:
            upload.end()
            upload.take(size - self._counted)
        elif size > SMALL_BYTES:
            self._upload = upload = self._door.ingress.arriving(self.client)
            if size > FREE_BYTES:  # else it was in the connection's buffer
                upload.take(size)
        source = Source(plan.request, plan.transport, self.client, self._caller)
        encoded = Encoded(size, plan.decode(b"".join(self._parts)), upload)
        self._parts.clear()  # ``encoded`` frees them when the chunk is decoded
        self._arrival = self._door.ingress.begin(source, encoded, self._answered, self._context)

    def _answered(self, result: Answer | Exception) -> None:
        plan = self._plan
        assert plan is not None
        if isinstance(result, Exception):
            self._refuse(result)
            return
        try:
            headers, body = plan.reply(result)
        except Exception as error:
            self._refuse(error)
            return
        self._respond(200, [*headers, (b"content-length", b"%d" % len(body))], body)

    def _committed(self, result: Answer | Exception) -> None:
        """The chunk of a client that has gone was committed, or was not."""
        self._release()
        if isinstance(result, NotApplied):
            self._door.counters.chunks_abandoned += 1
        elif isinstance(result, Exception):
            self._problem(result)

    def _problem(self, error: Exception) -> Problem:
        """Count and log an error."""
        request = f"POST {self.head.path}" if self._plan is None else self._plan.request
        session = "" if self._arrival is None else self._arrival.session
        return self._context.copy().run(self._door.ingress.refused, error, request, session)

    def _refuse(self, error: Exception) -> None:
        plan = self._plan
        if plan is not None:
            plan.failed()
        response = problems.response(self._problem(error))
        self._respond(response.status_code, response.raw_headers, bytes(response.body))

    def _respond(self, status: int, headers: Sequence[Field], body: bytes) -> None:
        self._release()
        self.is_answered = True
        self._arrival = None
        self._responder.respond(self.head, status, headers, body)

    def _release(self) -> None:
        self._parts.clear()
        if self._upload is not None:
            self._upload.end()
            self._upload.give_back()
