"""What clients and balancers see of a store that is full, has lost its file, or would lose sessions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from redis import Redis

from service.registry.registry import SessionRegistry
from service.store.file import FileStore
from service.store.redis.server import RedisStore
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import is_problem, metric, ok
from tests.support.clients.json_input import Json, events
from tests.support.servers.in_process import HttpServer
from tests.support.stores.small_disk import small_disk
from tests.support.stores.valkey import ValkeyServer
from tests.support.tools import require_valkey

SWEEP_S = 0.01


def chunk(session: str, seq: int, *, end: bool = False) -> Json:
    return {"session": session, "seq": seq, "input": events(25, seq), "end": end}


async def until_ready(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """The answer of ``/health/ready`` as soon as it has this status."""
    while (answer := await client.get("/health/ready")).status_code != status:
        await asyncio.sleep(SWEEP_S)
    return answer


async def test_a_deleted_file_is_noticed_by_a_sweep_without_any_request(
    tmp_path: Path, models: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    async with HttpServer(models, gate, store=FileStore(path), sweep_interval_s=SWEEP_S) as server:
        client = server.client
        await ok(client, **chunk("abc", 0))
        assert (await client.get("/health/ready")).status_code == 200
        path.unlink()
        problem = is_problem(await until_ready(client, 503), 503, "was deleted or replaced while the server had it")
        assert problem["type"].endswith("store-unusable")
        assert metric((await client.get("/metrics")).text, "hetsyn_ready") == 0
        for seq in (0, 1):
            refused = is_problem(await client.post("/infer", json=chunk("abc", seq)), 503, "start them again")
            assert refused["type"].endswith("store-unusable")
        is_problem(await client.get("/sessions/abc"), 503, "was deleted")
        path.touch()  # another file does not help
        assert (await client.post("/infer", json=chunk("new", 0))).status_code == 503
    assert caplog.text.count("/health/ready says 503") == 1


async def test_a_disk_full_of_sessions_is_shown_and_they_end_on_it(tmp_path: Path, models: Path, gate: Gate) -> None:
    with small_disk(tmp_path / "disk", 2 * 1024 * 1024) as disk:
        store = FileStore(disk / "s.db")
        async with HttpServer(models, gate, store=store) as server:
            client = server.client
            assert (await client.get("/health/ready")).json() == {"status": "ready"}
            names = [f"s{n}" for n in range(60)]
            for name in names:
                await ok(client, **chunk(name, 0))
            while (answer := await client.post("/infer", json=chunk(f"s{len(names)}", 0))).status_code == 200:
                names.append(f"s{len(names)}")
            problem = is_problem(answer, 503, "has no room")
            assert problem["type"].endswith("store-full")
            assert "Retry-After" in answer.headers
            # its clients can still make room, so it stays in rotation
            assert "has no room" in (await client.get("/health/ready")).json()["detail"]
            assert (await client.delete(f"/sessions/{names[0]}")).status_code == 204
            await ok(client, **chunk(names[1], 1, end=True))
            await ok(client, **chunk(names[2], 1))
            for name in names[3:53]:
                assert (await client.delete(f"/sessions/{name}")).status_code == 204
            await ok(client, **chunk("new", 0))
            await sweep(server)
            assert (await client.get("/health/ready")).json() == {"status": "ready"}
            for name in names[53::20]:  # some 80 of them
                assert (await client.get(f"/sessions/{name}")).json()["expected_seq"] == 1


@pytest.mark.process
async def test_a_store_that_begins_to_evict_gets_no_more_chunks(tmp_path: Path, models: Path, gate: Gate) -> None:
    require_valkey()
    with ValkeyServer(tmp_path) as valkey, Redis.from_url(valkey.url) as admin:
        async with HttpServer(models, gate, store=RedisStore(valkey.url), sweep_interval_s=SWEEP_S) as server:
            client = server.client
            await ok(client, **chunk("abc", 0))
            admin.config_set("maxmemory-policy", "allkeys-lru")
            await until_ready(client, 503)
            refused = await client.post("/infer", json=chunk("abc", 1))
            assert is_problem(refused, 503, "set it to noeviction")["type"].endswith("store-unusable")
            assert "Retry-After" in refused.headers
            admin.config_set("maxmemory-policy", "noeviction")
            await until_ready(client, 200)
            await ok(client, **chunk("abc", 1))


@pytest.mark.process
async def test_a_primary_that_becomes_a_replica_makes_the_server_unready_at_once(
    tmp_path: Path, models: Path, gate: Gate
) -> None:
    require_valkey()
    with ValkeyServer(tmp_path) as valkey, Redis.from_url(valkey.url) as admin:
        async with HttpServer(models, gate, store=RedisStore(valkey.url), sweep_interval_s=3_600) as server:
            client = server.client
            await ok(client, **chunk("abc", 0))
            assert (await client.get("/health/ready")).status_code == 200
            admin.replicaof("127.0.0.1", "1")
            is_problem(await client.post("/infer", json=chunk("abc", 1)), 503, "read-only replica")
            is_problem(await client.get("/health/ready"), 503, "read-only replica")


async def sweep(server: HttpServer) -> None:
    registry: SessionRegistry = server.app.state.server.registry
    await registry._sweep(0.0)
