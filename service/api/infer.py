"""``POST /infer``: a chunk of a stream in, what the network says so far out."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from service import packed_events
from service.api.body import read_body
from service.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.errors import InputError, UnsupportedInput
from service.payloads import (
    CONTENT_TYPES,
    JSON_TYPE,
    L16_TYPE,
    WAV_TYPES,
    Envelope,
    InferBody,
    InferRequest,
    Reply,
    decode_json,
    decode_raw,
    parse_content_type,
    unsupported,
)
from service.sessions import SessionRegistry

# below this, decoding costs less than handing it to a thread
DECODE_IN_LOOP_BYTES = 64 * 1024
# larger bodies that are decoded at the same time; each takes many times its length in memory
LARGE_DECODES = 2


def router(sessions: SessionRegistry, max_body_bytes: int, max_json_bytes: int) -> APIRouter:
    routes = APIRouter(tags=["streaming"])
    large_decodes = asyncio.Semaphore(LARGE_DECODES)

    @routes.post("/infer", response_model=Reply, openapi_extra=_openapi(), responses=_PROBLEMS)
    async def infer(request: Request) -> Response:
        """Apply one chunk to a session and get the classification so far.

        The first chunk opens the session; `end` closes it. A chunk that is sent again under its number gets
        the first reply again and is not applied twice.
        """
        with sessions.admission():
            content_type = _checked_content_type(request)
            is_json = parse_content_type(content_type)[0] == JSON_TYPE
            body = await read_body(request, min(max_json_bytes, max_body_bytes) if is_json else max_body_bytes)
            if len(body) <= DECODE_IN_LOOP_BYTES:
                decoded = _decode(content_type, request, body)
            else:
                async with large_decodes:
                    decoded = await asyncio.to_thread(_decode, content_type, request, body)
            del body  # not needed while the chunk waits for its turn
            reply = await sessions.infer(decoded)
            return Response(reply.to_json(), media_type=JSON_TYPE)

    return routes


def _checked_content_type(request: Request) -> str:
    """
    Raises:
        UnsupportedInput: no content type, one that is not taken, or a compressed body.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedInput(f"content encoding {encoding!r} is not taken: send the body as it is")
    content_type = request.headers.get("content-type", "")
    media_type, _ = parse_content_type(content_type)
    if media_type not in _MEDIA_TYPES:
        raise unsupported(content_type)
    return content_type


def _decode(content_type: str, request: Request, body: bytes) -> InferRequest:
    query = request.query_params.multi_items()
    if parse_content_type(content_type)[0] != JSON_TYPE:
        return decode_raw(content_type, query, body)
    if query:
        raise InputError(f"query parameter {query[0][0][:64]!r}: with a JSON body, put it into the body")
    return decode_json(body)


_MEDIA_TYPES = {JSON_TYPE, *WAV_TYPES, L16_TYPE, packed_events.MEDIA_TYPE}

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {PROBLEM_TYPE: {}}}
    for status, text in {
        404: "no such model or version, or a session that has not begun",
        409: "another chunk is expected (`expected_seq`), the number was used for other content, the session has "
        "ended, it runs on another model, or what is stored of it is damaged",
        410: "the session was dropped after lying idle, at its age, or the store lost it",
        413: "the body or the chunk is too long",
        415: "a content type or an input kind that is not taken",
        422: "the input cannot be used; `detail` says what to do",
        503: "the server is full or about to end, or its session store does not answer; see Retry-After",
    }.items()
}


def _openapi() -> dict[str, Any]:
    """The request body, which FastAPI cannot see: the route reads it raw."""
    schema = InferBody.model_json_schema(ref_template="#/components/schemas/{model}")
    # FastAPI collects no schemas from here, so they are put in place
    definitions = schema.pop("$defs")
    body = _inline(schema, definitions)
    binary = {"schema": {"type": "string", "format": "binary"}}
    query = Envelope.model_json_schema()["properties"]
    return {
        "requestBody": {
            "required": True,
            "content": {
                JSON_TYPE: {"schema": body, "examples": _EXAMPLES},
                **dict.fromkeys(CONTENT_TYPES[1:], binary),
            },
        },
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": f"with a raw body: {field.get('description', '')}",
                "schema": {key: value for key, value in field.items() if key != "description"},
            }
            for name, field in query.items()
        ],
    }


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inline(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    # a discriminator's mapping points to the definitions; the kinds tell themselves apart by their constants
    return {key: _inline(value, definitions) for key, value in schema.items() if key != "discriminator"}


_EXAMPLES: dict[str, Any] = {
    "audio": {
        "summary": "20 samples of silence, the first chunk of a session",
        "value": {
            "session": "abc",
            "seq": 0,
            "input": {"kind": "audio", "encoding": "pcm_s16le", "sample_rate": 8000, "data": "A" * 54 + "=="},
        },
    },
    "events": {
        "summary": "three spikes in 25 steps",
        "value": {"session": "def", "input": {"kind": "events", "steps": 25, "times": [0, 0, 3], "units": [1, 2, 1]}},
    },
    "dense": {
        "summary": "two steps of four channels, a whole stream in one request",
        "value": {"end": True, "input": {"kind": "dense", "spikes": [[0, 1, 0, 0], [1, 0, 0, 0]]}},
    },
    "end": {"summary": "the end of a session, without further input", "value": {"session": "abc", "end": True}},
}
