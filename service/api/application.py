"""The HTTP application: routes, errors and documentation around the parts of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.open_inference import PREFIX as OPEN_INFERENCE
from service.api.open_inference import OpenInferenceEndpoint
from service.api.routes import docs, health, infer_openapi, metrics, models, page, sessions, web_socket_pages
from service.api.routes.guard import Guard
from service.api.routes.metrics import ServerCollector
from service.api.streaming.streams import Streams
from service.ingress import Ingress
from service.keys.keys import Keys
from service.keys.routes import HTTP
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.open_inference.service import OpenInference
from service.problem import Details
from service.registry.transfer import SessionTransfer
from service.runtime.operators import OperatorStatus
from service.settings import Limits
from service.wire.content_types import JSON_TYPE

Application = FastAPI
"""All of HTTP but the requests with a chunk: connections answer those (``api.exchange``)."""


class Preflight(CORSMiddleware):
    """Answers the questions of browsers before requests of other origins. Connections mark all other responses."""

    async def simple_response(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_headers: Headers,  # noqa: ARG002
    ) -> None:
        await self.app(scope, receive, send)


def create_application(
    limits: Limits,
    *,
    catalog: ModelCatalog,
    ingress: Ingress,
    transfer: SessionTransfer,
    streams: Streams,
    collector: ServerCollector,
    counters: Counters,
    operator: OperatorStatus,
    open_inference: OpenInference,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
    cors_origins: Sequence[str] = (),
    keys: Keys | None = None,
) -> FastAPI:
    """Build the HTTP interface of a server.

    Args:
        lifespan: entered when the application starts, left when it stops.
        cors_origins: origins of pages that may send requests.
        keys: None lets everybody in.
    """
    rest = FastAPI(
        title="hetsyn",
        summary="Streaming inference on stateful spiking networks",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load their scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the request's Host, and a POST may lose its body
        responses=problems.documented(
            {
                401: "there is no key, or one that the server does not know",
                403: "the key lacks the scope",
                414: "the URL is too long",
                429: "the key sends too fast; see Retry-After",
                500: "the server failed on this request, or the model cannot be run",
            }
        ),
    )
    problems.install(rest, ingress.refused, counters)
    infer_openapi.add_route(rest)
    rest.include_router(sessions.router(ingress, transfer, limits.max_body_bytes))
    rest.include_router(models.router(catalog, operator))
    rest.include_router(health.router(ingress))
    rest.include_router(metrics.router(collector))
    docs.install(rest)
    page.install(rest)
    web_socket_pages.install(rest, streams)
    rest.openapi = lambda: _document(rest, keys is not None)  # type: ignore[method-assign]  # as FastAPI documents it
    v2 = OpenInferenceEndpoint(open_inference, ingress, rest, cors_origins)
    rest.router.routes += [Route(OPEN_INFERENCE, v2), Route(f"{OPEN_INFERENCE}/{{path:path}}", v2)]
    if keys is not None:
        rest.add_middleware(Guard, keys=keys, counters=counters)
    if cors_origins:
        rest.add_middleware(
            Preflight,
            allow_origins=[origin.lower() for origin in cors_origins],  # as browsers send them
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
        )
    return rest


def _document(rest: FastAPI, has_keys: bool) -> dict[str, Any]:
    """Make FastAPI's OpenAPI document without the 422 that it adds to every operation with a parameter.

    A 422 of this server is a problem, and the operations that can answer with it declare it. Added are the keys that
    operations ask for. A server without keys describes them too: clients are made once for all servers.
    """
    if rest.openapi_schema is None:
        document = FastAPI.openapi(rest)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if HTTP[method.upper(), path] == "open":
                    for status in ("401", "403", "429"):
                        del operation["responses"][status]
                else:
                    operation["security"] = [{"key": []}] if has_keys else [{}, {"key": []}]
                if JSON_TYPE in operation["responses"].get("422", {}).get("content", {}):
                    del operation["responses"]["422"]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        document["components"]["schemas"]["Problem"] = TypeAdapter(Details).json_schema() | {"title": "Problem"}
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return rest.openapi_schema or {}
