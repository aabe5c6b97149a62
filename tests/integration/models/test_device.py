"""A server whose networks run on another device than the CPU: the device is a fake, all else is not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from service.models.catalog import ModelCatalog
from service.runtime.device import Device
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.gate import Gate
from tests.support.artifacts.metered_graphs import MeteredGraphs, Run
from tests.support.clients.json_input import events
from tests.support.clients.many import hub, spikes_frame
from tests.support.clients.wire import wire_transport
from tests.support.data.signals import spikes
from tests.support.product import make_app
from tests.support.servers.socket_server import Listening, listening, response

SESSIONS, CHUNKS = 4, 5
INLINE_S = 60.0  # any batch is short enough for the event loop


async def infer(server: Listening) -> list[Any]:
    connections = [await server.connect() for _ in range(SESSIONS)]
    got = []
    for seq in range(CHUNKS):
        for who, (_, writer) in enumerate(connections):
            body = json.dumps({"session": f"s{who}", "seq": seq, "input": events(9 + who, who)}).encode()
            head = f"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            writer.write(head.encode() + b"\r\n\r\n" + body)
        for status, reply in await asyncio.gather(*(response(reader) for reader, _ in connections)):
            assert status == 200, reply
            got.append(json.loads(reply)["probabilities"])
    return got


async def streams(server: Listening) -> list[Any]:
    many, _ = await hub(server)
    handles = range(SESSIONS)
    await many.opens(*map(str, handles))
    got: list[Any] = []
    for seq in range(CHUNKS):
        results = await many.chunks(spikes_frame(handles, seq, [(9 + who, *spikes(9 + who, who)) for who in handles]))
        assert not results.more
        got += results.probabilities.tolist()
    return got


async def answers(models: Path, *, on_device: bool) -> tuple[list[Any], list[Run]]:
    """Replies to /infer and /streams, and the runs of networks that they took."""
    graphs = MeteredGraphs()
    device = Device("a fake GPU", graphs.load) if on_device else None
    async with listening(models, Gate(graphs.load), device=device, inline_s=INLINE_S) as server:
        return [*await infer(server), *await streams(server)], graphs.runs


async def test_a_device_gives_the_answers_of_the_cpu_and_the_event_loop_does_not_wait_for_it(
    models: Path,
) -> None:
    expected, on_cpu = await answers(models, on_device=False)
    got, on_device = await answers(models, on_device=True)
    assert len(got) == 2 * SESSIONS * CHUNKS
    assert got == expected
    assert max(run.streams for run in on_device) > 1
    assert any(run.on_loop for run in on_cpu)
    assert not any(run.on_loop for run in on_device)


async def test_a_server_on_a_device_does_not_claim_that_the_operator_is_used(models: Path) -> None:
    app = make_app(ModelCatalog(models, load=load_fake, device=Device("a fake GPU", load_fake)))
    async with httpx.AsyncClient(transport=wire_transport(app), base_url="http://t") as client:
        operator = (await client.get("/models")).json()["operator"]
        assert (operator["in_use"], operator["kernel"]) == (False, None)
        assert "hetsyn_operator" not in (await client.get("/metrics")).text
