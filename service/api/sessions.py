"""``/sessions/{id}``: look at a session, drop it, and move it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse

from service.admission.body import read_body
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
        """What a session runs on and which chunk it expects next."""
        with admissions:
            return await registry.describe(session_id)

    @routes.delete("/sessions/{session_id}", status_code=204)
    async def delete(session_id: str) -> Response:
        """Drop a session at once; its id may be used again."""
        with admissions:
            await registry.delete(session_id)
        return Response(status_code=204)

    @routes.get("/sessions/{session_id}/state", response_class=Response, responses=_EXPORT)
    async def export_state(session_id: str) -> Response:
        """Everything that a session is, as bytes; the session goes on."""
        with admissions:
            return Response(await registry.export_state(session_id), media_type=MEDIA_TYPE)

    @routes.put("/sessions/{session_id}/state", status_code=201, openapi_extra=_IMPORT_BODY, responses=_IMPORT)
    async def import_state(request: Request, session_id: Id, replace: bool = False) -> Response:
        """Put an exported session under an id, with its progress and its last reply."""
        with admissions, Upload(uploads) as upload:
            media_type, _ = parse_content_type(request.headers.get("content-type", ""))
            if media_type not in STATE_TYPES:
                raise UnsupportedInput(f"content type {media_type!r} is not taken: send {' or '.join(STATE_TYPES)}")
            declared = request.headers.get("content-length", "").encode()
            content = await read_body(request.receive, declared, max_body_bytes, upload)
            try:
                described, is_new = await registry.import_state(session_id, content, replace_it=replace)
            except ModelAbsent:
                raise  # another server may have it
            except StateError as error:
                return from_error(error, status=422)  # it is the body that is wrong, not what is here
            return JSONResponse(described, 201 if is_new else 200)

    return routes


_EXPORT: dict[int | str, dict[str, Any]] = {
    200: {"description": "a packed session", "content": {MEDIA_TYPE: {}}},
    404: {"description": "there is no such session", "content": {PROBLEM_TYPE: {}}},
    410: {"description": "it was dropped", "content": {PROBLEM_TYPE: {}}},
}
_IMPORT: dict[int | str, dict[str, Any]] = {
    200: {"description": "it replaced the session of this id"},
    409: {"description": "there is a session of this id", "content": {PROBLEM_TYPE: {}}},
    410: {"description": "the session of this id was dropped", "content": {PROBLEM_TYPE: {}}},
    422: {"description": "not a packed session that fits a model here", "content": {PROBLEM_TYPE: {}}},
    503: {"description": "its model's version is not here; another server may have it", "content": {PROBLEM_TYPE: {}}},
}
_IMPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in STATE_TYPES},
    }
}
