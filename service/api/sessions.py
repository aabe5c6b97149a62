"""``/sessions/{id}``: look at a session, and drop it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from service.sessions import SessionRegistry


def router(sessions: SessionRegistry) -> APIRouter:
    routes = APIRouter(tags=["sessions"])

    @routes.get("/sessions/{session_id}")
    async def describe(session_id: str) -> dict[str, Any]:
        """What a session runs on and which chunk it expects next."""
        return sessions.describe(session_id)

    @routes.delete("/sessions/{session_id}", status_code=204)
    async def delete(session_id: str) -> Response:
        """Drop a session at once; its id may be used again."""
        await sessions.delete(session_id)
        return Response(status_code=204)

    return routes
