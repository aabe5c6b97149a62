"""The OpenAPI description of ``POST /infer``: parameters, body, examples and problems.

FastAPI cannot derive them from a function's signature: connections answer these requests (``api.exchange``).
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response

from hetsyn_client import carried_frame
from hetsyn_client.results import Reply
from service.api.infer import PATH
from service.api.problems import documented
from service.wire.content_types import CONTENT_TYPES, JSON_TYPE
from service.wire.schema import Envelope, InferBody


def add_route(app: FastAPI) -> None:
    """Add the route to an application. FastAPI documents it, and answers other methods of the path with 405."""

    @app.post(
        PATH,
        tags=["streaming"],
        response_model=Reply,
        openapi_extra=_operation(),
        responses=_PROBLEMS,
    )
    async def infer() -> Response:
        """Apply one chunk to a session and get the classification so far.

        The first chunk opens the session; `end` closes it. A chunk that is sent again under its number gets
        the first reply again and is not applied twice.

        With `carry` the server stores nothing of the session. The reply contains the session as an encrypted `token`,
        and the next chunk brings it, in JSON or in a frame (`application/vnd.hetsyn.carried`), answered with one.
        """
        raise AssertionError("a connection answers it")


_SWITCH = "on: the session is cut into utterances; with its first chunk. Settings need a JSON body"
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_PROBLEMS = documented(
    {
        404: "no such model or version, or a session that has not begun, has expired or is lost",
        408: "the body was not complete in time",
        409: "another chunk is expected (`expected_seq`), the number was used for other content, the session has "
        "ended, it runs on another model, or its stored record is damaged",
        410: "the token of a carried session has expired",
        413: "the body or the chunk is too long",
        415: "a content type or an input kind that is not accepted",
        422: "the input or the token cannot be used; `detail` says what to do",
        429: "the key has as many sessions as it may, or sends too fast; see Retry-After",
        501: "the server has no keys for carried sessions",
        503: "the server is full or shutting down, or its session store does not answer; see Retry-After",
    }
)
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
        "value": {
            "session": "def",
            "begin": True,
            "input": {"kind": "events", "steps": 25, "times": [0, 0, 3], "units": [1, 2, 1]},
        },
    },
    "dense": {
        "summary": "two steps of a model with four channels, a whole stream in one request",
        "value": {"end": True, "input": {"kind": "dense", "spikes": [[0, 1, 0, 0], [1, 0, 0, 0]]}},
    },
    "values": {
        "summary": "two steps of a model that takes three real numbers a step",
        "value": {
            "session": "ghi",
            "begin": True,
            "input": {"kind": "values", "values": [[0.5, -1.25, 3], [0.25, 0, 2.5]]},
        },
    },
    "carried": {
        "summary": "the first chunk of a session that the client carries; the next chunk brings the token of the reply",
        "value": {"carry": True, "input": {"kind": "events", "steps": 25, "times": [0], "units": [1]}},
    },
    "end": {"summary": "the end of a session, without further input", "value": {"session": "abc", "end": True}},
}


def _operation() -> dict[str, Any]:
    """Describe request body and query parameters."""
    schema = InferBody.model_json_schema(ref_template="#/components/schemas/{model}")
    # FastAPI collects no schemas from ``openapi_extra``, so references are inlined
    body = _inline(schema, schema.pop("$defs"))
    query = Envelope.model_json_schema()["properties"]
    query["endpointing"] = {"type": "string", "enum": ["on", "off"], "description": _SWITCH}
    return {
        "requestBody": {
            "required": True,
            "content": {
                JSON_TYPE: {"schema": body, "examples": _EXAMPLES},
                # no generator knows frames, and a second type of the reply would hide its members from typed clients
                **{kind: _BINARY for kind in CONTENT_TYPES[1:] if kind != carried_frame.MEDIA_TYPE},
            },
        },
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": f"with a body that is not JSON: {field.get('description', '')}",
                # without defaults, which some clients would send, beside a JSON body too
                "schema": {key: value for key, value in field.items() if key not in ("description", "default")},
            }
            for name, field in query.items()
        ],
    }


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a JSON schema with each reference replaced by its definition."""
    if isinstance(schema, list):
        return [_inline(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    # a discriminator would map to definitions that are gone; the constant ``kind`` distinguishes the inputs
    return {key: _inline(value, definitions) for key, value in schema.items() if key != "discriminator"}
