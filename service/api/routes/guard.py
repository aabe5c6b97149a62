"""Asks for a key at every request over HTTP. WebSockets ask by themselves."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.errors import HetsynError, NotFound
from service.keys.caller import KEY_CALLER
from service.keys.credential import credentials_of
from service.keys.keys import Keys
from service.keys.routes import methods_of, need_of
from service.observe.counters import Counters
from service.problem import Problem


class Guard:
    """ASGI middleware for a server with keys.

    Behind it, ``caller_of`` finds the caller of a request. Limits count by key then, not by address.
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
        try:
            caller = self._keys.admit(credentials_of(scope["headers"]), need)
            if need is None and methods_of(path):
                self._counters.chunks_refused["http"] += 1
                await problems.wrong_method(scope["method"], path)(scope, receive, send)
                return
            if need is None:
                raise NotFound(f"there is nothing for {scope['method']} at {path[:200]}: see /docs for the paths")
        except HetsynError as error:
            self._counters.refused(error)
            await problems.response(Problem.of(error))(scope, receive, send)
            return
        scope[KEY_CALLER] = caller
        scope["client"] = (caller.key, 0)
        await self._app(scope, receive, send)
