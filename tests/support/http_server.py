"""A server with its HTTP interface, without a network."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx

from service.carried.keys import CarryKeys
from service.models.catalog import ModelCatalog
from service.store.base import StateStore
from tests.support.clock import Clock
from tests.support.gate import Gate
from tests.support.product import make_app


class HttpServer:
    """An app on fake models, and a client of it, within ``async with``.

    Args:
        limits: fields of ``Settings``.

    Attributes:
        client: of the running app.
    """

    client: httpx.AsyncClient

    def __init__(
        self,
        folder: Path,
        gate: Gate,
        default_model: str | None = None,
        *,
        store: StateStore | None = None,
        keys: CarryKeys | None = None,
        **limits: Any,
    ) -> None:
        self.gate = gate
        self.clock = Clock(0.0)
        self.app = make_app(
            ModelCatalog(folder, default_model, gate.load),
            models=folder,
            clock=self.clock,
            wall=self.clock,
            store=store,
            keys=keys,
            default_model=default_model,
            inline_s=0.0,
            **limits,
        )
        self._running = AsyncExitStack()

    async def __aenter__(self) -> HttpServer:
        await self._running.enter_async_context(self.app.lifespan())
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = await self._running.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://server")
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.opened.set()
        await self._running.aclose()

    async def entered(self) -> None:
        """Wait until a graph runs."""
        assert await asyncio.to_thread(self.gate.entered.acquire, timeout=10)


class ServeHttp(Protocol):
    """Starts servers of the options of ``HttpServer``, on the usual models unless another folder is given."""

    async def __call__(self, folder: Path | None = None, **options: Any) -> HttpServer: ...
