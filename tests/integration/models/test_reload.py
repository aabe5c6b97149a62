"""Models are reloaded while clients stream: through HTTP, without a network."""

from __future__ import annotations

import asyncio
import gc
import shutil
from pathlib import Path

import httpx

from service.batching.estimates import Item
from service.ingress import Arrival
from service.registry.applying import Applying
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.artifact_file import rewrite
from tests.support.clients.http_calls import ok
from tests.support.clients.json_input import Json, events
from tests.support.servers.in_process import ServeHttp

CHUNKS = 12


async def stream(client: httpx.AsyncClient, session: str, begun: asyncio.Event | None = None) -> list[Json]:
    replies = []
    for n in range(CHUNKS):
        replies.append(await ok(client, session=session, seq=n, end=n == CHUNKS - 1, input=events(10, n)))
        if begun is not None:
            begun.set()
        await asyncio.sleep(0.002)
    return [reply | {"session": "any"} for reply in replies]


async def test_a_reload_under_load(models: Path, serve: ServeHttp) -> None:
    """Sessions go on to the bit, a broken version is refused, and the old one is let go when its sessions are over."""
    server = await serve(ended_keep_s=10)
    client = server.client
    calm = await stream(client, "calm")
    begun = [asyncio.Event() for _ in range(20)]
    streams = [asyncio.create_task(stream(client, f"s{n}", begun[n])) for n in range(20)]
    for event in begun:
        await event.wait()
    write_artifact(models, version="2", change={"description": "newer"})
    rewrite(write_artifact(models, version="3"), "exact.onnx", b"broken")
    shutil.rmtree(models / "digits" / "1")
    await server.app.state.server.reloader.reload()
    assert (await ok(client, session="new", seq=0, input=events(10)))["version"] == "2"
    assert (await client.get("/models")).json()["models"][0]["versions"] == ["2"]
    metrics = (await client.get("/metrics")).text
    for line in (
        'hetsyn_model_versions_total{event="opened"} 1.0',
        'hetsyn_model_versions_total{event="withdrawn"} 1.0',
        'hetsyn_model_versions_total{event="refused"} 1.0',
        "hetsyn_models_offered 1.0",
        "hetsyn_models_withdrawn 1.0",
    ):
        assert line in metrics
    assert await asyncio.gather(*streams) == [calm] * 20
    assert (await client.get("/health/ready")).status_code == 200
    server.clock.now_s += 11
    list(server.app.state.server.registry.sessions.quota.sweeping(server.clock.now_s))
    assert "hetsyn_models_withdrawn 0.0" in (await client.get("/metrics")).text


async def test_a_chunk_that_was_answered_takes_no_memory(serve: ServeHttp) -> None:
    """Nor does it hold a model that was withdrawn until Python looks for cycles of objects."""
    client = (await serve()).client
    await ok(client, session="a", seq=0, input=events(3))
    gc.collect()
    before = of_chunks()  # of earlier tests
    gc.disable()
    try:
        for seq, value in ((1, events(3)), (1, events(3)), (9, events(3)), (2, {"kind": "audio"})):
            await client.post("/infer", json={"session": "a", "seq": seq, "input": value})
        assert [found for found in of_chunks() if not any(found is old for old in before)] == []
    finally:
        gc.enable()


def of_chunks() -> list[object]:
    """Return what the server made for a chunk and still holds."""
    # by type: what torch deprecates warns of a look at its class
    return [found for found in gc.get_objects() if type(found) in (Applying, Arrival, Item)]


async def test_a_watching_app_loads_what_is_put_into_its_folder(models: Path, serve: ServeHttp) -> None:
    client = (await serve(watch_s=0.01)).client
    write_artifact(models, version="2")
    while (await ok(client, input=events(10), end=True))["version"] != "2":
        await asyncio.sleep(0.01)
