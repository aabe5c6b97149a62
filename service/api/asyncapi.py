"""``/asyncapi.json`` describes ``WS /stream`` (AsyncAPI 3.0). The schemas are those of ``live.text_frames``."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from service.api import problems
from service.api.handshakes import PATH
from service.live.protocol import MOST_TEXT_BYTES
from service.live.query import ENCODINGS
from service.live.text_frames import CLIENT_FRAMES, SERVER_FRAMES, SUBPROTOCOL
from service.wire.encodings import RAW
from service.wire.schema import SESSION_ID

_QUERY: dict[str, dict[str, Any]] = {
    "session": {"type": "string", "pattern": SESSION_ID, "description": "by default the server makes an id"},
    "model": {"type": "string", "description": "by default the server's default model"},
    "version": {"type": "string", "description": "by default the newest"},
    "form": {"type": "string", "enum": ["exact", "bank"], "description": "by default the model's default form"},
    "encoding": {"type": "string", "enum": list(ENCODINGS), "default": "pcm_s16le"},
    "sample_rate": {"type": "integer", "description": f"in Hz, for {', '.join(RAW)}"},
    "channels": {"type": "integer", "description": "of samples, which are averaged (default 1); or numbers of a row"},
    "resend": {"type": "boolean", "default": False, "description": "the file comes again from its beginning"},
    "interim": {"type": "boolean", "default": True, "description": "false: Ack in place of Result"},
    "endpointing": {"type": "string", "enum": ["on", "off"]},
}


@cache
def document() -> dict[str, Any]:
    """The document as JSON values."""
    messages: dict[str, Any] = {
        "Chunk": {
            "name": "Chunk",
            "summary": "A binary frame is one chunk. The first after Begin has the number next_seq.",
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        }
    }
    schemas: dict[str, Any] = {}
    for kind in (*CLIENT_FRAMES, *SERVER_FRAMES):
        schema = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema
        messages[kind.__name__] = {
            "name": kind.__name__,
            "summary": " ".join((kind.__doc__ or "").split()),
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
    client, server = ["Chunk", *(kind.__name__ for kind in CLIENT_FRAMES)], [kind.__name__ for kind in SERVER_FRAMES]
    channel = "#/channels/stream"
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hetsyn",
            "version": SUBPROTOCOL.rpartition(".")[2],
            "description": f"One session on one WebSocket, subprotocol {SUBPROTOCOL}. "
            f"Text frames of a client have {MOST_TEXT_BYTES} bytes at most. POST /infer and the rest: /openapi.json.",
        },
        "servers": {"here": {"host": "localhost:8000", "protocol": "ws", "description": "hetsyn serve, by default"}},
        "defaultContentType": "application/json",
        "channels": {
            "stream": {
                "address": PATH,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "query": {"type": "object", "properties": _QUERY, "additionalProperties": False},
                    }
                },
            }
        },
        "operations": {
            "receiveFromClient": {
                "action": "receive",
                "channel": {"$ref": channel},
                "summary": "What a client sends.",
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in client],
            },
            "sendToClient": {
                "action": "send",
                "channel": {"$ref": channel},
                "summary": "What the server sends.",
                "messages": [{"$ref": f"{channel}/messages/{name}"} for name in server],
            },
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def install(app: FastAPI) -> None:
    """Add the document, and the answer to a request for ``/stream`` that is no opening handshake."""

    @app.get("/asyncapi.json", include_in_schema=False)
    async def asyncapi() -> Response:
        return JSONResponse(document())

    @app.get(PATH, include_in_schema=False)
    async def no_handshake() -> Response:
        return problems.problem(
            426,
            "http",
            "Upgrade Required",
            f"{PATH} is a WebSocket: send a complete opening handshake of RFC 6455, version 13, without a body",
            headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
        )
