"""Graceful shutdown of a server process.

On SIGTERM the server first becomes unready and serves on, so that balancers notice. Then it admits no more requests,
finishes and commits those in flight, and closes. It disconnects clients that do not read their responses within
``CLOSING_S``, so that none of them keeps it from closing its store. A second signal, or SIGINT (a person at the
keyboard), skips the wait for balancers; requests in flight are finished all the same. SIGHUP is no shutdown: it reloads
the models.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn

from service.admission.permits import Admission

CLOSING_S = 2.0  # time for clients to read their responses


class GracefulServer(uvicorn.Server):
    """uvicorn's server, with the shutdown described above.

    Args:
        config: of uvicorn.
        admission: permits of the application's requests.
        drain_s: time to serve on while unready.
        hung_up: called on SIGHUP; None leaves the signal alone.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        admission: Admission,
        drain_s: float,
        hung_up: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._admission = admission
        self._drain_s = drain_s
        self._hung_up = hung_up
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        # uvicorn handles the other signals. Signals need the main thread, and Windows has no SIGHUP.
        handles_hangup = (
            self._hung_up is not None
            and hasattr(signal, "SIGHUP")
            and threading.current_thread() is threading.main_thread()
        )
        if handles_hangup and self._hung_up is not None:
            self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        try:
            await super().serve(sockets)
        finally:
            if handles_hangup:
                self._loop.remove_signal_handler(signal.SIGHUP)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        aborting = asyncio.get_running_loop().call_later(CLOSING_S, self._abort_connections)
        try:
            await super().shutdown(sockets)
        finally:
            aborting.cancel()

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None:
            super().handle_exit(sig, frame)
            return
        self._loop.call_soon_threadsafe(self._end, sig, frame)

    def _end(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT or self._ending is not None:
            self._hurry.set()
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end_gracefully(sig, frame))
        elif self._ending.done():
            super().handle_exit(sig, frame)

    async def _end_gracefully(self, sig: int, frame: FrameType | None) -> None:
        self._admission.leave_rotation()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._hurry.wait()
        await self._admission.stop()
        super().handle_exit(sig, frame)
