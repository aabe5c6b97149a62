"""Servers in the test's process without a socket: ``HttpServer`` has the HTTP interface, ``DirectServer`` has not.

``socket_server`` has servers on a real socket, and ``server_process`` has processes.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from service.carried.carry_keys import CarryKeys
from service.errors import HetsynError
from service.models.catalog import ModelCatalog
from service.store.base import StateStore
from service.store.session_store import SessionStore
from tests.support.artifacts.gate import Gate
from tests.support.clients.infer_request import infer_request
from tests.support.clients.replies import Reply
from tests.support.clients.wire import wire_transport
from tests.support.clock import Clock
from tests.support.product import CARRY_KEYS, make_app, make_server
from tests.support.servers.apply_chunk import apply_chunk


class HttpServer:
    """An app on fake models, and a client of it, within ``async with``.

    Args:
        limits: fields of ``Settings``.
    """

    client: httpx.AsyncClient

    def __init__(
        self,
        folder: Path,
        gate: Gate,
        *,
        store: StateStore | None = None,
        keys: CarryKeys | None = CARRY_KEYS,
        **limits: Any,
    ) -> None:
        self.gate = gate
        self.clock = Clock(0.0)
        self.app = make_app(
            ModelCatalog(folder, gate.load),
            models=folder,
            clock=self.clock,
            wall=self.clock,
            store=store,
            keys=keys,
            inline_s=0.0,
            **limits,
        )
        self._running = AsyncExitStack()

    async def __aenter__(self) -> HttpServer:
        await self._running.enter_async_context(self.app.router.lifespan_context(self.app))
        transport = wire_transport(self.app)
        self.client = await self._running.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://server")
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.opened.set()
        await self._running.aclose()

    async def entered(self) -> None:
        """Wait until a graph runs."""
        await self.gate.computes()


class ServeHttp(Protocol):
    """Starts servers of the options of ``HttpServer``, on the usual models unless another folder is given."""

    async def __call__(self, folder: Path | None = None, **options: Any) -> HttpServer: ...


class DirectServer:
    """Used from one event loop; ``close`` it there.

    Args:
        gate: the one through which the catalog loads its graphs.
        limits: fields of ``Settings``.
    """

    def __init__(
        self,
        catalog: ModelCatalog,
        gate: Gate,
        *,
        store: StateStore | None = None,
        clock: Clock | None = None,
        **limits: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.gate = gate
        limits = {"client_share": 1.0, "engine_threads": 4, "inline_s": 0.0, **limits}
        self.parts = make_server(catalog, self.clock, self.clock, store=store, **limits)
        self.registry, self.transfer = self.parts.registry, self.parts.transfer
        self.admission, self.counters = self.parts.admission, self.parts.counters

    async def close(self) -> None:
        self.gate.opened.set()
        await self.parts.close()

    async def send(self, *args: Any, client: str = "", **kwargs: Any) -> Reply:
        """The reply to ``infer_request`` of these arguments."""
        with self.admission.permit(client) as permit:
            answer = await apply_chunk(self.registry, infer_request(*args, **kwargs), permit)
            return Reply.from_json(answer.json())

    async def refused(self, kind: type[HetsynError], sentence: str, *args: Any, **kwargs: Any) -> HetsynError:
        """The error with which ``send`` is refused."""
        with pytest.raises(kind, match=sentence) as caught:
            await self.send(*args, **kwargs)
        return caught.value

    async def entered(self) -> None:
        """Wait until a graph runs."""
        await self.gate.computes()

    async def sweep(self) -> None:
        """Drop the sessions whose time is over, as the server does at an interval, and their records."""
        await self.registry._sweep(0.0)
        if self.registry.sessions.store is not None:
            await self.registry.sessions.store.dropped()


class ServeDirect(Protocol):
    """Makes servers of the options of ``DirectServer``, on the usual catalog unless another is given."""

    def __call__(self, catalog: ModelCatalog | None = None, **options: Any) -> DirectServer: ...


def session_store(server: DirectServer) -> SessionStore:
    """The store of a server that has one."""
    store = server.registry.sessions.store
    assert store is not None
    return store
