"""What a line of log and a span say of the request that they belong to.

Most requests make neither. So a request costs one small object here, and its headers are read when they are needed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from contextvars import Context, ContextVar, copy_context
from types import MappingProxyType

from service.observe.trace_context import TraceContext, new_span_id, new_trace_id, parse_trace

REQUEST_ID, PARENT, STATE = "x-request-id", "traceparent", "tracestate"
LONGEST_ID = 128  # characters of a request's id in a line
Headers = Iterable[tuple[str | bytes, str | bytes]]


class RequestContext:
    """A request.

    Args:
        headers: of the request, or the metadata of a call; the names in lower case.
    """

    __slots__ = ("_headers", "_made_trace_id", "_read", "_request_id", "_span_id", "_trace")

    def __init__(self, headers: Headers = ()) -> None:
        self._headers = headers
        self._read = False
        self._request_id = ""
        self._span_id = ""
        self._made_trace_id = ""
        self._trace: TraceContext | None = None

    @property
    def request_id(self) -> str:
        """The client's ``X-Request-ID``; without one, an id that the lines of this request have in common."""
        self._look()
        return self._request_id

    @property
    def trace(self) -> TraceContext | None:
        """The trace that the client has named."""
        self._look()
        return self._trace

    @property
    def span_id(self) -> str:
        """Of the work for this request."""
        self._span_id = self._span_id or new_span_id()
        return self._span_id

    @property
    def trace_id(self) -> str:
        """The client's, or one of our own for a request that names none."""
        if self.trace is not None:
            return self.trace.trace_id
        self._made_trace_id = self._made_trace_id or new_trace_id()
        return self._made_trace_id

    @property
    def has_trace(self) -> bool:
        """Whether there is a trace to speak of."""
        return self.trace is not None or bool(self._made_trace_id)

    def context(self) -> Context:
        """A context for the tasks that work for this request, one at a time."""
        context = copy_context()
        context.run(CURRENT.set, self)
        return context

    def passed_on(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers with which another process goes on: in its spans, those of this one are the parents."""
        fields = [(REQUEST_ID.encode(), self.request_id.encode("latin-1"))]
        if (trace := self.trace) is not None:
            fields.append((PARENT.encode(), trace.header(self.span_id)))
            fields += [(STATE.encode(), trace.state.encode("latin-1"))] if trace.state else []
        return tuple(fields)

    def _look(self) -> None:
        if self._read:
            return
        self._read = True
        values: dict[str, list[str]] = {REQUEST_ID: [], PARENT: [], STATE: []}
        for name, value in self._headers:
            found = values.get(name.decode("latin-1") if isinstance(name, bytes) else name)
            if found is not None:
                found.append(value.decode("latin-1") if isinstance(value, bytes) else value)
        self._headers = ()
        ids = values[REQUEST_ID]
        self._request_id = ids[0][:LONGEST_ID] if ids and ids[0] else secrets.token_hex(8)
        self._trace = parse_trace(values[PARENT], values[STATE])


CURRENT: ContextVar[RequestContext | None] = ContextVar("hetsyn_request", default=None)
"""The request that is worked on."""

SESSION: ContextVar[str] = ContextVar("hetsyn_session", default="")
"""The session that is worked on."""

CALLER: ContextVar[Mapping[str, str]] = ContextVar("hetsyn_caller", default=MappingProxyType({}))
"""What lines say of whoever sent the request, such as the name of a key; set by what knows. Never a secret."""


def described() -> dict[str, str]:
    """The members of a line that belongs to what is worked on."""
    members = dict(CALLER.get())
    request = CURRENT.get()
    if request is not None:
        members["request_id"] = request.request_id
        if request.has_trace:
            members |= {"trace_id": request.trace_id, "span_id": request.span_id}
    if session := SESSION.get():
        members["session"] = session
    return members
