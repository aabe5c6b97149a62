"""Servers without HTTP, closed in the loop of their test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.models.catalog import ModelCatalog
from tests.support.artifacts.gate import Gate
from tests.support.servers.in_process import DirectServer, ServeDirect


@pytest.fixture
async def serve(catalog: ModelCatalog, gate: Gate) -> AsyncIterator[ServeDirect]:
    usual, servers = catalog, list[DirectServer]()

    def made(catalog: ModelCatalog | None = None, **options: Any) -> DirectServer:
        servers.append(DirectServer(catalog or usual, gate, **options))
        return servers[-1]

    yield made
    for server in servers:
        await server.close()
