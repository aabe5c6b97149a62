"""``/health``: for load balancers and container platforms, some of which ask with HEAD."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from service.api.problems import log, of_error
from service.errors import ArtifactError, ShuttingDown, StoreError
from service.models.catalog import ModelCatalog
from service.registry.registry import SessionRegistry


def router(catalog: ModelCatalog, sessions: SessionRegistry) -> APIRouter:
    store_answered = False
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.head("/live", include_in_schema=False)
    @routes.get("/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.head("/ready", include_in_schema=False)
    @routes.get("/ready", responses={503: {"description": "not so, or the server is about to end; `detail` says why"}})
    async def ready() -> Response:
        """The models that requests run by default are loaded, the session store has answered once, and the server
        is not about to end.

        A store that fails later does not change this: it is the same one for every replica, so that no
        other would do better, and each recovers sooner than a balancer takes it back. Chunks get 503 meanwhile.
        """
        nonlocal store_answered
        if not sessions.admissions.is_ready:
            return of_error(ShuttingDown("the server is shutting down: send requests to another", 1.0))
        if not store_answered:
            try:
                await sessions.check_store()
            except StoreError as error:
                return of_error(error)
            store_answered = True
        try:
            await asyncio.to_thread(catalog.load_defaults)
        except ArtifactError as error:
            log.error("%s", error, exc_info=error)
            # the process is well: 503 tells a balancer to send requests elsewhere
            return of_error(error, status=503)
        return JSONResponse({"status": "ready"})

    return routes
