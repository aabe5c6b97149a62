"""Servers with their HTTP interface, without a network, closed in the loop of their test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.artifacts.gate import Gate
from tests.support.servers.in_process import HttpServer, ServeHttp


@pytest.fixture
async def serve(models: Path, gate: Gate) -> AsyncIterator[ServeHttp]:
    async with AsyncExitStack() as stack:

        async def started(folder: Path | None = None, **options: Any) -> HttpServer:
            return await stack.enter_async_context(HttpServer(folder or models, gate, **options))

        yield started


@pytest.fixture
async def server(serve: ServeHttp) -> HttpServer:
    return await serve(session_idle_s=60, ended_keep_s=10, max_body_bytes=60_000, max_chunk_steps=500)


@pytest.fixture
def client(server: HttpServer) -> httpx.AsyncClient:
    return server.client
