"""The ids of a request, for its log lines and spans.

Most requests make neither. So their headers are read on demand.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from service.keys.credential import redacted
from service.keys.ids import client_id, owner_of
from service.observe.trace_context import TraceContext, new_span_id, new_trace_id, parse_trace

REQUEST_ID, PARENT, STATE = "x-request-id", "traceparent", "tracestate"
LONGEST_ID = 128  # characters of a request's id in a line
Headers = Iterable[tuple[str | bytes, str | bytes]]


class RequestContext:
    """A request.

    Args:
        headers: the request's headers, or a call's metadata; names in lower case.

    Attributes:
        makes_traces: the server makes spans, so a request without a trace begins one.
    """

    makes_traces: ClassVar[bool] = False
    __slots__ = ("_details", "_headers")

    def __init__(self, headers: Headers = ()) -> None:
        self._headers = headers
        self._details: _Details | None = None  # most requests need none

    @property
    def request_id(self) -> str:
        """Return the client's ``X-Request-ID``, or an id made for this request's log lines."""
        return self._look().request_id

    @property
    def trace(self) -> TraceContext | None:
        """Return the trace that the client named."""
        return self._look().trace

    @property
    def span_id(self) -> str:
        """Return the id of the span for this request."""
        details = self._look()
        details.span_id = details.span_id or new_span_id()
        return details.span_id

    @property
    def trace_id(self) -> str:
        """Return the client's trace id, or one made for this request."""
        details = self._look()
        if details.trace is not None:
            return details.trace.trace_id
        details.made_trace_id = details.made_trace_id or new_trace_id()
        return details.made_trace_id

    @property
    def has_trace(self) -> bool:
        """Return whether the request belongs to a trace."""
        return self.trace is not None or self.makes_traces

    def context(self) -> Context:
        """Make a context for this request's tasks. Only one task at a time may run in it."""
        context = Context()
        context.run(CURRENT.set, self)
        return context

    def _look(self) -> _Details:
        details = self._details
        if details is None:
            details = self._details = _read(self._headers)
            self._headers = ()
        return details


class HasContext(Protocol):
    """Gives the context of a request. Most requests never need it, so it is made on demand."""

    @property
    def context(self) -> Context: ...


class Made(NamedTuple):
    """A context that exists already."""

    context: Context


@dataclass(slots=True)
class _Details:
    """Ids from the request's headers, or generated ones."""

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
    """Return the log members of the current request and session."""
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
