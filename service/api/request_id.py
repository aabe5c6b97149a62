"""Echoes ``X-Request-ID``, so that a client and a proxy can match a reply to its request in their logs."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"  # as ASGI spells it


class RequestIdEcho:
    """ASGI middleware that echoes the request's id.

    Unlike starlette's ``BaseHTTPMiddleware`` it runs the request in the caller's task, so a cancellation reaches it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == HEADER:
                    send = _echoing(value, send)
                    break
        return self._app(scope, receive, send)


def _echoing(request_id: bytes, send: Send) -> Send:
    """Wrap ``send`` so that the response's headers contain the id."""

    async def echo(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (HEADER, request_id)]}
        await send(message)

    return echo
