"""``/sessions/{id}``: describe a session, drop it, export it and import it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse

from service.admission.budget import Permit, client_of
from service.api import problems
from service.errors import UnsupportedInput
from service.ingress import Ingress
from service.keys.caller import caller_of
from service.registry.transfer import SessionTransfer
from service.store.record import MEDIA_TYPE
from service.wire.content_types import LONGEST, parse_content_type
from service.wire.schema import SESSION_ID, SessionDescription

AS_EXPORTED = "send what GET /sessions/ID/state gave"
STATE_TYPES = (MEDIA_TYPE, "application/octet-stream")
Id = Annotated[str, InPath(pattern=SESSION_ID)]


def router(ingress: Ingress, transfer: SessionTransfer, max_body_bytes: int) -> APIRouter:
    routes, registry = APIRouter(tags=["sessions"]), ingress.registry

    def visit(request: Request) -> AbstractContextManager[Permit]:
        return ingress.admission.permit(client_of(request.client))

    @routes.get("/sessions/{session_id}", response_model=SessionDescription, responses=problems.documented(_LOOKUP))
    async def describe(request: Request, session_id: str) -> dict[str, Any]:
        """The session's model, and the number of the chunk that it expects next."""
        with visit(request) as permit:
            return await registry.describe(caller_of(request.scope).session(session_id), permit.due_s, permit.client)

    @routes.delete("/sessions/{session_id}", status_code=204, responses=problems.documented(_LOOKUP))
    async def delete(request: Request, session_id: str) -> Response:
        """Delete a session after the chunks that came before. Its id may be used again."""
        with visit(request) as permit:
            await registry.delete(caller_of(request.scope).session(session_id), permit.due_s, permit.client)
        return Response(status_code=204)

    @routes.get("/sessions/{session_id}/state", response_class=Response, responses=_EXPORT)
    async def export_state(request: Request, session_id: str) -> Response:
        """Export the whole session as bytes. This does not change the session."""
        with visit(request) as permit:
            content = await transfer.export_state(
                caller_of(request.scope).session(session_id), permit.due_s, permit.client
            )
        return Response(content, media_type=MEDIA_TYPE)

    @routes.put("/sessions/{session_id}/state", status_code=201, openapi_extra=_IMPORT_BODY, responses=_IMPORT)
    async def import_state(request: Request, session_id: Id, replace: bool = False) -> Response:
        """Import an exported session under an id, with its progress and its last reply."""
        client = client_of(request.client)
        _ = transfer.tokens  # without keys, the body is not read
        with ingress.arriving(client) as upload:
            media_type, _ = parse_content_type(request.headers.get("content-type", ""))
            if media_type not in STATE_TYPES:
                shown = repr(media_type[:LONGEST])
                raise UnsupportedInput(f"content type {shown} is not accepted: send {' or '.join(STATE_TYPES)}")
            declared = request.headers.get("content-length", "").encode()
            content = await upload.read(request.receive, declared, max_body_bytes, AS_EXPORTED)
            with visit(request) as permit:
                description, is_new = await transfer.import_state(
                    caller_of(request.scope).session(session_id),
                    content,
                    replace_it=replace,
                    client=client,
                    due_s=permit.due_s,
                )
            return JSONResponse(description, 201 if is_new else 200)

    return routes


_UNAVAILABLE = "the server is full or shutting down, or its session store does not answer; see Retry-After"
_NO_KEYS = "the server has no keys to seal and open sessions with"
_LOOKUP: Mapping[int, str] = {
    404: "there is no such session",
    409: "the session's stored record cannot be used",
    503: _UNAVAILABLE,
}
_EXPORT: dict[int | str, dict[str, Any]] = {
    200: {"description": "the session, sealed", "content": {MEDIA_TYPE: {}}},
    **problems.documented({**_LOOKUP, 501: _NO_KEYS}),
}
_IMPORT: dict[int | str, dict[str, Any]] = {
    200: {"description": "the imported session replaced the one of this id", "model": SessionDescription},
    201: {"description": "the imported session", "model": SessionDescription},
    **problems.documented(
        {
            408: "the body did not come in time",
            409: "a session of this id exists; or the exported one has another key, format, or files of its model",
            410: "the exported session has expired",
            413: "the body is too long",
            415: "a content type that is not accepted",
            422: "not an exported session, or a changed one; a wrong id; or `replace` is no truth value",
            429: "the key has as many sessions as it may; see Retry-After",
            501: _NO_KEYS,
            503: "the server does not have the model's version, and another may have it; or " + _UNAVAILABLE,
        }
    ),
}
_IMPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in STATE_TYPES},
    }
}
