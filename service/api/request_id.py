"""The request that is worked on, for log and traces; its ``X-Request-ID`` and its trace go back to the client.

So a client and a proxy can match a reply to its request, and to the server's lines and spans.
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observe.context import CURRENT, RequestContext

HEADER = b"x-request-id"  # as ASGI spells it
TRACE, ANSWERED_TRACE = b"traceparent", b"traceresponse"


class RequestIdEcho:
    """ASGI middleware that echoes the request's id, and says which span of the client's trace has answered.

    Unlike starlette's ``BaseHTTPMiddleware`` it runs the request in the caller's task, so a cancellation reaches it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            headers = scope["headers"]
            request = RequestContext(headers)
            CURRENT.set(request)
            echoed: list[tuple[bytes, bytes]] = []
            for name, value in headers:
                if name == HEADER and (HEADER, value) not in echoed:
                    echoed.append((HEADER, value))
                elif name == TRACE:
                    echoed += answered_trace(request)
            if echoed:
                send = _echoing(echoed, send)
        return self._app(scope, receive, send)


def answered_trace(request: RequestContext) -> list[tuple[bytes, bytes]]:
    """The header that says which span of the client's trace has answered; none if the client has named no trace."""
    trace = request.trace
    return [] if trace is None else [(ANSWERED_TRACE, trace.header(request.span_id))]


def _echoing(fields: list[tuple[bytes, bytes]], send: Send) -> Send:
    """Wrap ``send`` so that the response's headers contain these too."""

    async def echo(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *fields]}
        await send(message)

    return echo
