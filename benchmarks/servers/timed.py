"""`hetsyn serve` that notes when a chunk passes its parts: `python -m benchmarks.servers.timed FILE serve ...`.

The moments go to a file at the end. Their clock is that of `time.perf_counter_ns`, which all processes of a Linux
machine share. Noting one takes about a microsecond.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hetsyn import main
from service.api.connection import Connection
from service.api.response_writer import ResponseWriter
from service.api.stream_rows import StreamRows
from service.api.web_socket import WebSocket
from service.app import Server
from service.batching.batcher import Batcher
from service.batching.rows import RowBatches
from service.engine.engine import Engine
from service.ingress import Ingress
from service.registry.registry import SessionRegistry
from service.registry.rows import RowSessions

MOMENTS: list[tuple[int, str]] = []
# class, method, what its beginning and its end are called
PASSED: list[tuple[type, str, str, str]] = [
    (Connection, "data_received", "received", ""),
    (WebSocket, "data_received", "received", ""),
    (SessionRegistry, "infer", "session", ""),
    (Batcher, "run", "queue", ""),
    (Engine, "take", "engine", ""),
    (Engine, "compute", "", "computed"),
    (SessionRegistry, "_commit", "commit", "kept"),
    # plain chunks of streams go together
    (StreamRows, "add", "session", ""),
    (Ingress, "apply_rows", "queue", ""),
    (RowBatches, "run", "engine", "computed"),  # a single chunk runs on the event loop
    (RowSessions, "_keep", "commit", "kept"),
    (ResponseWriter, "write", "", "written"),
    (ResponseWriter, "flush", "", "written"),
    (WebSocket, "_act", "", "written"),
]


def note(name: str) -> None:
    if name:
        MOMENTS.append((time.perf_counter_ns(), name))


def timed(function: Callable[..., Any], begins: str, ends: str) -> Callable[..., Any]:
    if asyncio.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*arguments: Any, **more: Any) -> Any:
            note(begins)
            try:
                return await function(*arguments, **more)
            finally:
                note(ends)

        return awaited

    @functools.wraps(function)
    def called(*arguments: Any, **more: Any) -> Any:
        note(begins)
        try:
            return function(*arguments, **more)
        finally:
            note(ends)

    return called


if __name__ == "__main__":
    path = Path(sys.argv.pop(1))
    for owner, name, begins, ends in PASSED:
        setattr(owner, name, timed(getattr(owner, name), begins, ends))
    close = Server.close

    async def closed(server: Server) -> None:
        await close(server)
        path.write_text(json.dumps(MOMENTS))

    setattr(Server, "close", closed)  # noqa: B010  # as the others
    main()
