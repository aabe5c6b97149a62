"""``/health``: for load balancers and container platforms. Some of them send HEAD."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from service.admission.budget import Admission
from service.api.problems import documented, response
from service.errors import ShuttingDown, StoreError
from service.problem import Problem
from service.registry.registry import SessionRegistry

_NOT_READY = documented({503: "not ready or shutting down; `detail` says why"})


def router(registry: SessionRegistry, admission: Admission) -> APIRouter:
    store_answered = False
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

        A store that was reached once and is down or slow later does not make a replica unready. All replicas share the
        store, so no other replica would do better, and each recovers sooner than a balancer would take it back. Chunks
        get 503 meanwhile. A store that would lose sessions, or can change none, needs somebody who sees it. If it only
        has no room for more, the server stays ready, since clients can still end and delete sessions: `detail` says it.
        """
        nonlocal store_answered
        if not admission.is_ready:
            return response(Problem.of(ShuttingDown("the server is shutting down: send requests to another")))
        if not store_answered:
            try:
                await registry.sessions.check()
            except StoreError as error:
                return response(Problem.of(error))
            store_answered = True
        elif registry.sessions.trouble is not None:
            return response(Problem.of(registry.sessions.trouble))
        store = registry.sessions.store
        if store is not None and store.shortage is not None:
            return JSONResponse({"status": "ready", "detail": str(store.shortage)})
        return JSONResponse({"status": "ready"})

    return routes
