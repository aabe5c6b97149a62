"""The part of a connection of ``WS /streams`` that another worker has: its frames come as requests of that worker.

``POST /streams`` with a frame in the body, answered with the frame of the results; ``DELETE`` when the connection is
gone. Only workers can send them: for all others these are no paths.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qsl

from fastapi import Response
from starlette.types import Receive, Scope, Send

from hetsyn_client.columns import SESSIONS, unpack_chunks, unpack_sessions
from service.admission.fair_share import client_of
from service.admission.presence import presence_of
from service.api import problems
from service.api.many_streams import ConnectionSessions, ManyStreams
from service.api.split_sessions import PATH
from service.errors import HetsynError, NotFound
from service.keys.caller import caller_of
from service.live.many_query import parse_many_query
from service.workers.siblings import CALLER, PASSED_ON

CONNECTION = "connection"


class Caller(Protocol):
    """Another worker, as long as it is there."""

    def when_gone(self, act: Callable[[], None]) -> None:
        """Call something when it has gone."""


class Parts:
    """The parts of other workers' connections.

    Args:
        many: what the connections of this worker share.
    """

    def __init__(self, many: ManyStreams) -> None:
        self._many = many
        self._parts: dict[str, ConnectionSessions] = {}
        self._of_caller: dict[Caller, set[str]] = {}

    @staticmethod
    def takes(scope: Scope) -> bool:
        """Whether a request is one of these."""
        return scope["type"] == "http" and scope["path"] == PATH and PASSED_ON in scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = parse_qsl(scope["query_string"].decode())
        key = dict(query)[CONNECTION]
        if scope["method"] == "DELETE":
            self._release(key)
            await Response()(scope, receive, send)
            return
        frame = (await receive())["body"]
        try:
            part = self._parts.get(key)
            if part is None and not frame.startswith(SESSIONS):
                raise NotFound("this worker has nothing of the connection: open its sessions first")
            if part is None:
                asked = parse_many_query([pair for pair in query if pair[0] != CONNECTION], caller_of(scope))
                client = client_of(scope["client"])
                part = self._parts[key] = ConnectionSessions(self._many, _Elsewhere(), asked, client)
                self._belongs_to(scope[CALLER], key)
            with presence_of(scope):
                if frame.startswith(SESSIONS):
                    answer = await part.open(unpack_sessions(frame))
                else:
                    answer, _ = await part.apply(unpack_chunks(frame, part.item_bytes))
        except HetsynError as error:
            await problems.from_domain_error(error)(scope, receive, send)
            return
        await Response(answer)(scope, receive, send)

    def _belongs_to(self, caller: Caller, key: str) -> None:
        """Release a part when its worker has gone."""
        if caller not in self._of_caller:
            self._of_caller[caller] = set()
            caller.when_gone(lambda: self._release_all(caller))
        self._of_caller[caller].add(key)

    def _release_all(self, caller: Caller) -> None:
        for key in list(self._of_caller[caller]):
            self._release(key)
        del self._of_caller[caller]

    def _release(self, key: str) -> None:
        for keys in self._of_caller.values():
            keys.discard(key)
        part = self._parts.pop(key, None)
        if part is not None:
            part.release()


class _Elsewhere:
    """A connection of another worker, which drains it."""

    def drain(self) -> None:
        pass

    async def drained(self) -> None:
        pass
