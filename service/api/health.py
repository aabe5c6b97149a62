"""``/health``: for load balancers and container platforms, some of which ask with HEAD."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from service.admission.permits import Admission
from service.api.problems import from_error
from service.errors import ShuttingDown, StoreError
from service.registry.registry import SessionRegistry


def router(registry: SessionRegistry, admissions: Admission) -> APIRouter:
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
        """The session store has answered once, and the server is not about to end. All models were loaded before.

        A store that fails later does not change this: it is the same one for every replica, so that no
        other would do better, and each recovers sooner than a balancer takes it back. Chunks get 503 meanwhile.
        """
        nonlocal store_answered
        if not admissions.is_ready:
            return from_error(ShuttingDown("the server is shutting down: send requests to another", 1.0))
        if not store_answered:
            try:
                await registry.sessions.check()
            except StoreError as error:
                return from_error(error)
            store_answered = True
        return JSONResponse({"status": "ready"})

    return routes
