"""What only the Redis store can get wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis import Redis

from service.errors import HetsynError, StateCorrupt, StoreUnavailable, StoreUnusable
from service.store.base import NO_REVISION, CommitResult, Stored
from service.store.record import read
from service.store.redis.server import RedisStore
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import is_problem, ok
from tests.support.clients.json_input import events
from tests.support.servers.in_process import HttpServer
from tests.support.servers.relay import Relay
from tests.support.stores.change import COMMITTED, FENCED, delete, put
from tests.support.stores.started_store import StartStore
from tests.support.stores.store_record import records
from tests.support.stores.valkey import ValkeyServer


async def test_a_server_that_is_away_is_unavailable_and_comes_back(
    own_valkey: ValkeyServer, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(own_valkey.url, timeout_s=60))
    assert await store.commit([put("a", NO_REVISION, 1, b"kept")]) == [COMMITTED]
    own_valkey.kill()
    (verdict,) = await store.commit([put("a", 1, 2)])
    (found,) = await store.load(["a"])
    assert isinstance(verdict, StoreUnavailable)
    assert isinstance(found, StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await store.health()
    own_valkey.start()
    assert await store.load(["a"]) == [Stored(1, b"kept")]
    # the restarted server has forgotten the script
    assert await store.commit([put("a", 1, 2, b"on"), put("b", NO_REVISION, 3)]) == [COMMITTED] * 2


async def test_a_paused_server_is_unavailable_and_what_it_does_late_is_compared(
    own_valkey: ValkeyServer, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(own_valkey.url, timeout_s=0.3))
    await store.commit([put("a", NO_REVISION, 1, b"one")])
    own_valkey.pause()
    (verdict,) = await store.commit([put("a", 1, 2, b"two")])
    (found,) = await store.load(["a"])
    assert isinstance(verdict, StoreUnavailable)
    assert isinstance(found, StoreUnavailable)
    own_valkey.resume()
    # no answer of before may be taken for one of these
    (now,) = await store.load(["a"])
    assert now in (Stored(1, b"one"), Stored(2, b"two"))
    (verdict,) = await store.commit([put("a", 1, 3, b"three")])
    (last,) = await store.load(["a"])
    assert last == (Stored(3, b"three") if verdict is COMMITTED else Stored(2, b"two"))


async def test_foreign_values_under_our_keys_are_reported_and_leave_the_others_of_a_batch(
    valkey: ValkeyServer, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(valkey.url, prefix="foreign:"))
    with Redis.from_url(valkey.url) as other:
        other.rpush("foreign:list", "x")
        other.set("foreign:short", "x")
        other.set("foreign:empty", "")
        other.set("foreign:zeros", bytes(9))
    of_list, of_short, empty, zeros = await store.load(["list", "short", "empty", "zeros"])
    assert isinstance(of_list, StateCorrupt)
    assert "is not a session record" in str(of_list)
    assert isinstance(of_short, Stored)
    with pytest.raises(StateCorrupt, match="not a session record"):
        read(of_short.record)
    assert empty is zeros is None
    names = ("a", "list", "short", "empty", "zeros", "b")
    changes = [put(session, NO_REVISION, n, b"ours") for n, session in enumerate(names, 1)]
    on_a, on_list, on_short, *others = await store.commit(changes)
    assert isinstance(on_list, StateCorrupt)
    assert [on_a, on_short, *others] == [COMMITTED, FENCED, COMMITTED, COMMITTED, COMMITTED]
    assert await records(store, "a", "empty", "zeros", "b") == [b"ours"] * 4
    assert await store.commit([delete("short", of_short.revision)]) == [COMMITTED]


async def test_a_session_whose_record_is_a_byte_is_deleted_at_the_door(
    valkey: ValkeyServer, models: Path, gate: Gate
) -> None:
    async with HttpServer(models, gate, store=RedisStore(valkey.url, prefix="door:")) as server:
        with Redis.from_url(valkey.url) as other:
            other.set("door:abc", "x")
        is_problem(await server.client.get("/sessions/abc"), 409, "not a session record")
        assert (await server.client.delete("/sessions/abc")).status_code == 204
        assert (await ok(server.client, session="abc", seq=0, input=events(25)))["seq"] == 0


async def test_a_batch_is_one_command_so_that_it_waits_for_the_disk_once(
    own_valkey: ValkeyServer, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(own_valkey.url))
    batch = [put(f"s{n}", NO_REVISION, n + 1, bytes(13_000)) for n in range(64)]
    assert await store.commit(batch) == [COMMITTED] * 64
    with Redis.from_url(own_valkey.url) as admin:
        assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


def through(relay: Relay, prefix: str) -> RedisStore:
    return RedisStore(f"redis://127.0.0.1:{relay.port}/0", timeout_s=60, prefix=prefix)


async def answer_lost(relay: Relay, sent: asyncio.Task[list[CommitResult | HetsynError]]) -> None:
    """Until the server has done what was sent and its answer has been thrown away."""
    lost = relay.answers_lost
    while relay.answers_lost == lost:
        assert not sent.done()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("is_new", [True, False])
async def test_a_commit_whose_answer_is_lost_is_found_to_be_done(
    relay: Relay, is_new: bool, start_store: StartStore
) -> None:
    """Sent again it meets its own revision. Fenced, it would be decided again, and without a number count twice."""
    prefix = f"lost-{is_new}:"
    store = await start_store(through(relay, prefix))
    if not is_new:
        await store.commit([put("a", NO_REVISION, 1, b"one"), put("b", NO_REVISION, 2, b"b")])
    else:
        await store.commit([put("other", NO_REVISION, 1)])
    relay.lose()
    changes = [put("a", NO_REVISION if is_new else 1, 5, b"five"), put("b", 7, 8, b"fenced")]
    sent = asyncio.create_task(store.commit(changes))
    await answer_lost(relay, sent)
    relay.cut()
    done, fenced = await sent
    assert done is COMMITTED
    assert isinstance(fenced, StoreUnavailable)  # it cannot be told from what follows
    assert await store.load(["a"]) == [Stored(5, b"five")]


async def test_a_commit_that_another_has_followed_is_unknown_after_its_answer_was_lost(
    valkey: ValkeyServer, relay: Relay, start_store: StartStore
) -> None:
    store = await start_store(through(relay, "followed:"))
    other = RedisStore(valkey.url, prefix="followed:")
    await store.commit([put("a", NO_REVISION, 1), put("b", NO_REVISION, 2)])
    relay.lose()
    sent = asyncio.create_task(store.commit([put("a", 1, 5, b"five"), delete("b", 2)]))
    await answer_lost(relay, sent)
    assert await other.commit([put("a", 5, 6, b"six"), put("b", NO_REVISION, 7)]) == [COMMITTED] * 2
    relay.cut()
    for verdict in await sent:
        assert isinstance(verdict, StoreUnavailable)
        assert "the session has changed since" in str(verdict)
    assert await records(store, "a", "b") == [b"six", b"record"]
    await other.close()


async def test_a_deletion_whose_answer_is_lost_is_done(relay: Relay, start_store: StartStore) -> None:
    store = await start_store(through(relay, "deleted:"))
    await store.commit([put("a", NO_REVISION, 1)])
    relay.lose()
    sent = asyncio.create_task(store.commit([delete("a", 1)]))
    await answer_lost(relay, sent)
    relay.cut()
    assert await sent == [COMMITTED]
    assert await store.load(["a"]) == [None]
    assert await store.commit([delete("a", 1)]) == [FENCED]  # nothing was lost this time


async def test_a_connection_that_has_gone_stale_is_made_again(relay: Relay, start_store: StartStore) -> None:
    store = await start_store(through(relay, "stale:"))
    await asyncio.gather(*(store.commit([put(f"s{n}", NO_REVISION, n + 1)]) for n in range(4)))
    assert relay.cut() > 1
    assert await store.load(["s0"]) == [Stored(1, b"record")]
    relay.cut()
    assert await store.commit([put("s0", 1, 9)]) == [COMMITTED]


@pytest.mark.parametrize("url", ["http://host", "redis://host:1/x", "redis://host:1/0/1", "redis://host:1/0?db=one"])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusable, match="not valid for Redis"):
        RedisStore(url)


async def test_a_task_that_is_cancelled_while_it_asks_the_store_ends(
    own_valkey: ValkeyServer, start_store: StartStore
) -> None:
    # with its own time limit, redis-py writes in a way that may lose a cancellation
    store = await start_store(RedisStore(f"{own_valkey.url}?socket_timeout=2"))

    async def ask_forever() -> None:
        while True:
            await store.health()

    for turns in range(200):
        task = asyncio.create_task(ask_forever())
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        task.cancel()
        assert await asyncio.wait([task], timeout=60) == ({task}, set()), "it goes on after it was cancelled"
    assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
