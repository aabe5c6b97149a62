"""A server whose store is down or holds what is no session."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.registry.registry import SessionRegistry
from service.store.base import StateStore
from service.store.file import FileStore
from service.store.redis import PREFIX, RedisStore
from tests.support.failing_store import FailingStore
from tests.support.gate import Gate
from tests.support.http_calls import is_problem, metric, ok
from tests.support.in_process import HttpServer, ServeHttp
from tests.support.json_input import events
from tests.support.store_record import overwrite
from tests.support.tools import require_valkey
from tests.support.valkey import ValkeyServer


async def test_a_store_that_is_down_gives_503_and_the_session_goes_on(models: Path, gate: Gate) -> None:
    store = FailingStore()
    async with HttpServer(models, gate, store=store) as server:
        client = server.client
        await ok(client, session="abc", seq=0, input=events(25))
        store.down = True
        refused = await client.post("/infer", json={"session": "abc", "seq": 1, "input": events(25, 1)})
        is_problem(refused, 503, "session store failed")
        assert int(refused.headers["Retry-After"]) >= 1
        is_problem(await client.get("/sessions/abc"), 503, "session store failed")
        text = (await client.get("/metrics")).text
        assert metric(text, 'hetsyn_store_failures_total{error="store-unavailable"}') == 2
        store.down = False
        assert (await ok(client, session="abc", seq=1, input=events(25, 1)))["total_steps"] == 50
    assert store.closed


async def test_a_task_that_died_does_not_keep_the_store_from_being_closed(
    monkeypatch: pytest.MonkeyPatch, models: Path, gate: Gate
) -> None:
    async def dies(_: SessionRegistry, interval_s: float) -> None:  # noqa: ARG001
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(SessionRegistry, "sweep_forever", dies)
    store = FailingStore()
    async with HttpServer(models, gate, store=store) as server:
        client = server.client
        await ok(client, session="abc", seq=0, input=events(25))
    assert store.closed


async def test_what_is_damaged_in_the_store_is_a_conflict(serve: ServeHttp) -> None:
    store = FailingStore()
    client = (await serve(store=store)).client
    await ok(client, session="abc", seq=0, input=events(25))
    await overwrite(store, "abc", lambda record: record[:-1])
    refused = await client.post("/infer", json={"session": "abc", "seq": 1, "input": events(25, 1)})
    assert is_problem(refused, 409, "cut off")["type"].endswith("state-truncated")
    assert (await ok(client, session="abc", begin=True, input=events(25)))["seq"] == 0
    await overwrite(store, "abc", lambda record: record[:-1])
    assert (await client.delete("/sessions/abc")).status_code == 204


IN_VALKEY = [pytest.param(what, marks=pytest.mark.process) for what in ("a list", "a short string", "zeros")]


@pytest.fixture(params=["a row of text", "a row of revision 0", *IN_VALKEY])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[StateStore, Callable[[], None]]]:
    """A store, and what puts something that is no record under the id of session abc."""
    if request.param.startswith("a row"):
        row = "7, 1e18, 'text'" if request.param == "a row of text" else "0, 1e18, x'00'"

        def spoil() -> None:
            with sqlite3.connect(tmp_path / "s.db") as other:
                other.execute(f"INSERT OR REPLACE INTO sessions VALUES ('abc', {row})")
            other.close()

        yield FileStore(tmp_path / "s.db"), spoil
        return
    require_valkey()
    with ValkeyServer(tmp_path) as valkey, Redis.from_url(valkey.url) as other:

        def put() -> None:
            other.delete(f"{PREFIX}abc")
            if request.param == "a list":
                other.rpush(f"{PREFIX}abc", "x")
            else:
                other.set(f"{PREFIX}abc", bytes(500) if request.param == "zeros" else "x")

        yield RedisStore(valkey.url), put


async def test_what_is_no_record_is_named_and_its_id_can_be_freed(
    foreign: tuple[StateStore, Callable[[], None]], models: Path, gate: Gate
) -> None:
    store, spoil = foreign
    async with HttpServer(models, gate, store=store) as server:
        client = server.client
        await ok(client, session="source", seq=0, input=events(25))
        state = (await client.get("/sessions/source/state")).content
        header = {"Content-Type": "application/octet-stream"}
        for way in ("replace", "begin", "delete"):
            spoil()
            chunk = {"session": "abc", "seq": 0, "input": events(25)}
            for answer in (await client.get("/sessions/abc"), await client.post("/infer", json=chunk)):
                problem = is_problem(answer, 409, "is not a session record")
                assert problem["type"].endswith("state-foreign")
                assert "delete the session to free the id" in problem["detail"]
            refused = await client.put("/sessions/abc/state", content=state, headers=header)
            assert is_problem(refused, 409, "replace=true")["type"].endswith("session-exists")
            if way == "replace":
                replaced = await client.put("/sessions/abc/state?replace=true", content=state, headers=header)
                assert replaced.status_code == 201
                assert (await client.get("/sessions/abc")).json()["expected_seq"] == 1
            elif way == "begin":
                assert (await ok(client, session="abc", begin=True, input=events(25)))["seq"] == 0
            else:
                assert (await client.delete("/sessions/abc")).status_code == 204
                assert (await ok(client, **chunk))["total_steps"] == 25
