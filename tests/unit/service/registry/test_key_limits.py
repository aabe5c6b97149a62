"""How many sessions of a key there may be, in memory and with a store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.errors import KeyLimitReached
from service.models.catalog import ModelCatalog
from service.settings import AccessSettings
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.gate import Gate
from tests.support.clock import Clock
from tests.support.servers.in_process import DirectServer
from tests.support.servers.keyed import add_key
from tests.support.stores.cluster import MakeCluster
from tests.support.stores.memory_store import MemoryStore


@pytest.mark.parametrize("has_store", [False, True])
async def test_sessions_of_a_key_count_until_they_end_or_idle(models: Path, tmp_path: Path, has_store: bool) -> None:
    path, clock = tmp_path / "keys.json", Clock(1_000_000.0)
    add_key(path, "alice", max_sessions=2)
    add_key(path, "carol")
    server = DirectServer(
        ModelCatalog(with_default(models, "digits"), load=load_fake),
        Gate(),
        store=MemoryStore(clock) if has_store else None,
        clock=clock,
        session_idle_s=60,
        max_sessions=100,
        access=AccessSettings(keys=path),
    )

    async def send(key: str, session: str, seq: int, *, end: bool = False) -> None:
        await server.send(f"{key}/{session}", seq, client=key, end=end)

    results = await asyncio.gather(*(send("alice", name, 0, end=False) for name in "abc"), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), type(None), KeyLimitReached]
    await server.registry.delete("alice/b")
    clock.now_s += 30
    await send("alice", "b", 0)
    await send("alice", "a", 1)
    with pytest.raises(KeyLimitReached, match="2 sessions of key 'alice' are open: end some, or try again in 60 s"):
        await send("alice", "c", 0)
    for number in range(9):
        await send("carol", str(number), 0)
    await send("alice", "b", 1, end=True)
    await send("alice", "c", 0)
    await server.registry.delete("alice/c")
    await send("alice", "d", 0)
    clock.now_s += 61
    await send("alice", "e", 0)
    await send("alice", "f", 0)
    with pytest.raises(KeyLimitReached, match="2 sessions of key 'alice' are open"):
        await send("alice", "g", 0)
    await server.close()


async def test_a_session_that_another_server_has_ended_takes_no_place_of_its_key(
    tmp_path: Path, make_cluster: MakeCluster
) -> None:
    path = tmp_path / "keys.json"
    add_key(path, "alice", max_sessions=2)
    cluster = make_cluster(access=AccessSettings(keys=path), max_sessions=100)
    here, there = cluster.replica(), cluster.replica()
    for session in ("alice/a", "alice/b"):
        await here.send(session, 0, client="alice")
    with pytest.raises(KeyLimitReached):
        await here.send("alice/c", 0, client="alice")
    await there.send("alice/a", 1, client="alice", end=True)
    await there.registry.delete("alice/b")
    cluster.clock.now_s += 1  # the store is asked once a second
    await asyncio.gather(*(here.send(f"alice/{name}", 0, client="alice") for name in "cd"))
    with pytest.raises(KeyLimitReached, match="2 sessions of key 'alice' are open"):
        await here.send("alice/e", 0, client="alice")
    first = await there.send("alice/e", 0, client="alice")
    assert await here.send("alice/e", 0, client="alice") == first, "a retry begins no session"
    content = await there.transfer.export_state("alice/e")
    with pytest.raises(KeyLimitReached):
        await here.transfer.import_state("alice/f", content, replace_it=False)
    await there.registry.delete("alice/c")
    await there.registry.delete("alice/e")
    cluster.clock.now_s += 1
    await here.transfer.import_state("alice/f", content, replace_it=False)
