"""Echoes ``X-Request-ID``, so that a client and a proxy find the reply to a request in their logs."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import REQUEST_ID

HEADER = REQUEST_ID.lower().encode()


class RequestIdEcho:
    """ASGI middleware; plain, so that a request is not moved to another task and cancellation stays direct."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = next((value for name, value in scope.get("headers", ()) if name == HEADER), None)
        if sent is not None and scope["type"] == "http":
            send = echoing(sent, send)
        await self._app(scope, receive, send)


def echoing(sent: bytes, send: Send) -> Send:
    """``send`` with the id in the response's headers."""

    async def echo(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (HEADER, sent)]}
        await send(message)

    return echo
