"""``/sessions/{id}``: describe a session, drop it, export it and import it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse

from service.admission.body import read_body
from service.admission.fair_share import client_of
from service.admission.permits import Admission
from service.admission.uploads import Upload, Uploads
from service.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.api.problems import from_error
from service.errors import ModelAbsent, StateError, UnsupportedInput
from service.registry.registry import SessionRegistry
from service.store.record import MEDIA_TYPE
from service.wire.content_types import parse_content_type
from service.wire.schema import SESSION_ID

STATE_TYPES = (MEDIA_TYPE, "application/octet-stream")
Id = Annotated[str, InPath(pattern=SESSION_ID)]


def router(registry: SessionRegistry, admissions: Admission, uploads: Uploads, max_body_bytes: int) -> APIRouter:
    routes = APIRouter(tags=["sessions"])

    @routes.get("/sessions/{session_id}")
    async def describe(session_id: str) -> dict[str, Any]:
        """The session's model, and the number of the chunk that it expects next."""
        with admissions:
            return await registry.describe(session_id)

    @routes.delete("/sessions/{session_id}", status_code=204)
    async def delete(session_id: str) -> Response:
        """Drop a session at once. Its id may be used again."""
        with admissions:
            await registry.delete(session_id)
        return Response(status_code=204)

    @routes.get("/sessions/{session_id}/state", response_class=Response, responses=_EXPORT)
    async def export_state(session_id: str) -> Response:
        """Export the whole session as bytes. The session goes on."""
        with admissions:
            return Response(await registry.export_state(session_id), media_type=MEDIA_TYPE)

    @routes.put("/sessions/{session_id}/state", status_code=201, openapi_extra=_IMPORT_BODY, responses=_IMPORT)
    async def import_state(request: Request, session_id: Id, replace: bool = False) -> Response:
        """Import an exported session under an id, with its progress and its last reply."""
        admissions.check()
        with Upload(uploads, client_of(request.client)) as upload:
            media_type, _ = parse_content_type(request.headers.get("content-type", ""))
            if media_type not in STATE_TYPES:
                raise UnsupportedInput(f"content type {media_type!r} is not taken: send {' or '.join(STATE_TYPES)}")
            declared = request.headers.get("content-length", "").encode()
            content = await read_body(request.receive, declared, max_body_bytes, upload)
            try:
                with admissions:
                    description, is_new = await registry.import_state(session_id, content, replace_it=replace)
            except ModelAbsent:
                raise  # 503: another server may have the model
            except StateError as error:
                return from_error(error, status=422)  # the body is wrong; for a stored record the status is 409
            return JSONResponse(description, 201 if is_new else 200)

    return routes


_EXPORT: dict[int | str, dict[str, Any]] = {
    200: {"description": "the packed session", "content": {MEDIA_TYPE: {}}},
    404: {"description": "there is no such session", "content": {PROBLEM_TYPE: {}}},
    410: {"description": "the session was dropped", "content": {PROBLEM_TYPE: {}}},
}
_IMPORT: dict[int | str, dict[str, Any]] = {
    200: {"description": "the imported session replaced the one of this id"},
    409: {"description": "a session of this id exists", "content": {PROBLEM_TYPE: {}}},
    410: {"description": "the session of this id was dropped", "content": {PROBLEM_TYPE: {}}},
    422: {"description": "not a packed session of a model that the server has", "content": {PROBLEM_TYPE: {}}},
    503: {"description": "the server lacks the model's version; another may have it", "content": {PROBLEM_TYPE: {}}},
}
_IMPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in STATE_TYPES},
    }
}
