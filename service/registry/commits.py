"""Commits that others may be faster at, and that are finished once they are begun."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from service.errors import RETRY_S, Overloaded

MAX_ATTEMPTS = 10  # decisions on one request; each one after the first means that another process was faster


async def finished(change: Coroutine[Any, Any, bool]) -> bool:
    """A ``commit`` or a ``remove``, to its end: until then nobody knows whether it is made.

    A cancellation that comes meanwhile counts only if it is not made.
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
    """The error of a request after ``MAX_ATTEMPTS``."""
    return Overloaded(f"other replicas keep changing session {session_id!r}: send the chunk again in {RETRY_S:g} s")
