"""A server on real sockets of the loopback, and requests as bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from service.models.catalog import ModelCatalog
from service.shutdown import GracefulServer
from tests.support.gate import Gate
from tests.support.product import make_app

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
SOON_S = 0.1
LATER_S = 0.4  # within it a request arrives on a busy machine too
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
        return len(self.parts.connections.shares)

    async def connect(self, client: str = "127.0.0.1") -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(client, 0))
        self.writers.append(writer)
        return reader, writer

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def listening(folder: Path, gate: Gate, *, inline_s: float = 0.0, **limits: Any) -> AsyncIterator[Listening]:
    app = make_app(ModelCatalog(folder, load=gate.load), inline_s=inline_s, **limits)
    server = app.state.server
    config = uvicorn.Config(app, port=0, log_level="error", http=server.connections.protocol, ws="none")
    process = GracefulServer(config, server.admission, 0.0, refuse=server.batcher.stop)
    running = asyncio.create_task(process.serve())
    try:
        while not process.started:
            await asyncio.sleep(0.001)
        listening = Listening(process)
        yield listening
        for writer in listening.writers:
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
