"""Graceful shutdown of a server process.

On SIGTERM the server first becomes unready and goes on serving, so that balancers notice. Then it admits no more
requests, finishes and commits those in flight, and closes. Chunks that are not finished after a time are refused: they
are not applied, and another server can take them. Clients that do not read their responses within ``CLOSING_S`` are
disconnected, so that the store can be closed. SIGINT (a person at the keyboard) skips the wait for balancers. Each
further signal skips the current wait: for balancers, or for chunks.

SIGHUP (the terminal was closed) ends the server as SIGINT does. Under ``nohup`` it is ignored.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from math import inf
from types import FrameType
from typing import Any

import uvicorn

from service.admission.budget import Admission

log = logging.getLogger("hetsyn.server")

CLOSING_S = 2.0  # time for clients to read their responses


class GracefulServer(uvicorn.Server):
    """uvicorn's server, with the shutdown of this module.

    Args:
        drain_s: time to go on serving while unready.
        finish_s: time to finish the requests in flight after the server admits no more.
        refuse: awaited to refuse the chunks that are not finished then; cancelled once nothing is in flight.
        prepare: runs before the server starts. If it raises, ``serve`` raises the same, and nothing has started.
        bound: called when the server listens on its port.
        tls: the context of its connections, which make the handshake themselves.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        admission: Admission,
        drain_s: float,
        *,
        finish_s: float = inf,
        refuse: Callable[[], Coroutine[Any, Any, None]] | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
        bound: Callable[[], None] = lambda: None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(config)
        self._admission = admission
        self._drain_s = drain_s
        self._finish_s = finish_s
        self._refuse = refuse
        self._prepare = prepare
        self._bound = bound
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()  # skips the wait for balancers
        self._cut = asyncio.Event()  # skips the wait for chunks

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        may_hang_up = _may_hang_up()
        if may_hang_up:
            self._loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            if self._prepare is not None:
                await self._prepare()
            await super().serve(sockets)
        finally:
            if may_hang_up:
                self._loop.remove_signal_handler(signal.SIGHUP)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:
            error.code = 1  # as for every failed start
            raise
        if self.started:
            self._bound()

    def _log_started_message(self, listeners: Sequence[socket.SocketType]) -> None:
        self.config.ssl = self._tls  # the line names https; the listeners were made without
        super()._log_started_message(listeners)

    def _hang_up(self) -> None:
        if self._ending is None:
            self._hurry.set()
        self._end(signal.SIGTERM, None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        aborting = asyncio.create_task(self._abort_connections())
        try:
            await super().shutdown(sockets)
        finally:
            aborting.cancel()

    async def _abort_connections(self) -> None:
        while True:  # a connection that was accepted last may appear after the others have gone
            await asyncio.sleep(CLOSING_S)
            for connection in list(self.server_state.connections):
                connection.transport.abort()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._loop is None:
            super().handle_exit(sig, frame)
            return
        self._loop.call_soon_threadsafe(self._end, sig, frame)

    def _end(self, sig: int, frame: FrameType | None) -> None:
        if self._ending is not None:
            (self._cut if self._hurry.is_set() else self._hurry).set()
        elif sig == signal.SIGINT:
            self._hurry.set()
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end_gracefully(sig, frame))
        elif self._ending.done():
            super().handle_exit(sig, frame)

    async def _end_gracefully(self, sig: int, frame: FrameType | None) -> None:
        await drained(self._admission, self._drain_s, self._finish_s, self._refuse, self._hurry, self._cut)
        super().handle_exit(sig, frame)


async def drained(
    admission: Admission,
    drain_s: float,
    finish_s: float,
    refuse: Callable[[], Coroutine[Any, Any, None]] | None,
    hurry: asyncio.Event,
    cut: asyncio.Event,
) -> None:
    """Leave the rotation, and finish the requests in flight. Arguments as of ``GracefulServer``.

    Args:
        hurry, cut: skip the wait for balancers, and that for chunks. The wait that is over sets its own.
    """
    admission.leave_rotation()
    await _within(drain_s, hurry)
    hurry.set()
    stopping = asyncio.create_task(admission.stop())
    stopping.add_done_callback(lambda _: cut.set())
    await _within(finish_s, cut)
    if not stopping.done():
        log.warning("%d requests are not finished: their chunks get 503", admission.in_flight)
        refusing = None if refuse is None else asyncio.create_task(refuse())
        await stopping
        if refusing is not None:
            refusing.cancel()


def _may_hang_up() -> bool:
    """Return whether SIGHUP ends the server. A handler needs the main thread, and not Windows."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


async def _within(timeout_s: float, event: asyncio.Event) -> None:
    """Wait for an event, at most ``timeout_s``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(None if timeout_s == inf else timeout_s):
            await event.wait()
