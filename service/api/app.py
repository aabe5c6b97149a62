"""The app and its wiring, nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

from service.api import health, infer, models, problems, sessions
from service.api.request_id import RequestIdEcho
from service.models import ModelCatalog
from service.sessions import Clock, SessionRegistry
from service.settings import Settings


def create_app(settings: Settings, catalog: ModelCatalog | None = None, clock: Clock = time.monotonic) -> FastAPI:
    """A server of the models of a folder.

    Args:
        catalog: in place of the one that ``settings.models`` holds.
        clock: seconds, for the idle time of sessions.

    Raises:
        ArtifactError, NotFound: the folder holds no usable models, or not the default one.
    """
    catalog = catalog or ModelCatalog(settings.models, settings.default_model)
    registry = SessionRegistry(settings, catalog, clock)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweep = asyncio.create_task(registry.sweep_forever())
        try:
            yield
        finally:
            sweep.cancel()
            with suppress(asyncio.CancelledError):
                await sweep
            await registry.close()

    app = FastAPI(
        title="hetsyn",
        summary="Streaming inference on stateful spiking networks",
        lifespan=lifespan,
    )
    app.state.sessions = registry
    app.add_middleware(RequestIdEcho)
    problems.install(app)
    app.include_router(infer.router(registry, settings.max_body_bytes, settings.max_json_bytes))
    app.include_router(sessions.router(registry))
    app.include_router(models.router(catalog))
    app.include_router(health.router(catalog))
    return app
