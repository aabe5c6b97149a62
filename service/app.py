"""The composition root: builds every part of a server; nothing else builds parts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from service.api.application import create_application
from service.api.infer import Application
from service.carried.keys import CarryKeys
from service.models.catalog import ModelCatalog
from service.observe.clock import Clock
from service.registry.registry import SessionRegistry
from service.reload.reload import Reloader
from service.settings import Settings
from service.store.base import StateStore
from service.store.url import open_store

log = logging.getLogger("hetsyn.app")


def create_app(
    settings: Settings,
    catalog: ModelCatalog | None = None,
    clock: Clock = time.monotonic,
    *,
    store: StateStore | None = None,
    wall: Clock = time.time,
    keys: CarryKeys | None = None,
) -> Application:
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
    async def lifespan(_: Any) -> AsyncIterator[None]:
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
                        log.error("a task of the server had died", exc_info=ended)
            finally:
                await registry.close()

    app = create_application(settings, catalog, registry, lifespan)
    app.state.sessions = registry
    app.state.reloader = reloader
    return app
