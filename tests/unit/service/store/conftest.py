"""Stores that are closed in the loop of their test, and the servers behind the Redis store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from service.store.base import StateStore
from service.store.file import FileStore
from service.store.redis.server import RedisStore
from service.store.url import open_store
from tests.support.servers.relay import Relay
from tests.support.stores.cluster_sessions import ClusterSessions
from tests.support.stores.memory_store import MemoryStore
from tests.support.stores.started_store import S, StartStore, started
from tests.support.stores.valkey import ValkeyServer
from tests.support.stores.valkey_cluster import ValkeyCluster
from tests.support.tools import require_valkey


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a real Valkey are level 2."""
    for item in items:
        if {"valkey", "own_valkey", "formed_cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.process)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One server for all tests."""
    require_valkey()
    folder: Path = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(folder) as server:
        yield server


@pytest.fixture(scope="session")
def formed_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    require_valkey()
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def valkey_cluster(formed_cluster: ValkeyCluster) -> Iterator[ValkeyCluster]:
    """One cluster for all tests, which may kill and pause its nodes and move slots: it is whole again afterwards."""
    yield formed_cluster
    formed_cluster.mend()


@pytest.fixture
def sessions(valkey_cluster: ValkeyCluster, request: pytest.FixtureRequest) -> ClusterSessions:
    return ClusterSessions(valkey_cluster, f"{request.node.name}:")


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of the test's own, which it may kill and pause."""
    require_valkey()
    with ValkeyServer(tmp_path) as server:
        yield server


@pytest.fixture
def relay(valkey: ValkeyServer) -> Iterator[Relay]:
    """In front of the server."""
    relay = Relay(valkey.port)
    relay.start()
    yield relay
    relay.close()


@pytest.fixture
async def start_store() -> AsyncIterator[StartStore]:
    async with AsyncExitStack() as stack:

        async def start(store: S) -> S:
            return await stack.enter_async_context(started(store))

        yield start


IN_VALKEY = [pytest.param(kind, marks=pytest.mark.process) for kind in ("redis", "cluster", "replicas")]


@pytest.fixture(params=["memory", "file", *IN_VALKEY])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], StateStore]:
    """Makes a store of each kind; those that one test makes are replicas of one store."""
    if request.param == "memory":
        memory = MemoryStore()
        return lambda: memory
    if request.param == "file":
        return lambda: FileStore(tmp_path / "sessions.db")
    if request.param in ("cluster", "replicas"):
        url = request.getfixturevalue("valkey_cluster").url
        count = int(request.param == "replicas")

        def opened() -> StateStore:
            store = open_store(f"{url}?prefix={request.node.originalname}{count}:&replicas={count}")
            assert store is not None
            return store

        return opened
    valkey: ValkeyServer = request.getfixturevalue("valkey")
    return lambda: RedisStore(valkey.url, prefix=f"{request.node.name}:")


@pytest.fixture
async def store(make_store: Callable[[], StateStore], start_store: StartStore) -> StateStore:
    return await start_store(make_store())
