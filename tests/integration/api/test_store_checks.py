"""What clients and balancers see of a store that is full, has lost its file, or would lose sessions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from redis import Redis

from service.registry.registry import SessionRegistry
from service.store.file import FileStore
from service.store.redis import RedisStore
from tests.support.clock import Clock
from tests.support.gate import Gate
from tests.support.http_calls import is_problem, metric, ok
from tests.support.in_process import HttpServer
from tests.support.json_input import Json, events
from tests.support.small_disk import fill, small_disk
from tests.support.tools import require_valkey
from tests.support.valkey import ValkeyServer

SWEEP_S = 0.01


def chunk(session: str, seq: int, *, end: bool = False) -> Json:
    return {"session": session, "seq": seq, "input": events(25, seq), "end": end}


async def until_ready(client: httpx.AsyncClient, status: int) -> httpx.Response:
    """The answer of ``/health/ready`` as soon as it has this status."""
    async with asyncio.timeout(20):
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
        problem = is_problem(await until_ready(client, 503), 503, "was deleted while the server had it open")
        assert problem["type"].endswith("store-unusable")
        assert metric((await client.get("/metrics")).text, "hetsyn_ready") == 0
        for seq in (0, 1):
            refused = is_problem(await client.post("/infer", json=chunk("abc", seq)), 503, "start them again")
            assert refused["type"].endswith("store-unusable")
        is_problem(await client.get("/sessions/abc"), 503, "was deleted")
        path.touch()  # another file does not help
        assert (await client.post("/infer", json=chunk("new", 0))).status_code == 503
    assert caplog.text.count("/health/ready says 503") == 1


async def test_a_full_disk_is_shown_and_sessions_end_on_it(tmp_path: Path, models: Path, gate: Gate) -> None:
    with small_disk(tmp_path / "disk", 2 * 1024 * 1024) as disk:
        store = FileStore(disk / "s.db")
        async with HttpServer(models, gate, store=store) as server:
            client = server.client
            assert (await client.get("/health/ready")).json() == {"status": "ready"}
            names = [f"s{n}" for n in range(60)]
            for name in names:
                await ok(client, **chunk(name, 0))
            fill(disk / "other")
            while (answer := await client.post("/infer", json=chunk(f"s{len(names)}", 0))).status_code == 200:
                names.append(f"s{len(names)}")
            problem = is_problem(answer, 503, "has no room")
            assert problem["type"].endswith("store-full")
            assert "Retry-After" in answer.headers
            fill(disk / "other")
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
            for name in names[53:]:
                assert (await client.get(f"/sessions/{name}")).json()["expected_seq"] == 1


@pytest.mark.process
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


class Machine:
    """A machine whose clock steps, and servers on one file of it.

    Attributes:
        wall: its clock.
        steady: time since its start.
    """

    def __init__(self, path: Path, models: Path, gate: Gate) -> None:
        self.wall, self.steady = Clock(2_000_000.0), Clock(10.0)
        self._path, self._models, self._gate = path, models, gate

    def server(self, ahead_s: float = 0.0) -> HttpServer:
        wall = lambda: self.wall() + ahead_s  # noqa: E731
        store = FileStore(self._path, wall=wall, steady=self.steady, boot="one")
        return HttpServer(self._models, self._gate, store=store)

    def pass_(self, seconds: float) -> None:
        self.wall.now_s += seconds
        self.steady.now_s += seconds


async def sweep(server: HttpServer) -> None:
    registry: SessionRegistry = server.app.state.server.registry
    await registry.sessions.sweep_slowly(0.0)


@pytest.mark.parametrize("step_s", [700.0, 5_000.0, -3_600.0, 172_800.0, -172_800.0])
async def test_a_step_of_the_clock_ends_no_session_and_expiry_goes_on(
    tmp_path: Path, models: Path, gate: Gate, step_s: float
) -> None:
    machine = Machine(tmp_path / "s.db", models, gate)
    async with machine.server() as server:
        client = server.client
        for name in ("used", "swept", "idle"):
            await ok(client, **chunk(name, 0))
        machine.pass_(300)
        machine.wall.now_s += step_s
        await ok(client, **chunk("used", 1))
        await ok(client, **chunk("began", 0))
        await sweep(server)
        machine.pass_(3)
        machine.wall.now_s -= step_s
        await sweep(server)
        for name, seq in (("used", 2), ("swept", 1), ("began", 1)):
            await ok(client, **chunk(name, seq))
        machine.pass_(297)
        is_problem(await client.post("/infer", json=chunk("idle", 1)), 404, "has expired")
        assert (await client.get("/sessions/used")).json()["idle_s"] == 297.0
        machine.pass_(303)
        await sweep(server)
        for name, seq in (("used", 3), ("swept", 2), ("began", 2)):
            is_problem(await client.post("/infer", json=chunk(name, seq)), 404, "has expired")
        machine.pass_(3_600)
        await sweep(server)
        await ok(client, **chunk("used", 0))


async def test_a_step_that_stays_ends_no_session_of_a_server_that_starts_again(
    tmp_path: Path, models: Path, gate: Gate
) -> None:
    machine = Machine(tmp_path / "s.db", models, gate)
    async with machine.server() as server:
        await ok(server.client, **chunk("abc", 0))
    machine.wall.now_s += 5_000
    async with machine.server() as server:
        await sweep(server)
        await ok(server.client, **chunk("abc", 1))
        machine.pass_(600)
        is_problem(await server.client.post("/infer", json=chunk("abc", 2)), 404, "has expired")


async def test_servers_of_one_file_whose_clocks_differ_refuse_no_session_of_the_other(
    tmp_path: Path, models: Path, gate: Gate
) -> None:
    machine = Machine(tmp_path / "s.db", models, gate)
    async with machine.server() as one, machine.server(650.0) as two, machine.server(-650.0) as three:
        for seq in range(9):
            await ok((one, two, three)[seq % 3].client, **chunk("abc", seq))
            for server in (one, two, three):
                await sweep(server)
            machine.pass_(590)
        machine.pass_(10)
        for server in (one, two, three):
            is_problem(await server.client.post("/infer", json=chunk("abc", 9)), 404, "has expired")
