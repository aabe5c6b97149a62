"""A server process's end: readiness falls, admission stops, what runs is finished and committed, then it closes.

SIGTERM asks for that. A second signal, or SIGINT (a person at the keyboard), leaves out the time for balancers to
notice; what runs is finished all the same. SIGHUP asks for something else: that the models are loaded again.
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


class GracefulServer(uvicorn.Server):
    """
    Args:
        drain_s: for how long to serve on after readiness fell.
        hung_up: called on SIGHUP.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        admissions: Admission,
        drain_s: float,
        hung_up: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._admissions = admissions
        self._drain_s = drain_s
        self._hung_up = hung_up
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        # the rest of the signals is uvicorn's; none can be caught on another thread, or where there is none
        is_caught = (
            self._hung_up is not None
            and hasattr(signal, "SIGHUP")
            and threading.current_thread() is threading.main_thread()
        )
        if is_caught and self._hung_up is not None:
            self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        try:
            await super().serve(sockets)
        finally:
            if is_caught:
                self._loop.remove_signal_handler(signal.SIGHUP)

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
        self._admissions.leave_rotation()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self._hurry.wait()
        await self._admissions.stop()
        super().handle_exit(sig, frame)
