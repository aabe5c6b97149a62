"""Asks for a key at every call of gRPC, in the metadata ``authorization``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from service.errors import HetsynError, NotFound
from service.grpc.messages import refusal
from service.keys.caller import ANYBODY, Caller
from service.keys.credential import of_bearer
from service.keys.keys import Keys
from service.keys.routes import GRPC
from service.problem import Problem

METADATA = "authorization"
LACKS = "this server lacks the method: ServerMetadata lists its extensions"

CALLER: ContextVar[Caller] = ContextVar("CALLER", default=ANYBODY)
"""Who makes the call."""


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Asks for a key before all other interceptors."""

    def __init__(self, keys: Keys, refused: Callable[[Exception, str], Problem]) -> None:
        self._keys = keys
        self._refused = refused

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        need = GRPC.get(details.method)
        if need == "open":
            return await continuation(details)
        try:
            metadata = details.invocation_metadata or ()
            caller = self._keys.admit([of_bearer(str(value)) for name, value in metadata if name == METADATA], need)
        except HetsynError as error:
            return _refusing(refusal(self._refused(error, details.method)))
        if need is None:
            self._refused(NotFound(LACKS), details.method)
            return _refusing((grpc.StatusCode.UNIMPLEMENTED, LACKS))
        CALLER.set(caller)  # a call has a task, and so a context, of its own
        return await continuation(details)


def _refusing(refused: tuple[Any, ...]) -> Any:
    """Make the handler of a call that is refused."""

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(*refused)

    return grpc.stream_stream_rpc_method_handler(refuse)
