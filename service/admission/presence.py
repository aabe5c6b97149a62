"""Whether the client of a request is still there.

What a client asked for is worth nothing once the client has gone. So its connection cancels the task that works for it.
A chunk is applied as a whole or not at all, wherever its task stands: it waits for its session's turn, it waits in a
batch or is computed (``batching.batcher``), or its commit is under way and is finished (``registry.registry``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from service.admission.uploads import ClientDisconnect

SCOPE_KEY = "hetsyn.presence"
"""Under which an ASGI scope has the ``Presence`` of its connection."""


class Presence:
    """The client of one connection, as a context in which its request is worked on. Used from one event loop.

    A connection works on one request at a time, so that one object does for all of them. It costs a request no task and
    no future.

    Attributes:
        is_gone: the client has gone.
    """

    __slots__ = ("_task", "is_gone")

    def __init__(self) -> None:
        self.is_gone = False
        self._task: asyncio.Task[Any] | None = None

    def leave(self) -> None:
        """The client has gone: cancel what is done for it. A second call does nothing."""
        if self.is_gone:
            return
        self.is_gone = True
        if self._task is not None:
            self._task.cancel()

    def check(self) -> None:
        """Check that somebody waits for the answer.

        Raises:
            ClientDisconnect: the client has gone.
        """
        if self.is_gone:
            raise ClientDisconnect

    def __enter__(self) -> None:
        if self.is_gone:
            raise ClientDisconnect
        self._task = asyncio.current_task()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task = None
        if self.is_gone and kind is asyncio.CancelledError:
            raise ClientDisconnect from None


def presence_of(scope: Mapping[str, Any]) -> Presence:
    """The client of a request. Another server than ours says nothing of its connections: there the client stays."""
    return scope.get(SCOPE_KEY) or Presence()
