"""The HTTP application: routes, errors and documentation around the parts of a server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.admission.permits import Admission
from service.admission.uploads import Uploads
from service.api import health, infer_openapi, metrics, models, problems, sessions
from service.api.infer import PATH as INFER_PATH
from service.api.infer import InferEndpoint
from service.api.request_id import RequestIdEcho
from service.carried.sessions import CarriedSessions
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.registry.registry import SessionRegistry
from service.runtime.operators import OperatorStatus
from service.settings import Limits


class Application(FastAPI):
    """FastAPI, but ``POST /infer`` goes straight to its endpoint.

    Args:
        infer: the endpoint.
        options: of FastAPI.
    """

    def __init__(self, infer: ASGIApp, **options: Any) -> None:
        super().__init__(**options)
        self._infer = infer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].removeprefix(scope.get("root_path", "")) == INFER_PATH
        ):
            await self._infer(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_application(
    limits: Limits,
    *,
    catalog: ModelCatalog,
    registry: SessionRegistry,
    carried: CarriedSessions,
    admission: Admission,
    uploads: Uploads,
    counters: Counters,
    operator: OperatorStatus,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
) -> Application:
    """Build the HTTP interface of a server.

    Args:
        limits: of a body.
        catalog: of the models.
        registry: of the sessions that the server stores.
        carried: sessions that the clients carry.
        admission: permits for requests in flight.
        uploads: bodies under way.
        counters: for ``/metrics``.
        operator: what runs the networks, for ``/metrics`` and ``/models``.
        lifespan: entered when the application starts, left when it stops.
    """
    app = Application(
        InferEndpoint(registry, carried, admission, uploads, counters, limits),
        title="hetsyn",
        summary="Streaming inference on stateful spiking networks",
        lifespan=lifespan,
    )
    app.add_middleware(RequestIdEcho)
    problems.install(app)
    infer_openapi.document(app)
    app.include_router(sessions.router(registry, admission, uploads, limits.max_body_bytes))
    app.include_router(models.router(catalog, operator))
    app.include_router(health.router(registry, admission))
    app.include_router(metrics.router(counters, registry, admission, catalog, operator))
    return app
