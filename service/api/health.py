"""``/health``: for load balancers and container platforms. Some of them send HEAD."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from service.admission.permits import Admission
from service.api.problems import documented, from_error
from service.errors import ShuttingDown, StoreError
from service.registry.registry import SessionRegistry
from service.workers.siblings import PASSED_ON, Siblings

READY = "/health/ready"

_NOT_READY = documented({503: "not ready or shutting down; `detail` says why"})


def router(registry: SessionRegistry, admission: Admission, siblings: Siblings | None = None) -> APIRouter:
    store_answered = False
    routes = APIRouter(prefix="/health", tags=["health"])

    @routes.head("/live")
    @routes.get("/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.head("/ready", responses=_NOT_READY)
    @routes.get("/ready", responses=_NOT_READY)
    async def ready(request: Request) -> Response:
        """The models are loaded, the session store can keep sessions, and the server is not shutting down.

        A store that was reached once and is down or slow later does not make a replica unready. All replicas share the
        store, so no other replica would do better, and each recovers sooner than a balancer would take it back. Chunks
        get 503 meanwhile. A store that would lose sessions, or can change none, needs somebody who sees it. If it only
        has no room for more, the server stays ready, since clients can still end and delete sessions: `detail` says it.

        With several workers, all that run have to be ready. One that is being started again does not count, since the
        others serve on: `detail` says it.
        """
        response = await own()
        if response.status_code != 200 or siblings is None or PASSED_ON in request.scope:
            return response
        replies = await siblings.ask_all(READY)
        for reply in replies:
            if reply is not None and reply.status != 200:
                return Response(reply.body, reply.status, {k.decode(): v.decode() for k, v in reply.headers})
        if None in replies:
            count = len(replies) + 1
            said = f"{replies.count(None)} of {count} workers do not answer: their sessions get 503 for now"
            return JSONResponse({"status": "ready", "workers": count - replies.count(None), "detail": said})
        return response

    async def own() -> Response:
        """Whether this process is ready."""
        nonlocal store_answered
        if not admission.is_ready:
            return from_error(ShuttingDown("the server is shutting down: send requests to another"))
        if not store_answered:
            try:
                await registry.sessions.check()
            except StoreError as error:
                return from_error(error)
            store_answered = True
        elif registry.sessions.trouble is not None:
            return from_error(registry.sessions.trouble)
        if registry.sessions.shortage is not None:
            return JSONResponse({"status": "ready", "detail": str(registry.sessions.shortage)})
        return JSONResponse({"status": "ready"})

    return routes
