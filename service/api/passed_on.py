"""Requests for ``/sessions/{id}`` whose session another worker has: ASGI middleware that passes them on."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission.body import ClientDisconnect, read_body
from service.admission.fair_share import client_of
from service.admission.presence import presence_of
from service.admission.uploads import Upload, Uploads
from service.api import problems
from service.api.parts import Parts
from service.errors import HetsynError
from service.keys.caller import caller_of
from service.workers.messages import Call
from service.workers.siblings import Siblings

PREFIX = "/sessions/"


class PassedOn:
    """See above.

    Args:
        app: that it wraps.
        siblings: workers of the same server.
        parts: of other workers' connections of ``/streams``.
        uploads: bodies under way.
        max_body_bytes: longest body.
    """

    def __init__(self, app: ASGIApp, siblings: Siblings, parts: Parts, uploads: Uploads, max_body_bytes: int) -> None:
        self._app = app
        self._parts = parts
        self._siblings = siblings
        self._uploads = uploads
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        index = None
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            session = scope["path"].removeprefix(PREFIX).partition("/")[0]
            index = self._siblings.other(session, scope)
        if Parts.takes(scope):
            await self._parts(scope, receive, send)
            return
        if index is None:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        client = client_of(scope["client"])
        call = Call(
            scope["method"],
            scope["path"],
            scope["query_string"],
            headers.get(b"content-type", b""),
            scope["client"],
            caller_of(scope).packed(),
        )
        try:
            with Upload(self._uploads, client) as upload:
                body = await read_body(receive, headers.get(b"content-length", b""), self._max_body_bytes, upload)
                with presence_of(scope):
                    reply = await self._siblings.call(index, call, body)
        except HetsynError as error:
            await problems.from_domain_error(error)(scope, receive, send)
            return
        except ClientDisconnect:
            return  # nobody would read a response

        async def receive_again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        if reply is None:  # its worker is away: the store has the session
            await self._app(scope, receive_again, send)
            return
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})
