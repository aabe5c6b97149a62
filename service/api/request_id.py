"""The request that is worked on, for log and traces; its ``X-Request-ID`` goes back to the client.

So a client and a proxy can match a reply to its request, and to the server's lines.
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observe.context import CURRENT, RequestContext

HEADER = b"x-request-id"  # as ASGI spells it


class RequestIdEcho:
    """ASGI middleware that echoes the request's id.

    Unlike starlette's ``BaseHTTPMiddleware`` it runs the request in the caller's task, so a cancellation reaches it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            headers = scope["headers"]
            CURRENT.set(RequestContext(headers))
            echoed: list[tuple[bytes, bytes]] = []
            for name, value in headers:
                if name == HEADER and (HEADER, value) not in echoed:
                    echoed.append((HEADER, value))
            if echoed:
                send = _echoing(echoed, send)
        return self._app(scope, receive, send)


def _echoing(fields: list[tuple[bytes, bytes]], send: Send) -> Send:
    """Wrap ``send`` so that the response's headers contain these too."""

    async def echo(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *fields]}
        await send(message)

    return echo
