"""Servers on a real socket: in a thread (``serving``, ``running``), or in the test's own loop (``listening``).

``in_process`` has servers without a socket, and ``server_process`` has processes.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET
from socket import socket as tcp_socket
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.models.catalog import ModelCatalog
from service.runtime.device import Device
from service.runtime.onnx import GraphLoader, load_graph
from service.shutdown import GracefulServer
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.gate import Gate
from tests.support.product import CARRY_KEYS, make_app, make_settings
from tests.support.stores.memory_store import MemoryStore

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60
# sessions in memory, or committed to a store: for the tests in which the commit matters
each_store = pytest.mark.parametrize("url", ["memory", "store"], indirect=True)


def keeps(request: pytest.FixtureRequest) -> str:
    """Where the server of a fixture keeps its sessions: ``memory`` unless the test asks for a ``store``."""
    where: str = getattr(request, "param", "memory")
    return where


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The URL of a server with this application."""
    protocol = app.state.server.protocol
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="on", http=protocol, ws="none")
    config.timeout_graceful_shutdown = END_TIMEOUT_S  # by default a client that stays would hold the test for ever
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def announce(*arguments: Any, **more: Any) -> None:
        await startup(*arguments, **more)
        app.state.loop = asyncio.get_running_loop()
        started.set()

    server.startup = announce  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(START_TIMEOUT_S), "the server did not start"
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def running(models: Path, load: GraphLoader = load_graph, **settings: Any) -> Iterator[str]:
    """The URL of a server. At the end no session may be open.

    Args:
        models: its folder of models.
        load: makes the models' graphs.
        settings: those of ``Settings`` beside ``models``.
    """
    app = create_app(make_settings(models, **settings), ModelCatalog(models, load=load), keys=CARRY_KEYS)
    with serving(app) as url:
        yield url
        assert app.state.server.registry.sessions.open == 0


@contextmanager
def serving_models(folder: Path, keeps: str = "memory", **settings: Any) -> Iterator[str]:
    """The URL of a server of fake models, by default ``digits``, that takes any number of sessions of one client.

    Args:
        folder: has the models.
        keeps: sessions in ``memory`` or in a ``store``.
        settings: those of ``Settings`` beside ``models``.
    """
    catalog = ModelCatalog(with_default(folder, "digits"), load=load_fake)
    made = make_settings(folder, **{"client_share": 1.0} | settings)
    store = MemoryStore() if keeps == "store" else None
    with serving(create_app(made, catalog, store=store, keys=CARRY_KEYS)) as url:
        yield url


def serving_fakes(folder: Path, keeps: str) -> AbstractContextManager[str]:
    """``serving_models`` with ``digits`` and ``sensor``, which are written into the folder."""
    write_artifact(folder)
    write_artifact(folder, "sensor", takes="values")
    return serving_models(folder, keeps)


@contextmanager
def serving_from_file(models: Path, sessions: Path) -> Iterator[str]:
    """The URL of a server that keeps its sessions in a file, from which another goes on."""
    settings = make_settings(models, store=f"file://{sessions}")
    with serving(create_app(settings, ModelCatalog(models), keys=CARRY_KEYS)) as url:
        yield url


Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
SOON_S = 0.1
LATER_S = 1.0  # within it a request arrives on a busy machine too
NEVER_S = 60.0


class Listening:
    """A server on a free port of the loopback, and its counters."""

    def __init__(self, process: GracefulServer) -> None:
        self.process = process
        self.writers: list[Writer] = []  # of all connections, which end with the server
        self.parts = process.config.app.state.server  # type: ignore[union-attr]
        self.port: int = process.servers[0].sockets[0].getsockname()[1]

    @property
    def ended(self) -> dict[str, int]:
        return dict(self.parts.counters.connections_ended)

    @property
    def open(self) -> int:
        return len(self.parts.connections)

    def http(self, **options: Any) -> httpx.AsyncClient:
        """A client of httpx, with its options."""
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", **options)

    async def connect(self, client: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(client, 0), ssl=tls)
        self.writers.append(writer)
        return reader, writer

    async def connect_narrowly(self) -> tuple[Reader, Writer]:
        """A connection on which the client's system takes little that the client does not read."""
        connected = tcp_socket()
        connected.setsockopt(SOL_SOCKET, SO_RCVBUF, 16 * 1024)
        connected.connect(("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connected, limit=1000)
        self.writers.append(writer)
        return reader, writer

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def listening(
    folder: Path,
    gate: Gate,
    *,
    device: Device | None = None,
    inline_s: float = 0.0,
    tls: ssl.SSLContext | None = None,
    **limits: Any,
) -> AsyncIterator[Listening]:
    app = make_app(ModelCatalog(folder, load=gate.load, device=device), inline_s=inline_s, **limits)
    server = app.state.server
    http = server.protocol if tls is None else partial(server.protocol_over_tls, tls)
    config = uvicorn.Config(app, port=0, log_level="error", http=http, ws="none")  # type: ignore[arg-type]
    process = GracefulServer(config, server.admission, 0.0, refuse=server.refuse)
    running = asyncio.create_task(process.serve())
    try:
        while not process.started:
            await asyncio.sleep(0.001)
        listening = Listening(process)
        yield listening
        for writer in listening.writers:
            if not writer.is_closing():  # Python 3.11.2 raises for a transport over TLS that is closed
                writer.transport.abort()
    finally:
        gate.opened.set()
        process.should_exit = True
        await running


async def response(reader: Reader) -> tuple[int, bytes]:
    """Status and body of the next response; interim ones are skipped."""
    head = await reader.readuntil(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100 "):
        head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split(b" ")[1]), await reader.readexactly(length)


def chunk(steps: int, **fields: Any) -> bytes:
    content = {"input": {"kind": "events", "steps": steps, "times": [], "units": []}, **fields}
    body = json.dumps(content).encode()
    head = b"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body
