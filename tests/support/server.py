"""A server without HTTP: a registry on fake models whose clock is turned by hand."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import pytest

from service.errors import HetsynError
from service.models.catalog import ModelCatalog
from service.registry.shared import SharedSessions
from service.store.base import StateStore
from service.wire.schema import Reply
from tests.support.clock import Clock
from tests.support.gate import Gate
from tests.support.infer_request import infer_request
from tests.support.product import make_server


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
            return Reply.from_json(await self.registry.infer(infer_request(*args, **kwargs), permit))

    async def refused(self, kind: type[HetsynError], sentence: str, *args: Any, **kwargs: Any) -> HetsynError:
        """The error with which ``send`` is refused."""
        with pytest.raises(kind, match=sentence) as caught:
            await self.send(*args, **kwargs)
        return caught.value

    async def entered(self) -> None:
        """Wait until a graph runs."""
        assert await asyncio.to_thread(self.gate.entered.acquire, timeout=10)


class ServeDirect(Protocol):
    """Makes servers of the options of ``DirectServer``, on the usual catalog unless another is given."""

    def __call__(self, catalog: ModelCatalog | None = None, **options: Any) -> DirectServer: ...


def shared_sessions(server: DirectServer) -> SharedSessions:
    """The session table of a server with a store."""
    sessions = server.registry.sessions
    assert isinstance(sessions, SharedSessions)
    return sessions
