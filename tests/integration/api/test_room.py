"""Room for sessions, as clients of HTTP see it."""

from __future__ import annotations

import httpx
import pytest

from tests.support.clients.http_calls import is_problem, metric, ok
from tests.support.clients.json_input import events
from tests.support.clients.wire import wire_transport
from tests.support.servers.in_process import HttpServer, ServeHttp


def client_at(server: HttpServer, address: str) -> httpx.AsyncClient:
    transport = wire_transport(server.app, address)
    return httpx.AsyncClient(transport=transport, base_url="http://server")


async def test_one_address_leaves_room_for_the_others(serve: ServeHttp) -> None:
    server = await serve(max_sessions=4, client_share=0.5)
    async with client_at(server, "192.0.2.1") as one, client_at(server, "192.0.2.2") as other:
        for name in "ab":
            await ok(one, session=name, seq=0, input=events(9))
        refused = await one.post("/infer", json={"session": "c", "seq": 0, "input": events(9)})
        is_problem(refused, 503, "2 sessions of this client are open: end some, or try again in 60 s")
        assert refused.headers["Retry-After"] == "60"
        record = (await one.get("/sessions/a/state")).content
        headers = {"Content-Type": "application/octet-stream"}
        imported = await one.put("/sessions/c/state", content=record, headers=headers)
        is_problem(imported, 503, "2 sessions of this client are open")
        assert (await other.put("/sessions/c/state", content=record, headers=headers)).status_code == 201
        await ok(one, session="whole", seq=0, input=events(9), end=True)
        await ok(one, session="c", seq=1, input=events(9))  # a session may be continued from anywhere


async def test_metrics_say_what_sessions_take(client: httpx.AsyncClient) -> None:
    assert metric((await client.get("/metrics")).text, "hetsyn_session_bytes") == 0
    await ok(client, session="a", seq=0, input=events(9))
    state_bytes = (await client.get("/sessions/a")).json()["state_bytes"]
    assert metric((await client.get("/metrics")).text, "hetsyn_session_bytes") > state_bytes
    await client.delete("/sessions/a")
    assert metric((await client.get("/metrics")).text, "hetsyn_session_bytes") == 0


@pytest.mark.parametrize("end", ["", "&end=true"])
async def test_a_rate_that_would_keep_much_sound_is_refused(client: httpx.AsyncClient, end: str) -> None:
    odd, common = ({"Content-Type": f"audio/pcm;encoding=pcm_s16le;rate={rate}"} for rate in (191_999, 192_000))
    response = await client.post(f"/infer?session=a&seq=0{end}", content=bytes(2), headers=odd)
    is_problem(response, 422, "Resample to 8000, 16000, 44100, 48000 Hz")
    assert (await client.post(f"/infer?session=a&seq=0{end}", content=bytes(2), headers=common)).status_code == 200
