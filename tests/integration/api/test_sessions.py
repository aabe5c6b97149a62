"""Sessions that are looked at, dropped, exported and imported."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.store.record import MEDIA_TYPE as STATE_TYPE
from tests.support.artifacts.artifact import write_artifact
from tests.support.clients.http_calls import is_problem, ok, put_state
from tests.support.clients.json_input import audio, events
from tests.support.clock import Clock
from tests.support.data.signals import sound
from tests.support.servers.in_process import HttpServer, ServeHttp
from tests.support.stores.failing_store import FailingStore
from tests.support.stores.memory_store import MemoryStore


async def test_an_idle_session_is_expired(server: HttpServer, client: httpx.AsyncClient) -> None:
    await ok(client, session="s", seq=0, input=events(9))
    server.clock.now_s += 59
    await ok(client, session="s", seq=1, input=events(9))
    server.clock.now_s += 60
    is_problem(await client.post("/infer", json={"session": "s", "seq": 2, "input": events(9)}), 404, "has expired")
    is_problem(await client.get("/sessions/s"), 404, "has expired")
    is_problem(await client.delete("/sessions/s"), 404, "has expired")


async def test_sessions_are_looked_at_and_dropped(client: httpx.AsyncClient) -> None:
    is_problem(await client.get("/sessions/s"), 404, "no session 's'")
    is_problem(await client.delete("/sessions/s"), 404, "no session 's'")
    await ok(client, session="s", seq=0, input=audio(sound(4000)))
    described = (await client.get("/sessions/s")).json()
    assert (described["expected_seq"], described["total_steps"], described["kind"]) == (1, 50, "audio")
    deleted = await client.delete("/sessions/s")
    assert (deleted.status_code, deleted.content) == (204, b"")
    is_problem(await client.get("/sessions/s"), 404, "no session 's'")
    assert (await ok(client, session="s", seq=0, input=events(9)))["total_steps"] == 9


@pytest.mark.parametrize("stored", [False, True])
async def test_a_session_is_exported_and_imported(stored: bool, serve: ServeHttp) -> None:
    client = (await serve(store=FailingStore(MemoryStore(Clock(0.0))) if stored else None)).client
    for seq in range(2):
        await ok(client, session="abc", seq=seq, input=events(25, seq))
    exported = await client.get("/sessions/abc/state")
    assert exported.status_code == 200
    assert exported.headers["content-type"] == STATE_TYPE
    imported = await put_state(client, "def", exported.content)
    assert imported.status_code == 201, imported.text
    assert imported.json() == (await client.get("/sessions/def")).json()
    assert imported.json()["idle_s"] == 0
    assert imported.json()["expected_seq"] == 2
    last = [await ok(client, session=name, seq=2, end=True, input=events(25, 2)) for name in ("abc", "def")]
    assert last[1] == last[0] | {"session": "def"}
    is_problem(await put_state(client, "abc", exported.content), 409, "replace=true")
    replaced = await put_state(client, "abc", exported.content, replace="true")
    assert replaced.status_code == 200
    assert replaced.json()["ended"] is False
    again = await client.get("/sessions/abc/state")
    assert len(again.content) == len(exported.content)


async def test_an_export_needs_a_session_and_an_import_a_good_one(client: httpx.AsyncClient) -> None:
    is_problem(await client.get("/sessions/abc/state"), 404, "no session 'abc'")
    await ok(client, session="abc", seq=0, input=events(25))
    content = (await client.get("/sessions/abc/state")).content
    for bad, status, slug in (
        (b"", 422, "token-foreign"),
        (b"anything else", 422, "token-foreign"),
        (content[:-5], 422, "token-forged"),
        (content[:200] + bytes([content[200] ^ 8]) + content[201:], 422, "token-forged"),
        (content[:4] + b"\x03" + content[5:], 409, "token-format"),
    ):
        problem = is_problem(await put_state(client, "def", bad), status, "token")
        assert problem["type"].endswith(slug)
    is_problem(await client.get("/sessions/def"), 404, "no session")
    wrong_type = await client.put("/sessions/def/state", content=content, headers={"Content-Type": "text/plain"})
    is_problem(wrong_type, 415, "application/vnd.hetsyn.session")
    is_problem(await put_state(client, "d%20f", content), 422, "session_id")
    is_problem(await put_state(client, "def", bytes(60_001)), 413, "60000 bytes")
    as_bytes = {"Content-Type": "application/octet-stream"}
    assert (await client.put("/sessions/def/state", content=content, headers=as_bytes)).status_code == 201


async def test_an_import_needs_the_model_that_it_began_on(tmp_path: Path, serve: ServeHttp) -> None:
    write_artifact(tmp_path / "one", "digits", "1")
    write_artifact(tmp_path / "other", "digits", "1", change={"provenance": {"seed": 8}})
    one, other = (await serve(tmp_path / "one")).client, (await serve(tmp_path / "other")).client
    await ok(one, session="abc", seq=0, input=events(25))
    exported = (await one.get("/sessions/abc/state")).content
    problem = is_problem(await put_state(other, "abc", exported), 409, "with other files of model 'digits'")
    assert problem["type"].endswith("model-changed")


async def test_who_looks_at_sessions_takes_a_permit_too(serve: ServeHttp) -> None:
    server = await serve(max_waiting=1)
    client = server.client
    await ok(client, session="abc", seq=0, input=events(25))
    admission = server.app.state.server.admission

    async def ask() -> list[httpx.Response]:
        return [
            await client.get("/sessions/abc"),
            await client.get("/sessions/abc/state"),
            await client.delete("/sessions/abc"),
        ]

    with admission.permit("another"):
        for response in await ask():
            is_problem(response, 503, "as many requests as it takes")
            assert response.headers["Retry-After"] == "1"
    assert admission.in_flight == 0
    assert [response.status_code for response in await ask()] == [200, 200, 204]
    await admission.stop()
    for response in await ask():
        is_problem(response, 503, "shutting down")
