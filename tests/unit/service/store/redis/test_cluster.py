"""What only a store in a cluster can get wrong: keys that move, nodes that fail, writes that a failover loses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from redis import Redis

from service.errors import HetsynError, StateCorrupt, StoreFull, StoreUnavailable, StoreUnusable
from service.store.base import NO_REVISION, Change, CommitResult, Stored
from service.store.group_commit import GroupCommit
from service.store.url import open_store
from tests.support.stores.change import COMMITTED, FENCED, delete, put
from tests.support.stores.cluster_sessions import ClusterSessions
from tests.support.stores.started_store import StartStore
from tests.support.stores.valkey import ValkeyServer
from tests.support.stores.valkey_cluster import ValkeyCluster

Outcome = CommitResult | HetsynError


def commands_run(nodes: Iterable[ValkeyServer], name: str) -> list[int]:
    """How often each node has run a command."""
    counts = []
    for node in nodes:
        with Redis("127.0.0.1", node.port) as admin:
            counts.append(int(admin.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"]))
    return counts


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_batch_is_one_command_for_each_node(sessions: ClusterSessions, start_store: StartStore) -> None:
    store = await start_store(sessions.store())
    batch = [put(f"s{n}", NO_REVISION, n + 1, bytes(13_000)) for n in range(64)]
    nodes = sessions.cluster.primaries()
    before = commands_run(nodes, "evalsha")
    assert await store.commit(batch) == [COMMITTED] * 64
    assert [after - old for after, old in zip(commands_run(nodes, "evalsha"), before, strict=True)] == [1, 1, 1]
    assert await store.load([f"s{n}" for n in range(64)]) == [Stored(n + 1, bytes(13_000)) for n in range(64)]


async def test_slots_that_have_moved_are_found_without_an_error(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store = await start_store(sessions.store())
    source, target, _ = sessions.cluster.primaries()
    ids = sessions.on(source, 6)
    assert await store.commit([put(one, NO_REVISION, 1) for one in ids]) == [COMMITTED] * 6
    await asyncio.to_thread(sessions.cluster.move, [sessions.slot(one) for one in ids[:5]], target)
    assert await store.load(ids) == [Stored(1, b"record")] * 6
    back = [sessions.slot(one) for one in ids[:5]]
    await asyncio.to_thread(sessions.cluster.move, back, source)
    # the store knows the addresses of before; the change of one session is fenced, there as here
    changes = [put(one, 1 if n else 7, 2, b"two") for n, one in enumerate(ids)]
    assert await store.commit(changes) == [FENCED, *[COMMITTED] * 5]
    assert await store.load(ids) == [Stored(1, b"record"), *[Stored(2, b"two")] * 5]


@pytest.mark.parametrize("replicas", [0, 1])
async def test_sessions_are_loaded_and_changed_while_their_slot_is_on_the_way(
    sessions: ClusterSessions, start_store: StartStore, replicas: int
) -> None:
    store = await start_store(sessions.store(replicas=replicas))
    source, target, _ = sessions.cluster.primaries()
    other, *_ = sessions.on(source, 1)
    slot = sessions.slot(other)
    ids = sessions.in_slot(slot, 25)
    revision = 1
    assert await store.commit([put(one, NO_REVISION, 1) for one in [*ids, other]]) == [COMMITTED] * 26
    steps: Iterator[str] = sessions.cluster.moving(slot, target)
    seen = []
    while (step := await asyncio.to_thread(next, steps, "over")) != "over":
        seen.append(step)
        assert await store.load([*ids, other, "absent"]) == [*[Stored(revision, b"record")] * 26, None]
        changes = [put(one, revision, revision + 1) for one in [*ids, other]]
        begun = put(f"{ids[0]}-begun-{len(seen)}", NO_REVISION, 5)
        deleted = delete(begun.session, 5)
        assert await store.commit([*changes, begun, put("wrong", 9, 10)]) == [*[COMMITTED] * 27, FENCED]
        assert await store.commit([deleted]) == [COMMITTED]
        revision += 1
    assert seen == ["begun", "moved", "moved", "moved", "done"]
    assert await store.load([*ids, other]) == [Stored(revision, b"record")] * 26


async def test_a_node_that_is_down_fails_its_own_sessions_and_its_replica_takes_over(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store = await start_store(sessions.store())
    primaries = sessions.cluster.primaries()
    one, *others = [sessions.on(node, 1)[0] for node in primaries]
    assert await store.commit([put(name, NO_REVISION, 1) for name in (one, *others)]) == [COMMITTED] * 3
    await until(lambda: all(sessions.cluster.is_replicated(node) for node in primaries))
    primaries[0].kill()
    down, *well = await store.commit([put(name, 1, 2) for name in (one, *others)])
    assert isinstance(down, StoreUnavailable)
    assert well == [COMMITTED] * 2
    await store.health()  # the others go on
    await asyncio.to_thread(sessions.cluster.taken_over, primaries[0])
    results: list[Outcome] = []

    async def again() -> bool:
        results[:] = await store.commit([put(name, old, 3) for name, old in ((one, 1), (others[0], 2))])
        return not isinstance(results[0], StoreUnavailable)

    async with asyncio.timeout(60):
        while not await again():
            await store.commit([put(others[0], 3, 2)])  # each node of its own
            await asyncio.sleep(0.05)
    assert results == [COMMITTED, COMMITTED]
    assert await store.load([one, others[0]]) == [Stored(3, b"record")] * 2


async def test_a_node_that_hangs_delays_no_session_of_another(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store = await start_store(sessions.store(timeout_s=3.0))
    primaries = sessions.cluster.primaries()
    hung, well = sessions.on(primaries[0], 1)[0], sessions.on(primaries[1], 1)[0]
    commits: GroupCommit[Change, CommitResult] = GroupCommit(store.commit, store.lane, timeout_s=3.0)

    def commit(change: Change) -> asyncio.Future[CommitResult]:
        return commits.request(change.session, change)

    assert await commit(put(well, NO_REVISION, 1)) is COMMITTED
    primaries[0].pause()
    began_s = time.monotonic()
    waiting = commit(put(hung, NO_REVISION, 1))
    await asyncio.sleep(0)
    for revision in range(1, 20):
        assert await commit(put(well, revision, revision + 1)) is COMMITTED
    assert not waiting.done()
    with pytest.raises(StoreUnavailable, match=r"did not answer within 3 s"):
        await waiting
    assert time.monotonic() - began_s < 30
    primaries[0].resume()


async def test_no_call_waits_longer_than_its_time_if_no_node_answers(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store = await start_store(sessions.store(timeout_s=0.3))
    for node in sessions.cluster.nodes:
        node.pause()
    for _ in range(2):
        began_s = time.monotonic()
        (found,) = await store.load(["a"])
        (verdict,) = await store.commit([put("a", NO_REVISION, 1)])
        assert isinstance(found, StoreUnavailable)
        assert isinstance(verdict, StoreUnavailable)
        assert time.monotonic() - began_s < 30
    fresh = sessions.store(timeout_s=0.3)
    (found,) = await fresh.load(["a"])
    assert isinstance(found, StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await fresh.health()
    await fresh.close()


async def test_what_too_few_replicas_have_is_neither_acknowledged_nor_told(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store = await start_store(sessions.store(replicas=1, timeout_s=2.0))
    first, second, _ = sessions.cluster.primaries()
    alone, well = sessions.on(first, 1)[0], sessions.on(second, 1)[0]
    assert await store.commit([put(alone, NO_REVISION, 1), put(well, NO_REVISION, 1)]) == [COMMITTED] * 2
    replica = sessions.cluster.replica_of(first)
    replica.pause()
    refused, taken = await store.commit([put(alone, 1, 2), put(well, 1, 2)])
    assert isinstance(refused, StoreUnavailable)
    assert "fewer than 1 replicas" in str(refused)
    assert taken is COMMITTED
    # the primary has it: a server that loaded it would answer the chunk with the stored reply
    unknown, known = await store.load([alone, well])
    assert isinstance(unknown, StoreUnavailable)
    assert known == Stored(2, b"record")
    fenced, *_ = await store.commit([put(alone, 1, 3)])
    assert fenced is FENCED  # by what is not confirmed yet: the load that follows waits for it
    replica.resume()
    assert await store.load([alone]) == [Stored(2, b"record")]


async def test_what_is_repeated_because_its_answer_was_lost_is_not_acknowledged_before_replicas_have_it(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store, repeats = [await start_store(sessions.store(replicas=1, timeout_s=2.0)) for _ in range(2)]
    primary = sessions.cluster.primaries()[0]
    alone, gone = sessions.on(primary, 2)
    assert await store.commit([put(alone, NO_REVISION, 1), put(gone, NO_REVISION, 1)]) == [COMMITTED] * 2
    replica = sessions.cluster.replica_of(primary)
    replica.pause()
    for change in (put(alone, 1, 2), delete(gone, 1)):
        for one in (store, repeats):  # the second's connection has written nothing that a replica lacks
            (refused,) = await one.commit([change])
            assert isinstance(refused, StoreUnavailable)
    replica.resume()
    assert await store.load([alone, gone]) == [Stored(2, b"record"), None]


async def test_what_is_repeated_and_cannot_be_confirmed_is_not_acknowledged(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store, repeats = [await start_store(sessions.store(replicas=1, timeout_s=2.0)) for _ in range(2)]
    primary = sessions.cluster.primaries()[0]
    alone, gone = sessions.on(primary, 2)
    changes = [put(alone, 1, 2), delete(gone, 1)]
    assert await store.commit([put(alone, NO_REVISION, 1), put(gone, NO_REVISION, 1)]) == [COMMITTED] * 2
    assert await store.commit(changes) == [COMMITTED] * 2
    with Redis("127.0.0.1", primary.port) as admin:
        admin.config_set("min-replicas-to-write", "2")
        try:
            assert [type(one) for one in await repeats.commit(changes)] == [StoreUnavailable] * 2
        finally:
            admin.config_set("min-replicas-to-write", "0")
        # it reads, but writes nothing: the repeat is found to be done, and nobody knows whether replicas have it
        admin.acl_setuser("default", enabled=True, commands=["-append", "-set", "-del"])
        try:
            assert [type(one) for one in await repeats.commit(changes)] == [StoreUnavailable] * 2
        finally:
            admin.acl_setuser("default", enabled=True, commands=["+append", "+set", "+del"])
    assert await store.load([alone, gone]) == [Stored(2, b"record"), None]


async def test_keys_of_sessions_are_all_that_the_store_touches(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    ids = [sessions.on(primary, 1)[0] for primary in sessions.cluster.primaries()]
    admins = [Redis("127.0.0.1", node.port) for node in sessions.cluster.primaries()]
    try:
        for admin in admins:
            admin.acl_setuser("default", enabled=True, reset_keys=True, keys=[sessions.prefix + "*"])
        store = await start_store(sessions.store(replicas=1))
        await store.health()
        assert await store.load(ids) == [None] * 3
        assert await store.commit([put(one, NO_REVISION, 1) for one in ids]) == [COMMITTED] * 3
        assert await store.load(ids) == [Stored(1, b"record")] * 3
        assert await store.commit([delete(one, 1) for one in ids]) == [COMMITTED] * 3
    finally:
        for admin in admins:
            admin.acl_setuser("default", enabled=True, keys=["*"])
            admin.close()


async def test_stale_connections_and_lost_scripts_are_made_good(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store = await start_store(sessions.store())
    ids = [sessions.on(node, 1)[0] for node in sessions.cluster.primaries()]
    assert await store.commit([put(one, NO_REVISION, 1) for one in ids]) == [COMMITTED] * 3
    for node in sessions.cluster.primaries():
        with Redis("127.0.0.1", node.port) as admin:
            admin.script_flush()
            admin.client_kill_filter(_type="normal", skipme=True)
    assert await store.commit([put(one, 1, 2) for one in ids]) == [COMMITTED] * 3
    assert await store.load(ids) == [Stored(2, b"record")] * 3


async def test_a_full_node_takes_deletions_and_the_others_take_all(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store = await start_store(sessions.store())
    first, second, _ = sessions.cluster.primaries()
    kept, gone = sessions.on(first, 2)
    well = sessions.on(second, 1)[0]
    assert await store.commit([put(one, NO_REVISION, 1) for one in (kept, gone, well)]) == [COMMITTED] * 3
    with Redis("127.0.0.1", first.port) as admin:
        admin.config_set("maxmemory", "1")
        try:
            full, deleted, taken = await store.commit([put(kept, 1, 2), delete(gone, 1), put(well, 1, 2)])
            await store.health()
        finally:
            admin.config_set("maxmemory", "0")
    assert isinstance(full, StoreFull)
    assert [deleted, taken] == [COMMITTED, COMMITTED]
    assert await store.load([kept, gone, well]) == [Stored(1, b"record"), None, Stored(2, b"record")]


async def test_what_is_no_record_fails_alone(sessions: ClusterSessions, start_store: StartStore) -> None:
    store = await start_store(sessions.store())
    node = sessions.cluster.primaries()[0]
    foreign, own, short = sessions.on(node, 3)
    with Redis("127.0.0.1", node.port) as other:
        other.rpush(sessions.prefix + foreign, "x")
        other.set(sessions.prefix + short, "x")
    on_list, on_own = await store.commit([put(foreign, NO_REVISION, 1), put(own, NO_REVISION, 1)])
    assert isinstance(on_list, StateCorrupt)
    assert on_own is COMMITTED
    (on_short,) = await store.load([short])
    assert isinstance(on_short, Stored)
    assert await store.commit([delete(short, on_short.revision)]) == [COMMITTED]


async def test_a_node_that_drops_sessions_makes_the_store_unusable(
    sessions: ClusterSessions, start_store: StartStore
) -> None:
    store = await start_store(sessions.store())
    port = sessions.cluster.primaries()[2].port
    with Redis("127.0.0.1", port) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(StoreUnusable, match=rf"policy \(127.0.0.1:{port}\) is 'allkeys-lru'"):
                await store.health()
        finally:
            admin.config_set("maxmemory-policy", "noeviction")
    await store.health()


async def test_missing_replicas_are_said(
    sessions: ClusterSessions, start_store: StartStore, caplog: pytest.LogCaptureFixture
) -> None:
    store = await start_store(sessions.store(replicas=2))
    await store.health()
    said = {record.getMessage() for record in caplog.records}
    primaries = [f"127.0.0.1:{primary.port}" for primary in sessions.cluster.primaries()]
    sentence = "fewer than the 2 that must have a chunk before it is answered: its chunks get 503 until another replica"
    assert said == {f"the store ({primary}) has 1 replicas, {sentence} is connected" for primary in primaries}


async def test_each_kind_of_store_says_when_its_server_is_of_the_other(
    valkey: ValkeyServer, valkey_cluster: ValkeyCluster
) -> None:
    single = open_store(valkey.url.replace("redis://", "valkey-cluster://").removesuffix("0"))
    node = open_store(f"valkey://127.0.0.1:{valkey_cluster.nodes[0].port}")
    assert single is not None
    assert node is not None
    with pytest.raises(StoreUnusable, match="not a cluster: write valkey://"):
        await single.start()
    with pytest.raises(StoreUnusable, match="write valkey-cluster://"):
        await node.start()
    await single.close()
    await node.close()
