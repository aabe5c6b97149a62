"""How long replicas and their store keep a session, and how much of it they keep in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.errors import NotFound, Overloaded, SessionEnded
from tests.support.artifacts.artifact import write_artifact
from tests.support.servers.in_process import session_store
from tests.support.stores.cluster import Cluster, MakeCluster


async def test_time_is_judged_by_the_record_and_alike_everywhere(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()
    await one.send("a", 0)
    cluster.clock.now_s += 59
    await two.send("a", 1, seed=1)
    cluster.clock.now_s += 59
    await one.send("a", 2, seed=2)
    cluster.clock.now_s += 60
    for server in (one, two):
        for seq in (None, 3):
            await server.refused(NotFound, "has expired", "a", seq)
        with pytest.raises(NotFound):
            await server.registry.describe("a")
        with pytest.raises(NotFound):
            await server.registry.delete("a")
    assert (await two.send("a", 0)).seq == 0


async def test_a_session_is_dropped_at_its_age(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()
    for n in range(20):
        await (one, two)[n % 2].send("a", n, seed=n)
        cluster.clock.now_s += 50
    await one.refused(NotFound, "has expired", "a", 20)
    await two.refused(NotFound, "has expired", "a", None)


async def test_an_ended_session_is_forgotten_after_a_while(cluster: Cluster) -> None:
    one, two = cluster.replica(), cluster.replica()
    last = await one.send("a", 0, end=True)
    cluster.clock.now_s += 9
    assert await two.send("a", 0, end=True) == last
    await two.refused(SessionEnded, "has ended", "a", 1)
    described = await two.registry.describe("a")
    assert (described["ended"], described["state_bytes"]) == (True, 0)
    cluster.clock.now_s += 1
    with pytest.raises(NotFound):
        await two.registry.describe("a")
    assert not (await two.send("a", 0)).end


async def test_a_forgotten_session_does_not_fix_the_model_of_the_next(models: Path, make_cluster: MakeCluster) -> None:
    write_artifact(models, version="2")
    cluster = make_cluster(session_age_s=30)
    server = cluster.replica()
    await server.send("a", 0, version="1")
    cluster.clock.now_s += 30
    assert await cluster.record("a") is not None
    assert (await server.send("a", 0, version="2")).version == "2"


async def test_the_sweep_deletes_the_record_of_a_dropped_session(cluster: Cluster) -> None:
    server = cluster.replica()
    await server.send("a", 0)
    cluster.clock.now_s += 61
    await server.sweep()
    assert await cluster.record("a") is None
    assert server.registry.sessions.open == 0
    await server.refused(NotFound, "has expired", "a", 1)
    assert server.counters.sessions_dropped == 1


async def test_a_sweep_does_not_put_all_that_is_over_before_the_chunks(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.registry.entries.SLICE", 10)
    cluster = make_cluster(max_sessions=100, sweep_interval_s=0.001)
    server = cluster.replica()
    for n in range(60):
        await server.send(f"s{n}", 0)
    cluster.clock.now_s += 61
    cluster.store.entered.clear()
    cluster.store.opened.clear()
    cluster.store.batches.clear()
    sweeping = asyncio.create_task(server.registry.sweep_forever(0.001))
    await cluster.store.entered.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    chunk = asyncio.create_task(server.send("new", 0))
    await server.entered()
    assert len(session_store(server)._drops) <= 10
    cluster.store.opened.set()
    assert (await chunk).seq == 0
    while server.counters.sessions_dropped < 60:
        await asyncio.sleep(0.001)
    sweeping.cancel()


async def test_memory_is_bounded_and_the_store_is_not(cluster: Cluster) -> None:
    server = cluster.replica()
    for n in range(10):
        await server.send(f"s{n}", 0)
        assert server.registry.sessions.open <= 3
    assert (await server.send("s0", 1, seed=1)).seq == 1
    server.gate.opened.clear()
    running = [asyncio.create_task(server.send(f"s{n}", 1, seed=1)) for n in (7, 8, 9)]
    for _ in range(3):
        await server.entered()
    await server.refused(Overloaded, "all sessions that have room in memory are in use", "s1", 1)
    server.gate.opened.set()
    await asyncio.gather(*running)


async def test_memory_lets_go_the_least_recently_used_session(cluster: Cluster) -> None:
    server = cluster.replica()
    for name in "abc":
        await server.send(name, 0)
    await server.send("a", 1, seed=1)
    await server.send("d", 0)  # one more than there may be
    assert cluster.store.loads == 0
    for name, seq, loads in (("a", 2, 0), ("b", 1, 1)):
        await server.send(name, seq, seed=seq)
        assert cluster.store.loads == loads


async def test_memory_is_bounded_by_bytes_and_the_store_keeps_the_sessions(make_cluster: MakeCluster) -> None:
    alone = make_cluster().replica()
    await alone.send("s0", 0)
    size = alone.registry.sessions.bytes
    assert size > (await alone.registry.describe("s0"))["state_bytes"]
    server = make_cluster(max_sessions=100, max_session_bytes=3 * size + 100).replica()
    sessions = server.registry.sessions
    for n in range(10):
        await server.send(f"s{n}", 0)
        assert sessions.bytes <= 3 * size + 100
    assert sessions.open == 3
    for n in range(10):
        assert (await server.send(f"s{n}", 1, seed=1)).seq == 1
        assert sessions.bytes <= 3 * size + 100
    await server.send("s9", 2, seed=2, end=True)
    for n in range(9):
        await server.registry.delete(f"s{n}")
    assert (sessions.open, sessions.bytes) == (0, 0)
