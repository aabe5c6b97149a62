"""A server whose store is down or holds what is no session."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.registry.registry import SessionRegistry
from tests.support.failing_store import FailingStore
from tests.support.gate import Gate
from tests.support.http_calls import is_problem, metric, ok
from tests.support.http_server import HttpServer, ServeHttp
from tests.support.json_input import events
from tests.support.store_record import overwrite


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
        assert metric(text, 'hetsyn_store_failures_total{error="StoreUnavailable"}') == 2
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
    assert (await client.delete("/sessions/abc")).status_code == 204
