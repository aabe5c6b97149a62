"""Plain HTTP about ``/stream`` and ``/streams``: their description, and the reason why a handshake is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import TypeAdapter

from service.admission.budget import client_of
from service.api import problems
from service.api.streaming.handshakes import MANY_PATH, PATH
from service.api.streaming.streams import Streams
from service.keys.caller import caller_of
from service.live.query import parse_stream_query
from service.live.text_frames import FRAMES

ASYNCAPI = Path(__file__).with_name("asyncapi.json")


@cache
def asyncapi_document() -> bytes:
    """Describe both in AsyncAPI 3.0, with the text frames of ``live.text_frames``."""
    document = json.loads(ASYNCAPI.read_bytes())
    kinds: list[tuple[type, Literal["serialization"], TypeAdapter[Any]]] = [
        (kind, "serialization", TypeAdapter(kind)) for kind in dict.fromkeys(FRAMES)
    ]
    schemas, shared = TypeAdapter.json_schemas(kinds, ref_template="#/components/schemas/{model}")
    components = document["components"]
    components["schemas"] = {kind.__name__: schema for (kind, _), schema in schemas.items()} | shared["$defs"]
    components["messages"] |= {
        kind.__name__: {"summary": kind.__doc__, "payload": {"$ref": f"#/components/schemas/{kind.__name__}"}}
        for kind in FRAMES
    }
    return json.dumps(document).encode()


def install(app: FastAPI, streams: Streams) -> None:
    """Add the document, and the answer to a request for ``/stream`` or ``/streams`` that is no opening handshake.

    A browser does not show a page why its handshake was refused. So a request for ``/stream`` with the same query, but
    without the handshake, is refused for the same reason; 426 says that a handshake would not be refused now.
    """

    @app.get("/asyncapi.json", include_in_schema=False)
    async def asyncapi() -> Response:
        return Response(asyncapi_document(), media_type="application/json")

    @app.get(PATH, include_in_schema=False)
    @app.get(MANY_PATH, include_in_schema=False)
    async def no_handshake(request: Request) -> Response:
        if request.url.path == PATH and request.url.query:
            query = parse_stream_query(request.query_params.multi_items())
            await streams.check(query.owned_by(caller_of(request.scope)), client_of(request.scope.get("client")))
        return problems.of_http(
            426,
            f"{request.url.path} is a WebSocket: send a complete opening handshake of RFC 6455, version 13, no body",
            {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
        )
