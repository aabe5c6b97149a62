"""What plain HTTP says of ``/stream`` and ``/streams``: their description, and why a handshake would be refused."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request, Response

from service.admission.budget import client_of
from service.api import problems
from service.api.handshakes import MANY_PATH, PATH
from service.api.streams import Streams
from service.errors import HetsynError
from service.keys.caller import caller_of
from service.live.query import parse_stream_query
from service.problem import Problem

ASYNCAPI = Path(__file__).with_name("asyncapi.json")
"""Both in AsyncAPI 3.0, with the frames of ``live.text_frames``."""


def install(app: FastAPI, streams: Streams) -> None:
    """Add the document, and the answer to a request for ``/stream`` or ``/streams`` that is no opening handshake.

    A browser does not show a page why its handshake was refused. So a request for ``/stream`` with the same query, but
    without the handshake, is refused for the same reason; 426 says that a handshake would not be refused now.
    """
    document = ASYNCAPI.read_bytes()

    @app.get("/asyncapi.json", include_in_schema=False)
    async def asyncapi() -> Response:
        return Response(document, media_type="application/json")

    @app.get(PATH, include_in_schema=False)
    @app.get(MANY_PATH, include_in_schema=False)
    async def no_handshake(request: Request) -> Response:
        if request.url.path == PATH and request.url.query:
            try:
                query = parse_stream_query(request.query_params.multi_items())
                await streams.check(query.owned_by(caller_of(request.scope)), client_of(request.scope.get("client")))
            except HetsynError as error:
                return problems.response(Problem.of(error))
        return problems.of_http(
            426,
            f"{request.url.path} is a WebSocket: send a complete opening handshake of RFC 6455, version 13, no body",
            {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
        )
