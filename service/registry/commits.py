"""Optimistic commits: retried when another process was faster, and never abandoned once sent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from service.errors import RETRY_S, Overloaded
from service.keys.ids import client_id

MAX_ATTEMPTS = 10  # decisions on a request; each one after the first means that another process was faster


async def finished(change: Coroutine[Any, Any, bool]) -> bool:
    """Run a ``commit`` or a ``remove`` to its end, even if the caller is cancelled: the store may have made the change.

    The cancellation takes effect afterwards, and only if the change was not made.
    """
    task = asyncio.create_task(change)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if task.cancelled() or not task.result():
            raise
        return True


def contended(session_id: str) -> Overloaded:
    """Make the error for a request after ``MAX_ATTEMPTS``."""
    return Overloaded(
        f"other replicas keep changing session {client_id(session_id)!r}: send the chunk again in {RETRY_S:g} s"
    )
