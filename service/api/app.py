"""The app and its wiring, nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.api import health, infer, metrics, models, problems, sessions
from service.api.request_id import RequestIdEcho
from service.carry_keys import CarryKeys
from service.models import ModelCatalog
from service.places import Clock
from service.reload import Reloader
from service.sessions import SessionRegistry
from service.settings import Settings
from service.store.seam import StateStore
from service.store.url import open_store


def create_app(
    settings: Settings,
    catalog: ModelCatalog | None = None,
    clock: Clock = time.monotonic,
    *,
    store: StateStore | None = None,
    wall: Clock = time.time,
    keys: CarryKeys | None = None,
) -> FastAPI:
    """A server of the models of a folder.

    Args:
        catalog: in place of the one that ``settings.models`` holds.
        clock: seconds, for the idle time of sessions in memory.
        store: in place of the one that ``settings.store`` names.
        wall: seconds since 1970, for the times of sessions in a store, and of carried ones.
        keys: of carried sessions; None where there are to be none.

    Raises:
        ArtifactError, NotFound: the folder holds no usable models, or not the default one.
        StoreUnusable: ``settings.store`` names no store, or one that cannot be used.
    """
    catalog = catalog or ModelCatalog(settings.models, settings.default_model)
    store = store or open_store(settings.store, settings.store_timeout_s)
    registry = SessionRegistry(settings, catalog, clock, store, wall, keys)

    reloader = Reloader(catalog, registry.try_model, registry.counters, settings.watch_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await registry.start()
        tasks = [asyncio.create_task(registry.sweep_forever()), asyncio.create_task(reloader.run_forever())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            try:
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(ended, Exception):
                        problems.log.error("a task of the server had died", exc_info=ended)
            finally:
                await registry.close()

    app = infer.Application(
        title="hetsyn",
        summary="Streaming inference on stateful spiking networks",
        lifespan=lifespan,
    )
    app.state.sessions = registry
    app.state.reloader = reloader
    app.endpoint = infer.InferEndpoint(registry, settings.max_body_bytes, settings.max_json_bytes)
    app.add_middleware(RequestIdEcho)
    problems.install(app)
    infer.document(app)
    app.include_router(sessions.router(registry, settings.max_body_bytes))
    app.include_router(models.router(catalog))
    app.include_router(health.router(catalog, registry))
    app.include_router(metrics.router(registry, catalog))
    return app
