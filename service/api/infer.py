"""``POST /infer``: a chunk of a stream in, what the network says so far out."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from hetsyn_client import events, frames
from service.admission.body import ClientDisconnect, read_body
from service.admission.permits import Admission
from service.admission.uploads import Upload, Uploads
from service.api import problems
from service.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.api.request_id import HEADER as REQUEST_ID
from service.api.request_id import echoing
from service.carried.sessions import CarriedSessions
from service.errors import HetsynError, InputError, UnsupportedInput
from service.observe.counters import Counters
from service.registry.registry import SessionRegistry
from service.settings import Limits
from service.wire.content_types import CONTENT_TYPES, JSON_TYPE, L16_TYPE, WAV_TYPES, parse_content_type, unsupported
from service.wire.decode import decode_json, decode_raw
from service.wire.schema import CarriedReply, Envelope, InferBody, InferRequest, Reply

PATH = "/infer"
# below this, decoding costs less than handing it to a thread
DECODE_IN_LOOP_BYTES = 64 * 1024
# larger bodies that are decoded at the same time; each takes many times its length in memory
LARGE_DECODES = 2


class InferEndpoint:
    """``POST /infer`` as an ASGI application of its own. A chunk takes less time than FastAPI takes to find a route
    and to solve the dependencies that it has not, so ``Application`` asks here first."""

    def __init__(
        self,
        registry: SessionRegistry,
        carried: CarriedSessions,
        admissions: Admission,
        uploads: Uploads,
        counters: Counters,
        limits: Limits,
    ) -> None:
        self._registry = registry
        self._carried = carried
        self._admissions = admissions
        self._uploads = uploads
        self._counters = counters
        self._max_body_bytes = limits.max_body_bytes
        self._max_json_bytes = min(limits.max_json_bytes, limits.max_body_bytes)
        self._large_decodes = asyncio.Semaphore(LARGE_DECODES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])  # names are in lower case, as ASGI has them
        if REQUEST_ID in headers:
            send = echoing(headers[REQUEST_ID], send)
        try:
            content, media_type = await self._answer(headers, scope["query_string"], receive)
        except HetsynError as error:
            self._counters.refused(error)
            response = problems.from_domain_error(error)
        except ClientDisconnect:
            return  # nobody is there; nothing was applied
        except Exception as error:
            response = problems.from_unexpected(f"POST {PATH}", error)
        else:  # a ``Response`` would do no more, in more time
            answered = [(b"content-type", media_type.encode()), (b"content-length", b"%d" % len(content))]
            await send({"type": "http.response.start", "status": 200, "headers": answered})
            await send({"type": "http.response.body", "body": content})
            return
        await response(scope, receive, send)

    async def _answer(self, headers: dict[bytes, bytes], query_string: bytes, receive: Receive) -> tuple[bytes, str]:
        with self._admissions, Upload(self._uploads) as upload:
            encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
            if encoding.lower() != "identity":
                raise UnsupportedInput(f"content encoding {encoding!r} is not taken: send the body as it is")
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            media_type = parse_content_type(content_type)[0]
            if media_type not in _MEDIA_TYPES:
                raise unsupported(content_type)
            at_most = self._max_json_bytes if media_type == JSON_TYPE else self._max_body_bytes
            body = await read_body(receive, headers.get(b"content-length", b""), at_most, upload)
            query = _query(query_string)
            if len(body) <= DECODE_IN_LOOP_BYTES:
                decoded = _decode(content_type, query, body)
            else:
                async with self._large_decodes:
                    decoded = await asyncio.to_thread(_decode, content_type, query, body)
            del body  # not needed while the chunk waits for its turn
            if not decoded.carry:
                return (await self._registry.infer(decoded)).to_json(), JSON_TYPE
            carried = await self._carried.infer(decoded)
            if media_type == frames.MEDIA_TYPE:
                return carried.to_frame(), media_type
            return carried.to_json(), JSON_TYPE


class Application(FastAPI):
    """FastAPI, with an endpoint that is asked before it for its one path."""

    endpoint: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            self.endpoint is not None
            and scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].removeprefix(scope.get("root_path", "")) == PATH
        ):
            await self.endpoint(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def document(app: FastAPI) -> None:
    """Put ``POST /infer`` into the description of the interface; FastAPI answers what else is asked of the path."""

    @app.post(
        PATH,
        tags=["streaming"],
        response_model=Reply | CarriedReply,
        openapi_extra=_openapi(),
        responses={200: {"content": {frames.MEDIA_TYPE: _BINARY}}, **_PROBLEMS},
    )
    async def infer(request: Request) -> None:  # noqa: ARG001
        """Apply one chunk to a session and get the classification so far.

        The first chunk opens the session; `end` closes it. A chunk that is sent again under its number gets
        the first reply again and is not applied twice.

        With `carry` the server keeps nothing of the session: the reply has it as a `token`, encrypted, and the
        next chunk brings it along, in a JSON body or in a frame (`application/vnd.hetsyn.carried`).
        """
        raise RuntimeError("POST /infer did not get to its endpoint: the application is not the one that serves it")


def _query(text: bytes) -> list[tuple[str, str]]:
    if b"%" in text or b"+" in text:
        return parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    # the same for names and values that need no decoding, in a tenth of the time
    pairs = (part.partition("=") for part in text.decode("latin-1").split("&") if part)
    return [(name, value) for name, _, value in pairs]


def _decode(content_type: str, query: list[tuple[str, str]], body: bytes) -> InferRequest:
    if parse_content_type(content_type)[0] != JSON_TYPE:
        return decode_raw(content_type, query, body)
    if query:
        raise InputError(f"query parameter {query[0][0][:64]!r}: with a JSON body, put it into the body")
    return decode_json(body)


_MEDIA_TYPES = {JSON_TYPE, *WAV_TYPES, L16_TYPE, events.MEDIA_TYPE, frames.MEDIA_TYPE}

_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {PROBLEM_TYPE: {}}}
    for status, text in {
        404: "no such model or version, or a session that has not begun",
        409: "another chunk is expected (`expected_seq`), the number was used for other content, the session has "
        "ended, it runs on another model, or what is stored of it is damaged",
        408: "the body did not come in time",
        410: "the session was dropped after lying idle, at its age, or the store lost it; or its token has expired",
        413: "the body or the chunk is too long",
        415: "a content type or an input kind that is not taken",
        422: "the input or the token cannot be used; `detail` says what to do",
        501: "the server has no keys for carried sessions",
        503: "the server is full or about to end, or its session store does not answer; see Retry-After",
    }.items()
}


def _openapi() -> dict[str, Any]:
    """The request body, which FastAPI cannot see: the route reads it raw."""
    schema = InferBody.model_json_schema(ref_template="#/components/schemas/{model}")
    # FastAPI collects no schemas from here, so they are put in place
    definitions = schema.pop("$defs")
    body = _inline(schema, definitions)
    query = Envelope.model_json_schema()["properties"]
    return {
        "requestBody": {
            "required": True,
            "content": {
                JSON_TYPE: {"schema": body, "examples": _EXAMPLES},
                **dict.fromkeys(CONTENT_TYPES[1:], _BINARY),
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
    "carried": {
        "summary": "the first chunk of a session that the client carries: its next one brings the reply's token along",
        "value": {"carry": True, "input": {"kind": "events", "steps": 25, "times": [0], "units": [1]}},
    },
    "end": {"summary": "the end of a session, without further input", "value": {"session": "abc", "end": True}},
}
