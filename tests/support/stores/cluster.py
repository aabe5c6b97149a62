"""Replicas around one store: several are replicas, one after the other is a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.models.catalog import ModelCatalog
from service.store.base import Change, Stored
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.gate import Gate
from tests.support.clients.replies import Reply
from tests.support.clock import Clock
from tests.support.servers.in_process import DirectServer
from tests.support.stores.failing_store import FailingStore
from tests.support.stores.memory_store import MemoryStore

LIMITS: dict[str, Any] = {
    "session_idle_s": 60,
    "session_age_s": 1000,
    "ended_keep_s": 10,
    "max_sessions": 3,
}


class Cluster:
    """Replicas on one store that fails on demand, with one clock; each with models and a gate of its own."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder = folder
        self.limits = LIMITS | limits
        self.clock = Clock(now_s=1_000_000.0)
        self.memory = MemoryStore(self.clock)
        self.store = FailingStore(self.memory)
        self.replicas: list[DirectServer] = []

    def replica(self, **limits: Any) -> DirectServer:
        gate = Gate()
        catalog = ModelCatalog(with_default(self.folder, "digits"), load=gate.load)
        server = DirectServer(catalog, gate, store=self.store, clock=self.clock, **(self.limits | limits))
        self.replicas.append(server)
        return server

    async def close(self) -> None:
        self.store.opened.set()
        for server in self.replicas:
            await server.close()

    async def record(self, session: str) -> Stored | None:
        (stored,) = await self.memory.load([session])
        assert stored is None or isinstance(stored, Stored)
        return stored

    async def overwrite(self, session: str, content: bytes) -> None:
        stored = await self.record(session)
        await self.memory.commit([Change(session, stored.revision if stored else 0, 77, content, 1000)])

    async def undisturbed(self, chunks: int, *, end: bool = True) -> list[Reply]:
        """The replies of one server without a store."""
        alone = DirectServer(
            ModelCatalog(with_default(self.folder, "digits"), load=load_fake), Gate(), session_idle_s=60
        )
        replies = [await alone.send("a", n, seed=n, end=end and n == chunks - 1) for n in range(chunks)]
        await alone.close()
        return replies


MakeCluster = Callable[..., Cluster]  # takes limits
