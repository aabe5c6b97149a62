"""The settings, the role and the clock of a Valkey server, which may change while our servers run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.errors import StoreFull, StoreUnavailable, StoreUnusable
from service.store.base import NO_REVISION, StateStore, Stored
from service.store.redis.server import RedisStore
from tests.support.stores.change import COMMITTED, delete, put
from tests.support.stores.started_store import StartStore, started
from tests.support.stores.valkey import ValkeyServer
from tests.support.tools import require_valkey


@pytest.fixture
def admin(own_valkey: ValkeyServer) -> Iterator[Redis]:
    with Redis.from_url(own_valkey.url) as client:
        yield client


async def assert_refused(store: StateStore, sentence: str) -> None:
    (verdict,) = await store.commit([put("refused", NO_REVISION, 1)])
    (found,) = await store.load(["a"])
    for answer in (verdict, found):
        assert isinstance(answer, StoreUnusable)
        assert sentence in str(answer)


async def test_a_policy_that_is_set_later_is_noticed_by_the_next_check(
    own_valkey: ValkeyServer, admin: Redis, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(own_valkey.url))
    assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
    admin.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StoreUnusable, match="'allkeys-lru'"):
        await store.health()
    await assert_refused(store, "set it to noeviction")
    admin.config_set("maxmemory-policy", "noeviction")
    # no restart and no sweep is needed: nothing was changed meanwhile
    assert await store.load(["a", "refused"]) == [Stored(1, b"record"), None]
    await store.health()


@pytest.mark.process
async def test_a_server_that_was_down_at_the_start_is_checked_before_it_is_used(tmp_path: Path) -> None:
    require_valkey()
    server = ValkeyServer(tmp_path, "--maxmemory-policy", "allkeys-lru")
    store = RedisStore(server.url)
    with pytest.raises(StoreUnavailable):
        await store.start()
    with server:
        await assert_refused(store, "drops sessions")
        with Redis.from_url(server.url) as admin:
            admin.config_set("maxmemory-policy", "noeviction")
            assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
            assert admin.keys() == [b"hetsyn:session:a"]
    await store.close()


@pytest.mark.process
async def test_a_server_that_comes_back_with_other_settings_is_checked_again(tmp_path: Path) -> None:
    require_valkey()
    with ValkeyServer(tmp_path) as server:
        async with started(RedisStore(server.url)) as store:
            assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
            server.kill()
            with ValkeyServer(tmp_path, "--maxmemory-policy", "volatile-ttl", port=server.port):
                await assert_refused(store, "'volatile-ttl'")


async def test_a_replica_is_refused_at_the_start_and_with_a_sentence(own_valkey: ValkeyServer, tmp_path: Path) -> None:
    folder = tmp_path / "replica"
    folder.mkdir()
    with ValkeyServer(folder, "--replicaof", f"127.0.0.1 {own_valkey.port}") as replica:
        store = RedisStore(replica.url)
        with pytest.raises(StoreUnusable, match=r"read-only replica.*name its primary"):
            await store.start()
        await assert_refused(store, "promote it")
        replica.command("REPLICAOF", "NO", "ONE")
        assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
        await store.close()


async def test_a_primary_that_becomes_a_replica_is_noticed_at_the_first_change_that_it_refuses(
    own_valkey: ValkeyServer, admin: Redis, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(own_valkey.url))
    assert await store.commit([put("a", NO_REVISION, 1)]) == [COMMITTED]
    admin.replicaof("127.0.0.1", "1")
    (refused,) = await store.commit([put("a", 1, 2)])
    assert isinstance(refused, StoreUnusable)
    await assert_refused(store, "read-only replica")
    admin.replicaof("NO", "ONE")
    assert await store.load(["a"]) == [Stored(1, b"record")]
    assert await store.commit([put("a", 1, 2)]) == [COMMITTED]


async def test_a_full_server_says_so_and_takes_deletions(
    own_valkey: ValkeyServer, admin: Redis, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(own_valkey.url))
    assert await store.commit([put("a", NO_REVISION, 1), put("b", NO_REVISION, 2)]) == [COMMITTED] * 2
    admin.config_set("maxmemory", "1")
    (refused,) = await store.commit([put("a", 1, 3)])
    assert isinstance(refused, StoreFull)
    assert all(part in str(refused) for part in ("maxmemory", "end or delete sessions"))
    assert await store.load(["a"]) == [Stored(1, b"record")]
    await store.health()
    assert await store.commit([delete("b", 2)]) == [COMMITTED]
    admin.config_set("maxmemory", "0")
    assert await store.commit([put("a", 1, 3)]) == [COMMITTED]


async def test_a_server_that_takes_no_changes_is_not_well(
    own_valkey: ValkeyServer, admin: Redis, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(own_valkey.url))
    admin.config_set("min-replicas-to-write", "1")
    with pytest.raises(StoreUnusable, match=r"takes no changes .*NOREPLICAS"):
        await store.health()


async def test_an_append_only_file_that_is_switched_off_is_said_once(
    own_valkey: ValkeyServer, admin: Redis, caplog: pytest.LogCaptureFixture, start_store: StartStore
) -> None:
    store = await start_store(RedisStore(own_valkey.url))
    await store.health()
    assert not caplog.records
    for _ in range(2):
        admin.config_set("appendonly", "no")
        await store.health()
        await store.health()
        admin.config_set("appendonly", "yes")
        await store.health()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "set appendonly to yes and appendfsync to always" in caplog.text


async def test_clocks_that_are_apart_are_warned_of_once(
    own_valkey: ValkeyServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    start_store: StartStore,
) -> None:
    store = await start_store(RedisStore(own_valkey.url))
    assert not caplog.records
    now_s = time.time()
    monkeypatch.setattr("service.store.redis.server.time.time", lambda: now_s - 700)
    for _ in range(2):
        await store.health()
    (record,) = caplog.records
    assert "700 s ahead of this machine's" in record.getMessage()
