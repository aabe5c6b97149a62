"""The HTTP application: routes, errors and documentation around the parts of a server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from service.admission.permits import Admission
from service.admission.uploads import Uploads
from service.api import health, infer, metrics, models, problems, sessions
from service.api.infer import Application, InferEndpoint
from service.api.request_id import RequestIdEcho
from service.carried.sessions import CarriedSessions
from service.models.catalog import ModelCatalog
from service.observe.counters import Counters
from service.registry.registry import SessionRegistry
from service.settings import Limits


def create_application(
    limits: Limits,
    *,
    catalog: ModelCatalog,
    registry: SessionRegistry,
    carried: CarriedSessions,
    admissions: Admission,
    uploads: Uploads,
    counters: Counters,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
) -> Application:
    """The interface of a server.

    Args:
        lifespan: runs while the application does.
    """
    app = Application(
        title="hetsyn",
        summary="Streaming inference on stateful spiking networks",
        lifespan=lifespan,
    )
    app.endpoint = InferEndpoint(registry, carried, admissions, uploads, counters, limits)
    app.add_middleware(RequestIdEcho)
    problems.install(app)
    infer.document(app)
    app.include_router(sessions.router(registry, admissions, uploads, limits.max_body_bytes))
    app.include_router(models.router(catalog))
    app.include_router(health.router(registry, admissions))
    app.include_router(metrics.router(counters, registry, admissions, catalog))
    return app
