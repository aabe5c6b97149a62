"""The process that starts the workers: it binds the port, restarts a worker that dies, and passes signals on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from service.errors import HetsynError
from service.workers.place import LINE_BYTES, VARIABLE, Place, offer_path

log = logging.getLogger("hetsyn.workers")

LONGEST_PAUSE_S = 30.0  # before a worker is started that has died before it was loaded
PLAN_S = 600.0  # for the plans of a reload
LONGEST_FOLDER_BYTES = 80  # a socket's path has 107 at most
STILL_S = 10.0  # beyond the time that a worker has for its end


@dataclass
class _Worker:
    """A worker.

    Attributes:
        index: of the worker.
        process: that runs now; None between two.
        writer: of its control socket.
        offer: the models that it offers; None before they are loaded.
        plan: those that it would offer after the reload under way.
        refused: what it would refuse.
        restarts: processes that ended before they were loaded, one after the other.
    """

    index: int
    process: asyncio.subprocess.Process | None = None
    writer: asyncio.StreamWriter | None = None
    offer: dict[str, str] | None = None
    plan: dict[str, str] | None = None
    refused: Sequence[str] = ()
    restarts: int = 0

    def order(self, what: str, **more: object) -> None:
        """Tell the worker what to do."""
        if self.writer is not None:
            self.writer.write(json.dumps({"do": what, **more}).encode() + b"\n")


@dataclass(eq=False)
class Supervisor:
    """Runs workers until it is told to end.

    Args:
        count: of workers.
        host: address to listen on.
        port: likewise; 0 takes a free one.
        end_s: time that a worker has for its end.
        has_terminal: whether SIGHUP says that the terminal was closed.
        command: of a worker.
    """

    count: int
    host: str
    port: int
    end_s: float
    has_terminal: bool = False
    command: Sequence[str] = field(default_factory=lambda: [sys.executable, *sys.orig_argv[1:]])

    def run(self) -> int:
        """Run until the end; the exit status."""
        with tempfile.TemporaryDirectory(prefix="hetsyn-workers-") as folder:
            if len(os.fsencode(folder)) > LONGEST_FOLDER_BYTES:
                raise HetsynError(f"the sockets of the workers have no room in {folder}: set TMPDIR to a shorter path")
            self._folder = folder
            self._listeners = listeners(self.host, self.port)
            try:
                return asyncio.run(self._run())
            finally:
                self._close_listeners()

    async def _run(self) -> int:
        self._seed = secrets.randbits(63)
        self._workers = [_Worker(index) for index in range(self.count)]
        self._is_ending = False
        self._status = 0
        self._changed = asyncio.Condition()
        self._reload = asyncio.Event()
        self._round = 0
        self._is_serving = False
        self._handle_signals()
        tasks = [asyncio.create_task(self._keep(self._workers[0]))]
        try:
            # the first one alone: what is wrong with models or options is said once
            await self._until(lambda: self._is_ending or self._workers[0].offer is not None)
            tasks += [asyncio.create_task(self._keep(worker)) for worker in self._workers[1:]]
            await self._until(lambda: self._is_ending or all(worker.offer is not None for worker in self._workers))
            if not self._is_ending:
                self._is_serving = True
                for worker in self._workers:
                    worker.order("serve")
                for listener in self._listeners:
                    address, port = listener.getsockname()[:2]
                    shown = f"[{address}]" if ":" in address else address
                    log.info("%d workers serve on http://%s:%d (Press CTRL+C to quit)", self.count, shown, port)
            tasks.append(asyncio.create_task(self._reload_forever()))
            for keeping in tasks[:-1]:
                await keeping
            return self._status
        finally:
            for task in tasks:
                task.cancel()

    # --- processes

    async def _keep(self, worker: _Worker) -> None:
        """Start a worker, and start it again when it dies."""
        while not self._is_ending:
            status = await self._run_once(worker)
            had_begun = worker.offer is not None
            worker.process = worker.writer = worker.offer = worker.plan = None
            async with self._changed:
                self._changed.notify_all()
            if self._is_ending:
                return
            if not (had_begun or self._is_serving):
                self._status = status if 0 < status < 128 else 1
                self._end(signal.SIGTERM)  # the start failed: the worker has said why
                return
            worker.restarts = 0 if had_begun else worker.restarts + 1
            pause_s = min(LONGEST_PAUSE_S, 2.0 ** (worker.restarts - 1)) if worker.restarts else 0.0
            log.error("worker %d has ended (%s) and is started again", worker.index, _reason(status))
            await asyncio.sleep(pause_s)

    async def _run_once(self, worker: _Worker) -> int:
        """Run a worker's process to its end; its status."""
        ours, theirs = socket.socketpair()
        if (offer := next((one.offer for one in self._workers if one.offer is not None), None)) is not None:
            offer_path(self._folder).write_text(json.dumps(offer))
        place = Place(
            worker.index,
            self.count,
            self._seed,
            self._folder,
            theirs.fileno(),
            tuple(listener.fileno() for listener in self._listeners),
        )
        try:
            worker.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=os.environ | {VARIABLE: place.to_json()},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(place.control, *place.listeners),
                start_new_session=True,  # a signal of the terminal reaches the supervisor alone
            )
        except OSError as error:  # such as: no memory
            ours.close()
            log.error("worker %d cannot be started: %s", worker.index, error)
            return 1
        finally:
            theirs.close()
        reader, worker.writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
        listening = asyncio.create_task(self._listen(worker, reader))
        try:
            return await worker.process.wait()
        finally:
            await listening
            worker.writer.close()

    async def _listen(self, worker: _Worker, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self._hear(worker, json.loads(line))
                async with self._changed:
                    self._changed.notify_all()

    def _hear(self, worker: _Worker, report: dict[str, Any]) -> None:
        if report["say"] == "loaded":
            worker.offer = report["offer"]
            if self._is_serving:  # a restart
                worker.order("serve")
                log.info("worker %d serves again", worker.index)
                if any(one.offer not in (None, worker.offer) for one in self._workers):
                    self._reload.set()  # the folder has changed meanwhile
        elif report["say"] == "planned" and report["round"] == self._round:
            worker.plan, worker.refused = report["offer"], report["refused"]
        elif report["say"] == "reload":
            self._reload.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    # --- reloads

    async def _reload_forever(self) -> None:
        """Reload the models of all workers on request, or of none."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            # one that is being started reads the folder itself, and is compared with the others then
            await self._until(lambda: all(worker.offer is not None for worker in self._workers))
            self._round += 1
            for worker in self._workers:
                worker.plan = None
                worker.order("plan", round=self._round)
            try:
                async with asyncio.timeout(PLAN_S):
                    await self._until(lambda: all(one.plan is not None or one.offer is None for one in self._workers))
            except TimeoutError:
                log.error("the models are not reloaded: a worker did not plan the reload in time")
            self._decide()

    def _decide(self) -> None:
        """Publish the workers' plans if all would offer the same."""
        plans = [worker.plan for worker in self._workers]
        if plans[0] is not None and all(plan == plans[0] for plan in plans):
            for worker in self._workers:
                worker.offer = worker.plan
                worker.order("publish")
            return
        for worker in self._workers:
            worker.order("forget")
            said = "; ".join(worker.refused) or "nothing refused" if worker.plan is not None else "it has ended"
            log.error("the models are not reloaded, as the workers do not agree: worker %d: %s", worker.index, said)
        if any(plan is None for plan in plans):
            self._reload.set()

    # --- signals

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGUSR1, self._reload.set)
        if not self.has_terminal:
            loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        elif signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup: the server outlives its terminal
            loop.add_signal_handler(signal.SIGHUP, self._end, signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1, signal.SIGHUP})

    def _end(self, number: signal.Signals) -> None:
        """Pass a signal on. Each further one hurries the workers."""
        if not self._is_ending:
            self._is_ending = True
            self._close_listeners()  # those of the workers stay until they admit no more
            asyncio.get_running_loop().call_later(self.end_s + STILL_S, self._kill)
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                with suppress(ProcessLookupError):
                    worker.process.send_signal(number)
        self._waking = asyncio.create_task(self._wake())

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.returncode is None:
                log.error("worker %d does not end, and is killed", worker.index)
                worker.process.kill()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()


def listeners(host: str, port: int) -> list[socket.socket]:
    """Sockets that are bound to an address, one for each that its name has; none listens yet.

    Raises:
        HetsynError: the address cannot be used.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.setblocking(False)
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise HetsynError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): choose another port with --port "
            "(0 takes a free one), or end the program that uses this one"
        ) from error
    return sockets


def _reason(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"
