"""What a line of log and a span say of the request that they belong to.

Most requests make neither. So a request costs one small object here, and its headers are read when they are needed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import ClassVar

from service.keys.ids import client_id, owner_of
from service.keys.token import redacted
from service.observe.trace_context import TraceContext, new_span_id, new_trace_id, parse_trace

REQUEST_ID, PARENT, STATE = "x-request-id", "traceparent", "tracestate"
LONGEST_ID = 128  # characters of a request's id in a line
Headers = Iterable[tuple[str | bytes, str | bytes]]


class RequestContext:
    """A request.

    Args:
        headers: of the request, or the metadata of a call; the names in lower case.

    Attributes:
        makes_traces: requests that name no trace begin one, because this server makes spans.
    """

    makes_traces: ClassVar[bool] = False
    __slots__ = ("_details", "_headers")

    def __init__(self, headers: Headers = ()) -> None:
        self._headers = headers
        self._details: _Details | None = None  # most requests need none

    @property
    def request_id(self) -> str:
        """The client's ``X-Request-ID``; without one, an id that the lines of this request have in common."""
        return self._look().request_id

    @property
    def trace(self) -> TraceContext | None:
        """The trace that the client has named."""
        return self._look().trace

    @property
    def span_id(self) -> str:
        """Of the work for this request."""
        details = self._look()
        details.span_id = details.span_id or new_span_id()
        return details.span_id

    @property
    def trace_id(self) -> str:
        """The client's, or one of our own for a request that names none."""
        details = self._look()
        if details.trace is not None:
            return details.trace.trace_id
        details.made_trace_id = details.made_trace_id or new_trace_id()
        return details.made_trace_id

    @property
    def has_trace(self) -> bool:
        """Whether there is a trace to speak of."""
        return self.trace is not None or self.makes_traces

    def context(self) -> Context:
        """A context for the tasks that work for this request, one at a time."""
        context = copy_context()
        context.run(CURRENT.set, self)
        return context

    def _look(self) -> _Details:
        details = self._details
        if details is None:
            details = self._details = _read(self._headers)
            self._headers = ()
        return details


@dataclass(slots=True)
class _Details:
    """What the headers of a request say, and what was made for want of it."""

    request_id: str
    trace: TraceContext | None
    span_id: str = ""
    made_trace_id: str = ""


def _read(headers: Headers) -> _Details:
    values: dict[str, list[str]] = {REQUEST_ID: [], PARENT: [], STATE: []}
    for name, value in headers:
        found = values.get(name.decode("latin-1") if isinstance(name, bytes) else name)
        if found is not None:
            found.append(value.decode("latin-1") if isinstance(value, bytes) else value)
    ids = values[REQUEST_ID]
    request_id = redacted(ids[0][:LONGEST_ID]) if ids and ids[0] else secrets.token_hex(8)
    return _Details(request_id, parse_trace(values[PARENT], values[STATE]))


CURRENT: ContextVar[RequestContext | None] = ContextVar("hetsyn_request", default=None)
"""The request that is worked on."""

SESSION: ContextVar[str] = ContextVar("hetsyn_session", default="")
"""The session that is worked on, by its inner id."""


def described() -> dict[str, str]:
    """The members of a line that belongs to what is worked on."""
    members: dict[str, str] = {}
    request = CURRENT.get()
    if request is not None:
        members["request_id"] = request.request_id
        if request.has_trace:
            members |= {"trace_id": request.trace_id, "span_id": request.span_id}
    if session := SESSION.get():
        members["session"] = client_id(session)
        if key := owner_of(session):
            members["key"] = key
    return members
