"""Asks for a key at every request over HTTP, and at every handshake of a WebSocket."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.api.handshakes import Handshake
from service.errors import HetsynError, NotFound
from service.keys.caller import ANYBODY, KEY_CALLER, Caller
from service.keys.caller import Scope as KeyScope
from service.keys.keys import Keys
from service.keys.routes import need_of
from service.keys.token import of_bearer
from service.observe.counters import Counters
from service.problem import Problem

HEADER = b"authorization"


class Guard:
    """ASGI middleware; without keys it is left out.

    Behind it, ``caller_of`` says who sends a request, and the request's client is its key: so keys share the server's
    limits, whatever address they have.

    Args:
        app: that it wraps.
        keys: of the server.
        counters: count refused requests.
        max_body_bytes: longest body. A longer one is refused, not read, so no more than these bytes of it count.
    """

    def __init__(self, app: ASGIApp, keys: Keys, counters: Counters, max_body_bytes: int) -> None:
        self._app = app
        self._keys = keys
        self._counters = counters
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        need = need_of(scope["method"], path)
        if need == "open":
            await self._app(scope, receive, send)
            return
        credentials: list[bytes] = []
        declared: int | None = 0
        for name, value in scope["headers"]:
            if name == HEADER:
                credentials.append(value)
            elif name == b"content-length" and declared is not None:
                declared = int(value) if value.isdigit() else 0
            elif name == b"transfer-encoding":
                declared = None  # the length of the body is not known
        try:
            caller = self._caller(scope["method"], path, need, credentials)
            self._keys.request(caller, min(declared or 0, self._max_body_bytes))
        except HetsynError as error:
            self._counters.refused(error)
            await problems.response(Problem.of(error))(scope, receive, send)
            return
        scope[KEY_CALLER] = caller
        scope["client"] = (caller.key, 0)
        await self._app(scope, receive if declared is not None else self._counted(receive, caller), send)

    def _caller(self, method: str, path: str, need: KeyScope | None, credentials: list[bytes]) -> Caller:
        """Who sends a request, if that key may.

        Raises:
            KeyRefused, KeyLacksScope: it may not.
            NotFound: there is no such request, unless the table lacks it.
        """
        caller = self._keys.caller(of_bearer(credentials[0].decode("latin-1")) if len(credentials) == 1 else None)
        if need is not None:
            caller.check(need)
        elif KeyScope.admin not in caller.scopes:
            raise NotFound(f"there is nothing for {method} at {path[:200]}: see /docs for the paths")
        return caller

    def _counted(self, receive: Receive, caller: Caller) -> Receive:
        """Count the bytes of a body whose length nobody has declared, as they come."""
        usage = self._keys.usage(caller)

        async def counted() -> Message:
            message = await receive()
            usage.take_bytes(len(message.get("body", b"")))
            return message

        return counted


def caller_of_handshake(keys: Keys | None, shake: Handshake) -> Caller:
    """Who opens a WebSocket, if that key may. The opening counts as a request.

    Raises:
        KeyRefused, KeyLacksScope, KeyLimitReached: it may not.
    """
    if keys is None:
        return ANYBODY
    caller = keys.caller(shake.credential.text)
    caller.check(KeyScope.infer)
    keys.request(caller, 0)
    return caller
