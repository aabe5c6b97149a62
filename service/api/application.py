"""The HTTP application: routes, errors and documentation around the parts of a server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from service.api import health, infer, metrics, models, problems, sessions
from service.api.request_id import RequestIdEcho
from service.models.catalog import ModelCatalog
from service.registry.registry import SessionRegistry
from service.settings import Settings


def create_application(
    settings: Settings,
    catalog: ModelCatalog,
    registry: SessionRegistry,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
) -> infer.Application:
    """The interface of a server.

    Args:
        lifespan: what runs while the application does.
    """
    app = infer.Application(
        title="hetsyn",
        summary="Streaming inference on stateful spiking networks",
        lifespan=lifespan,
    )
    app.endpoint = infer.InferEndpoint(registry, settings.max_body_bytes, settings.max_json_bytes)
    app.add_middleware(RequestIdEcho)
    problems.install(app)
    infer.document(app)
    app.include_router(sessions.router(registry, settings.max_body_bytes))
    app.include_router(models.router(catalog))
    app.include_router(health.router(catalog, registry))
    app.include_router(metrics.router(registry, catalog))
    return app
