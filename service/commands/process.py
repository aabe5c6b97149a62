"""The process of ``hetsyn serve``."""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from logging.config import dictConfig
from pathlib import Path

import uvicorn

from service.app import Server, create_app
from service.carried.carry_keys import VARIABLE, CarryKeys, parse_keys, read_keys
from service.commands.tls import Certificate
from service.contract.folder import MODELS, SHIPPED
from service.engine.engine import Engine
from service.errors import CannotListen
from service.models.catalog import ModelCatalog
from service.observe.logs import log_config
from service.observe.otel import open_tracer
from service.reload.choose_device import choose_device
from service.reload.trial_process import TrialProcess
from service.runtime.device import Device, open_device
from service.runtime.onnx import check_runtime
from service.settings import Settings, is_loopback
from service.shutdown import GracefulServer
from service.store.url import redacted

log = logging.getLogger("hetsyn.server")

ANY_ADDRESS = ("0.0.0.0", "::")
COLLECT_AFTER = (20_000, 50, 100)  # thresholds of ``gc.set_threshold``


def run_process(settings: Settings) -> int:
    """Serve until a signal ends the process. Returns the exit status.

    Raises:
        HetsynError: the server cannot be started.
    """
    with suppress(OSError):  # if standard error is no file
        faulthandler.enable()  # a graph can crash the process; this shows where
    asyncio.run(_check_ports(settings))
    check_runtime()
    log_level, log_format = settings.log_level, settings.log_format
    configured_log = log_config(log_level, log_format)
    dictConfig(configured_log)  # before uvicorn does it, because unusable devices and models are logged

    def empty_catalog(device: Device | None) -> ModelCatalog:
        return ModelCatalog(
            settings.models,
            device=device,
            is_empty=True,
            max_model_bytes=settings.max_model_bytes,
        )

    keys = _carry_keys(settings.store.carry_keys)
    engine = Engine(settings.limits.max_chunk_steps)
    load_timeout_s = settings.load_timeout_s
    gpu, reason = choose_device(settings.device, open_device(settings.device), engine, empty_catalog, load_timeout_s)
    catalog = empty_catalog(gpu)
    trial_process = TrialProcess(settings.max_model_bytes, load_timeout_s)
    files = settings.access.certificate
    certificate = None if files is None else Certificate(*files)
    watched = None if certificate is None else certificate.files
    app = create_app(settings, catalog, keys=keys, trial_process=trial_process, certificate=watched)
    server: Server = app.state.server
    tracer = server.counters.timings.tracer = open_tracer()

    def say(line: str) -> None:
        if log_format == "json":
            log.info(line)
        else:
            print(line, file=sys.stderr, flush=True)

    for line in _described(server, gpu, reason, keys):
        say(line)
    # a line of log takes a tenth of a chunk's time; /metrics counts the chunks
    access_log = log_level == "debug"
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=configured_log,
        log_level=log_level,
        access_log=access_log,
        http=server.protocol,  # type: ignore[arg-type]  # a function that makes a protocol, in place of a class
        ws="none",
        proxy_headers=bool(os.environ.get("FORWARDED_ALLOW_IPS")),  # else uvicorn trusts all of this machine
    )
    if certificate is not None:
        config.http = partial(server.protocol_over_tls, certificate.context)  # type: ignore[assignment]
    # The loaded models stay, so the garbage collector need not walk them. A batch makes thousands of objects and hardly
    # any cycles: collecting after every 700 objects (Python's default) took a tenth of a server's time.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()
    process = GracefulServer(
        config,
        server.admission,
        settings.drain_s,
        finish_s=settings.finish_s,
        refuse=server.refuse,
        prepare=_watching(server.start, certificate),
        tls=None if certificate is None else certificate.context,
        bound=lambda: say(_page(settings)) if settings.port else None,  # else uvicorn says which port is free
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after the shutdown
        process.run()
    if tracer is not None:
        tracer.close()
    return 0 if process.started else 1


async def _check_ports(settings: Settings) -> None:
    """Bind the ports as they will be, and let go of them: to load the models takes seconds.

    Raises:
        CannotListen: one is in use, or both are one. What else is wrong is said when the server listens.
    """
    if settings.port and settings.port == settings.grpc_port:
        raise CannotListen(f"--port and --grpc-port are both {settings.port}: choose another for one of them")
    loop = asyncio.get_running_loop()
    for option, port in (("--port", settings.port), ("--grpc-port", settings.grpc_port or 0)):
        try:
            (await loop.create_server(asyncio.Protocol, settings.host, port, start_serving=False)).close()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotListen(
                    f"port {port} of {settings.host} is in use: choose another one with {option} (0 takes a free one), "
                    "or end the program that uses it"
                ) from None


def _watching(prepare: Callable[[], Awaitable[None]], certificate: Certificate | None) -> Callable[[], Awaitable[None]]:
    """Return a function that prepares a process, and then watches its certificate's files."""

    async def prepare_and_watch() -> None:
        await prepare()
        if certificate is not None:
            certificate.watch()

    return prepare_and_watch


def _described(server: Server, gpu: Device | None, reason: str, keys: CarryKeys | None) -> Iterator[str]:
    """Yield lines that say what a server serves, and how."""
    where = f", from the installation: {MODELS}/ has none here" if server.settings.models == SHIPPED else ""
    yield f"models: {', '.join(server.catalog.names)} on {'the CPU' if gpu is None else gpu.name}{where}"
    if reason:
        yield f"device: {reason}"
    yield server.operator.sentence
    store = redacted(server.settings.store.url)
    is_memory = server.registry.sessions.store is None
    yield f"sessions: {store}{', for this process alone' if is_memory else ''}"
    if server.access_keys is not None:
        yield f"keys: {len(server.access_keys)} of {server.settings.access.keys}"
    elif not is_loopback(server.settings.host):
        yield "keys: none, so everybody who reaches the port may use the server"
    if keys is not None:
        yield f"carried sessions: keys {', '.join(key.hex() for key in keys.ids)}"


def _page(settings: Settings) -> str:
    address = page_address(settings.host, settings.port)
    if settings.access.tls_cert is not None:
        address = address.replace("http:", "https:", 1)
    return f"page: {address}"


def page_address(host: str, port: int) -> str:
    """Return the address at which a browser of this machine finds the page of a server that listens on ``host``."""
    if host in ANY_ADDRESS:
        host = "localhost"  # browsers give a page of localhost the microphone
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _carry_keys(path: Path | None) -> CarryKeys | None:
    """Read keys from the file, else from the environment; never from the command line, which other users can read."""
    if path is not None:
        return read_keys(path)
    return parse_keys(os.environ[VARIABLE], VARIABLE) if os.environ.get(VARIABLE) else None
