"""Asks for a key at every request over HTTP, and at every handshake of a WebSocket."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

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
    """

    def __init__(self, app: ASGIApp, keys: Keys, counters: Counters) -> None:
        self._app = app
        self._keys = keys
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        need = need_of(scope["method"], path)
        if need == "open":
            await self._app(scope, receive, send)
            return
        credentials = [value for name, value in scope["headers"] if name == HEADER]
        try:
            caller = self._keys.caller(of_bearer(credentials[0].decode("latin-1")) if len(credentials) == 1 else None)
            if need is None:
                raise NotFound(f"there is nothing for {scope['method']} at {path[:200]}: see /docs for the paths")
            caller.check(need)
            self._keys.request(caller)
        except HetsynError as error:
            self._counters.refused(error)
            await problems.response(Problem.of(error))(scope, receive, send)
            return
        scope[KEY_CALLER] = caller
        scope["client"] = (caller.key, 0)
        await self._app(scope, receive, send)


def caller_of_handshake(keys: Keys | None, shake: Handshake) -> Caller:
    """Who opens a WebSocket, if that key may. The opening counts as a request.

    Raises:
        KeyRefused, KeyLacksScope, KeyLimitReached: it may not.
    """
    if keys is None:
        return ANYBODY
    caller = keys.caller(shake.credential)
    caller.check(KeyScope.infer)
    keys.request(caller)
    return caller
