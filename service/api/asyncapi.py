"""``/asyncapi.json``: ``WS /stream`` and ``WS /streams`` in AsyncAPI 3.0, by the types of ``live.text_frames``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from service.admission.fair_share import client_of
from service.api import problems
from service.api.handshakes import MANY_PATH, PATH
from service.api.streams import Streams
from service.errors import HetsynError
from service.keys.caller import caller_of
from service.live.many_query import ENCODINGS as MANY_ENCODINGS
from service.live.many_query import PARAMETERS
from service.live.protocol import MOST_TEXT_BYTES
from service.live.query import ENCODINGS, parse_stream_query
from service.live.text_frames import (
    CLIENT_FRAMES,
    SERVER_FRAMES,
    STREAMS_CLIENT_FRAMES,
    STREAMS_SERVER_FRAMES,
    SUBPROTOCOL,
)
from service.problem import Problem
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
    "interim": {"type": "boolean", "default": True, "description": "false: Ack in place of Result"},
    "endpointing": {"type": "string", "enum": ["on", "off"]},
    "spikes": {"type": "boolean", "default": False, "description": "Result has the spikes of input and hidden layers"},
    "timing": {"type": "boolean", "default": False, "description": "Result has the time that the chunk took, by part"},
}


_MANY_QUERY = {name: _QUERY[name] for name in PARAMETERS} | {
    "encoding": {"type": "string", "enum": list(MANY_ENCODINGS), "default": "pcm_s16le"},
    "sample_rate": {"type": "integer", "description": "in Hz, for pcm_s16le"},
}
_BINARY = {
    "Chunk": "A binary frame is one chunk. The first after Begin has the number next_seq.",
    "Sessions": "Sessions to open, as columns: HSO1. docs/reference/streams-api.md has the columns of all such frames.",
    "Chunks": "Chunks of sessions, as columns: HSC1.",
    "Opened": "The outcome of each row of Sessions: HSP1.",
    "Results": "The outcome of each row of Chunks: HSR1.",
}


@cache
def document() -> dict[str, Any]:
    """The document as JSON values."""
    messages: dict[str, Any] = {
        name: {
            "name": name,
            "summary": summary,
            "contentType": "application/octet-stream",
            "payload": {"type": "string", "format": "binary"},
        }
        for name, summary in _BINARY.items()
    }
    schemas: dict[str, Any] = {}
    for kind in dict.fromkeys((*CLIENT_FRAMES, *SERVER_FRAMES, *STREAMS_CLIENT_FRAMES, *STREAMS_SERVER_FRAMES)):
        schema = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema
        messages[kind.__name__] = {
            "name": kind.__name__,
            "summary": " ".join((kind.__doc__ or "").split()),
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
    one = _names("Chunk", frames=CLIENT_FRAMES), _names(frames=SERVER_FRAMES)
    many = (
        _names("Sessions", "Chunks", frames=STREAMS_CLIENT_FRAMES),
        _names("Opened", "Results", frames=STREAMS_SERVER_FRAMES),
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hetsyn",
            "version": SUBPROTOCOL.rpartition(".")[2],
            "description": f"One session, or many, on one WebSocket, subprotocol {SUBPROTOCOL}. "
            f"Text frames of a client have {MOST_TEXT_BYTES} bytes at most. POST /infer and the rest: /openapi.json.",
        },
        "servers": {"here": {"host": "localhost:8000", "protocol": "ws", "description": "hetsyn serve, by default"}},
        "defaultContentType": "application/json",
        "channels": {"stream": _channel(PATH, _QUERY, *one), "streams": _channel(MANY_PATH, _MANY_QUERY, *many)},
        "operations": {
            "receiveFromClient": _operation("stream", "receive", one[0]),
            "sendToClient": _operation("stream", "send", one[1]),
            "receiveRowsFromClient": _operation("streams", "receive", many[0]),
            "sendRowsToClient": _operation("streams", "send", many[1]),
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _names(*binary: str, frames: Sequence[type]) -> list[str]:
    return [*binary, *(kind.__name__ for kind in frames)]


def _channel(path: str, query: dict[str, Any], client: list[str], server: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": query, "additionalProperties": False}
    return {
        "address": path,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in dict.fromkeys(client + server)},
        "bindings": {"ws": {"method": "GET", "query": parameters}},
    }


def _operation(channel: str, action: str, names: list[str]) -> dict[str, Any]:
    who = "a client" if action == "receive" else "the server"
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": f"What {who} sends.",
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def install(app: FastAPI, streams: Streams) -> None:
    """Add the document, and the answer to a request for ``/stream`` or ``/streams`` that is no opening handshake.

    A browser does not show a page why its handshake was refused. So a request for ``/stream`` with the same query, but
    without the handshake, is refused for the same reason; 426 says that a handshake would not be refused now.
    """

    @app.get("/asyncapi.json", include_in_schema=False)
    async def asyncapi() -> Response:
        return JSONResponse(document())

    @app.get(PATH, include_in_schema=False)
    @app.get(MANY_PATH, include_in_schema=False)
    async def no_handshake(request: Request) -> Response:
        if request.url.path == PATH and request.url.query:
            try:
                query = parse_stream_query(request.query_params.multi_items())
                await streams.check(query.owned_by(caller_of(request.scope)), _client(request))
            except HetsynError as error:
                return problems.response(Problem.of(error))
        return problems.of_http(
            426,
            f"{request.url.path} is a WebSocket: send a complete opening handshake of RFC 6455, version 13, no body",
            {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
        )


def _client(request: Request) -> str:
    return client_of(request.scope.get("client"))
