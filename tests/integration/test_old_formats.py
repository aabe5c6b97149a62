"""State of an older format is refused wherever state comes in, and changes nothing."""

from __future__ import annotations

import base64
import struct

import httpx
import pytest

from service.carried.carry_keys import CarryKeys
from service.store.base import Stored
from service.store.record import CHECKSUM_BYTES, checksum
from tests.support.artifacts.gate import Gate
from tests.support.clients.http_calls import is_problem, metric, ok
from tests.support.clients.json_input import events
from tests.support.servers.in_process import ServeHttp
from tests.support.stores.failing_store import FailingStore
from tests.support.stores.store_record import overwrite

OLDER = struct.pack("<H", 0)


def as_older(record: bytes) -> bytes:
    """A session record as an older server had written it: intact, and of format 0."""
    content = record[:4] + OLDER + record[6:-CHECKSUM_BYTES]
    return content + checksum(content)


def is_old(response: httpx.Response, status: int, slug: str) -> None:
    problem = is_problem(response, status, "an older format, 0, but this server reads")
    assert problem["type"] == f"urn:hetsyn:problem:{slug}"


async def test_where_a_store_holds_it(serve: ServeHttp) -> None:
    store = FailingStore()
    server = await serve(store=store)
    client = server.client
    await ok(client, session="abc", seq=0, input=events(25))
    old = await overwrite(store, "abc", as_older)
    for seq in (0, 1, None):
        chunk = {"session": "abc", "seq": seq, "input": events(25, 1)}
        is_old(await client.post("/infer", json=chunk), 409, "state-format")
    is_old(await client.get("/sessions/abc"), 409, "state-format")
    is_old(await client.get("/sessions/abc/state"), 409, "state-format")
    assert await store.load(["abc"]) == [Stored(7, old)]  # for a server that reads it
    assert metric((await client.get("/metrics")).text, 'hetsyn_store_failures_total{error="state-format"}') >= 1


@pytest.mark.parametrize("old", ["token", "session"])
async def test_where_a_client_carries_it(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, old: str, serve: ServeHttp
) -> None:
    server = await serve(keys=CarryKeys([bytes(32)]))
    client = server.client
    module = "service.carried.token" if old == "token" else "service.store.record"
    monkeypatch.setattr(f"{module}.FORMAT_VERSION", 0)  # as an older server seals it
    token = (await ok(client, carry=True, input=events(25)))["token"]
    monkeypatch.undo()
    assert base64.b64decode(token)[4:6] == (OLDER if old == "token" else b"\1\0")
    calls = gate.calls
    refused = await client.post("/infer", json={"token": token, "input": events(25, 1)})
    is_old(refused, 409, "token-format" if old == "token" else "state-format")
    assert gate.calls == calls
