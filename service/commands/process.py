"""One process that serves: ``hetsyn serve``, or one of its workers."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from logging.config import dictConfig
from pathlib import Path

import uvicorn
from rich.console import Console

from service.api.application import Application
from service.api.connection import Connection
from service.app import Server, create_app
from service.carried.keys import VARIABLE, CarryKeys, parse_keys, read_keys
from service.engine.engine import Engine
from service.models.catalog import ModelCatalog
from service.observe.logs import LogFormat, log_config
from service.observe.otel import open_tracer
from service.reload.choose_device import choose_device
from service.reload.trial_process import TrialProcess
from service.runtime.cuda import open_device
from service.runtime.device import Device
from service.runtime.onnx import check_runtime
from service.settings import Settings
from service.shutdown import GracefulServer
from service.store.url import redacted
from service.workers.control import Control
from service.workers.division import share_of
from service.workers.place import Place

log = logging.getLogger("hetsyn.server")

ANY_ADDRESS = ("0.0.0.0", "::")
COLLECT_AFTER = (20_000, 50, 100)  # thresholds of ``gc.set_threshold``


def run_process(
    settings: Settings,
    carry_keys: Path | None,
    log_level: str,
    log_format: LogFormat,
    place: Place | None,
    *,
    has_terminal: bool,
) -> int:
    """Serve until a signal ends the process; the exit status.

    Args:
        settings: of the server.
        carry_keys: file of keys for carried sessions; None takes those of the environment.
        log_level: of the log.
        log_format: of its lines.
        place: of this process among the workers of the server; None is this process alone.
        has_terminal: whether SIGHUP says that the terminal was closed.

    Raises:
        HetsynError: the server cannot be started.
    """
    with suppress(OSError):  # standard error is no file
        faulthandler.enable()  # a graph can end the process; this says where
    check_runtime()
    expected = {} if place is None else place.expected()
    if place is not None:
        settings = share_of(settings, place.index, place.count)
    configured_log = log_config(log_level, log_format, None if place is None else place.index)
    dictConfig(configured_log)  # before uvicorn does it: devices and models that cannot be used are logged

    def empty_catalog(device: Device | None) -> ModelCatalog:
        return ModelCatalog(
            settings.models,
            settings.default_model,
            device=device,
            is_empty=True,
            max_model_bytes=settings.max_model_bytes,
        )

    keys = _carry_keys(carry_keys)
    engine = Engine(settings.limits.max_chunk_steps)
    load_timeout_s = settings.load_timeout_s
    gpu, reason = choose_device(settings.device, open_device(settings.device), engine, empty_catalog, load_timeout_s)
    catalog = empty_catalog(gpu)
    if place is not None:
        catalog.expect(expected)
    trial_process = TrialProcess(settings.max_model_bytes, load_timeout_s)
    app = create_app(settings, catalog, keys=keys, trial_process=trial_process, place=place)
    server: Server = app.state.server
    tracer = server.counters.timings.tracer = open_tracer()
    if place is None or not (place.index or expected):  # the other workers would say the same
        console = Console(stderr=True, markup=False, highlight=False)
        for line in _described(server, gpu, reason, keys):
            if log_format == "json":
                log.info(line)
            else:
                console.print(line, soft_wrap=True)
    # a line of log costs a tenth of the time of a chunk; /metrics counts the chunks
    access_log = log_level == "debug"
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=configured_log,
        log_level=log_level,
        access_log=access_log,
        http=server.connections.protocol,  # type: ignore[arg-type]  # it makes a protocol, as a class does
        ws="none",
    )
    # The loaded models stay, so the garbage collector need not walk them. A batch makes thousands of objects and hardly
    # any cycle: collecting after every 700 objects (Python's default) took a tenth of a server's time.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    worker = None if place is None else _Worker(place, server, app)
    process = GracefulServer(
        config,
        server.admission,
        settings.drain_s,
        server.reloader.request_reload if worker is None else worker.control.request_reload,
        finish_s=settings.finish_s,
        refuse=server.batcher.stop,
        prepare=server.start if worker is None else worker.prepare,
        has_terminal=has_terminal,
        announce=None if worker is None else worker.take_connections,
        finish=None if worker is None else worker.finish,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after the shutdown
        if place is None:
            process.run()
        else:
            process.run(place.sockets())
    if tracer is not None:
        tracer.close()
    return 0 if process.started else 3


class _Worker:
    """What a worker does beside serving.

    Args:
        place: of this process.
        server: its parts.
        app: its application, which the other workers call.
    """

    def __init__(self, place: Place, server: Server, app: Application) -> None:
        assert server.siblings is not None
        self.control = Control(place, server.reloader)
        self._siblings = server.siblings
        self._server = server
        self._app = app

    async def prepare(self) -> None:
        """Open the store and the way for the other workers, and wait until all are there."""
        await self._server.start()
        await self._siblings.listen(self._app)
        await self.control.wait_to_serve(self._server.catalog.snapshot)

    def take_connections(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Take connections that other workers hand over: they stay here."""

        def arrived() -> asyncio.Protocol:
            connection = make()
            assert isinstance(connection, Connection)
            connection.home.is_open = False
            return connection

        self._siblings.take_connections(arrived)

    async def finish(self) -> None:
        """Answer the other workers' requests, and leave them."""
        self.control.close()
        await self._siblings.close()


def _described(server: Server, gpu: Device | None, reason: str, keys: CarryKeys | None) -> Iterator[str]:
    """Lines that say what a server serves, and how."""
    yield f"models: {', '.join(server.catalog.names)} on {'the CPU' if gpu is None else gpu.name}"
    if reason:
        yield f"device: {reason}"
    yield server.operator.sentence
    yield f"sessions: {redacted(server.settings.store.url)}"
    if server.settings.port:  # else uvicorn says which port is free
        yield f"page: {page_address(server.settings.host, server.settings.port)}"
    if keys is not None:
        yield f"carried sessions: keys {', '.join(key.hex() for key in keys.ids)}"


def page_address(host: str, port: int) -> str:
    """The address at which a browser of this machine finds the page.

    Args:
        host: on which the server listens.
        port: likewise.
    """
    if host in ANY_ADDRESS:
        host = "localhost"  # where browsers give a page the microphone
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _carry_keys(path: Path | None) -> CarryKeys | None:
    """Keys from the file, else from the environment; never from the command line, which other users can read."""
    if path is not None:
        return read_keys(path)
    return parse_keys(os.environ[VARIABLE], VARIABLE) if os.environ.get(VARIABLE) else None
