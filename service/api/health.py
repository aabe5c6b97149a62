"""``/health``: for load balancers and container platforms, some of which ask with HEAD."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from service.api.problems import log, of_error
from service.errors import ArtifactError
from service.models import ModelCatalog


def router(catalog: ModelCatalog) -> APIRouter:
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.head("/live", include_in_schema=False)
    @routes.get("/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.head("/ready", include_in_schema=False)
    @routes.get("/ready", responses={503: {"description": "they cannot be loaded; `detail` says why"}})
    async def ready() -> Response:
        """The models that requests run by default are loaded; a problem if they cannot be."""
        try:
            await asyncio.to_thread(catalog.load_defaults)
        except ArtifactError as error:
            log.error("%s", error, exc_info=error)
            # the process is well: 503 tells a balancer to send requests elsewhere
            return of_error(error, status=503)
        return JSONResponse({"status": "ready"})

    return routes
