"""A connection of ``WS /streams`` under load, and the sessions on it."""

from __future__ import annotations

import asyncio
from collections import deque

from hetsyn_client.loadtest.carrier import Job
from hetsyn_client.loadtest.streams import LoadStream
from hetsyn_client.loadtest.target import Response
from hetsyn_client.loadtest.websocket import WebSocket, WebSocketOwner


class Hub(WebSocket):
    """One connection.

    Args:
        owner: receives what happens.
        opening: the handshake.

    Attributes:
        is_ready: ``Begin`` has come.
        handles: of the sessions that are open on it, by stream.
        failures: why a handle has no session.
        openings: sessions to open with the next frame.
        leavings: handles to leave with the next frame.
        pending: chunks of the next frame.
        frames: chunks of those that are not answered.
        timer: until the next frame.
        unopened: number of sessions whose opening is not answered.
    """

    def __init__(self, owner: WebSocketOwner, opening: bytes) -> None:
        super().__init__(owner, opening)
        self.is_ready = False
        self.handles: dict[int, tuple[int, str]] = {}
        self.failures: dict[int, Response] = {}
        self.openings: list[tuple[int, str]] = []
        self.leavings: list[int] = []
        self.pending: list[Job] = []
        self.frames: deque[list[Job | None]] = deque()
        self.timer: asyncio.TimerHandle | None = None
        self.unopened = 0
        self._next_handle = 0

    def handle(self, stream: LoadStream) -> int:
        """The handle of a stream's session. It is opened with the next frame if it is not open."""
        known = self.handles.get(stream.index)
        if known is not None:
            if known[1] == stream.session:
                return known[0]
            self.leavings.append(known[0])
        self._next_handle += 1
        self.handles[stream.index] = self._next_handle, stream.session
        self.openings.append((self._next_handle, stream.session))
        return self._next_handle
