"""``/health``: for load balancers and container platforms. Some of them send HEAD."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from service.api.problems import documented, response
from service.ingress import Ingress
from service.problem import Problem

_NOT_READY = documented({503: "not ready or shutting down; `detail` says why"})


def router(ingress: Ingress) -> APIRouter:
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.head("/live")
    @routes.get("/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.head("/ready", responses=_NOT_READY)
    @routes.get("/ready", responses=_NOT_READY)
    async def ready() -> Response:
        """The models are loaded, the session store can keep sessions, and the server is not shutting down.

        A store that was reached once and is down or slow later does not make a server unready: chunks get 503
        meanwhile. If it only has no room for more, the server stays ready, since clients can still end and delete
        sessions: `detail` says it.
        """
        if ingress.unready is not None:
            return response(Problem.of(ingress.unready))
        store = ingress.registry.sessions.store
        if store is not None and store.shortage is not None:
            return JSONResponse({"status": "ready", "detail": str(store.shortage)})
        return JSONResponse({"status": "ready"})

    return routes
