"""A server whose store is down or holds what is no session."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from service.registry.registry import SessionRegistry
from service.store.file import FileStore
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import is_problem, metric, ok
from tests.support.clients.json_input import events
from tests.support.servers.in_process import HttpServer, ServeHttp
from tests.support.stores.failing_store import FailingStore
from tests.support.stores.store_record import overwrite


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
        is_problem(await client.delete("/sessions/abc"), 503, "session store failed")
        text = (await client.get("/metrics")).text
        assert metric(text, 'hetsyn_store_failures_total{error="store-unavailable"}') == 3
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
    assert is_problem(refused, 409, "cut off")["type"].endswith("state-corrupt")
    assert (await ok(client, session="abc", begin=True, input=events(25)))["seq"] == 0
    await overwrite(store, "abc", lambda record: record[:-1])
    assert (await client.delete("/sessions/abc")).status_code == 204


async def test_what_is_no_record_is_named(serve: ServeHttp, tmp_path: Path) -> None:
    client = (await serve(store=FileStore(tmp_path / "s.db"))).client
    await ok(client, session="source", seq=0, input=events(25))
    with sqlite3.connect(tmp_path / "s.db") as other:
        other.execute("INSERT INTO sessions VALUES ('abc', 7, 1e18, 'text')")
    other.close()
    chunk = {"session": "abc", "seq": 0, "input": events(25)}
    for answer in (await client.get("/sessions/abc"), await client.post("/infer", json=chunk)):
        assert is_problem(answer, 409, "not a session record")["type"].endswith("state-corrupt")
    assert (await ok(client, session="source", seq=1, input=events(25)))["total_steps"] == 50
