"""``/health``: for load balancers and container platforms."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from service.models import ModelCatalog


def router(catalog: ModelCatalog) -> APIRouter:
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.get("/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.get("/ready")
    async def ready() -> dict[str, str]:
        """The models that requests run by default are loaded; a problem if they cannot be."""
        await asyncio.to_thread(catalog.load_defaults)
        return {"status": "ready"}

    return routes
