"""Sessions that the server drops: each is counted and reported once, with its reason."""

from __future__ import annotations

from service.errors import HetsynError, NotFound
from service.observe.drops import Drop
from tests.support.servers.in_process import DirectServer, ServeDirect
from tests.support.stores.cluster import MakeCluster


def drops_of(server: DirectServer) -> list[Drop]:
    """The list to which the server's drops are added from now on."""
    drops: list[Drop] = []
    server.counters.on_drop = drops.append
    return drops


async def test_idle_and_old_sessions(serve: ServeDirect) -> None:
    server = serve(session_idle_s=60, session_age_s=150)
    drops = drops_of(server)
    await server.send("idle", 0)
    await server.send("old", 0)
    for seq in range(1, 4):
        server.clock.now_s += 50
        if seq < 3:
            await server.send("old", seq, seed=seq)
        await server.sweep()
    model = server.parts.catalog.get("digits")
    assert drops == [
        Drop("idle", "idle", "digits", model.version, 1, 100.0, 100.0),
        Drop("old", "age", "digits", model.version, 3, 150.0, 50.0),
    ]
    assert server.counters.sessions_dropped_by == {"idle": 1, "age": 1}


async def test_sessions_that_make_room_for_another(serve: ServeDirect) -> None:
    server = serve(max_sessions=1, first_chunk_idle_s=60)
    drops = drops_of(server)
    await server.send("a", 0)
    server.clock.now_s += 61
    await server.send("b", 0)
    assert [(drop.session, drop.reason, drop.chunks) for drop in drops] == [("a", "limit", 1)]


async def test_sessions_that_make_room_for_bytes(serve: ServeDirect) -> None:
    server = serve(max_session_bytes=100_000, first_chunk_idle_s=60)
    drops = drops_of(server)
    count = 0
    try:
        while True:
            await server.send(f"s{count}", 0)
            count += 1
    except HetsynError:
        server.clock.now_s += 61
    await server.send("another", 0)
    assert count > 1
    assert {(drop.session, drop.reason) for drop in drops} == {("s0", "memory")}


async def test_a_session_that_ends_or_is_deleted_is_not_dropped(serve: ServeDirect) -> None:
    server = serve(ended_keep_s=10)
    drops = drops_of(server)
    await server.send("ended", 0, end=True)
    await server.send("deleted", 0)
    await server.registry.delete("deleted")
    server.clock.now_s += 100_000
    await server.sweep()
    assert drops == []


async def test_one_replica_reports_what_all_of_them_drop(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    replicas = [cluster.replica(), cluster.replica()]
    drops = [drops_of(server) for server in replicas]
    await replicas[0].send("a", 0)
    await replicas[1].send("a", 1, seed=1)
    cluster.clock.now_s += 61
    for server in replicas:
        await server.sweep()
    (drop,) = drops[0] + drops[1]
    assert (drop.session, drop.reason, drop.chunks) == ("a", "idle", 2)


async def test_a_session_that_the_store_has_lost(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    server = cluster.replica()
    drops = drops_of(server)
    await server.send("a", 0)
    cluster.memory._rows.clear()
    await server.refused(NotFound, "begins with seq 0", "a", 1)
    assert drops == [Drop("a", "missing")]


async def test_sessions_by_age(serve: ServeDirect) -> None:
    server = serve(session_idle_s=10_000, max_sessions=10)
    await server.send("old", 0)
    await server.send("ended", 0, end=True)
    server.clock.now_s += 61
    await server.send("new", 0)
    await server.sweep()
    assert dict(server.registry.sessions.quota.ages.by_name()) == {
        "<1m": 1, "1m-10m": 1, "10m-1h": 0, "1h-6h": 0, "6h-1d": 0, ">1d": 0,
    }  # fmt: skip
