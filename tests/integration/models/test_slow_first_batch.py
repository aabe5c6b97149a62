"""Batches that seemed slow, as on a machine that was busy elsewhere, do not make the server slow for good.

What counts is which batches are run. The clock is that of the graphs, so the machine's load is of no account.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetsyn_client.events import MEDIA_TYPE, pack_events
from service.batching.backlog import BatchPolicy
from service.batching.batcher import Batcher
from service.engine.engine import Engine
from service.engine.work import Work, initial_stream
from service.models.catalog import ModelCatalog
from service.wire.chunk import spike_chunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, STEP_SAMPLES
from tests.support.artifacts.gate import Gate
from tests.support.artifacts.metered_graphs import MeteredGraphs, Run
from tests.support.clients.live import BINARY, opened, sent
from tests.support.clients.many import hub, spikes_frame
from tests.support.data.signals import audio_chunk, sound
from tests.support.servers.socket_server import Listening, listening, response

STEPS, STREAMS = 25, 4
INLINE_S = 10e-3
ROUNDS = 40  # of a chunk of each stream: a few milliseconds of load
DENSE = np.divmod(np.arange(STEPS * CHANNELS), CHANNELS)


@pytest.mark.parametrize(
    ("kind", "stall_s"),
    [
        ("spikes", 0.0),
        ("audio", 0.0),
        ("audio", 0.006),
        ("spikes", 0.012),
        ("spikes", 0.04),
        ("audio", 0.1),
        ("spikes", 1.0),
        ("audio", 1.0),
    ],
)
async def test_batches_are_whole_and_on_the_loop(models: Path, kind: str, stall_s: float) -> None:
    graphs = MeteredGraphs()
    model = ModelCatalog(models, load=graphs.load).get()
    batcher = Batcher(Engine(1_000), BatchPolicy(), threads=1, inline_s=INLINE_S, timer=graphs.clock)
    chunk: Any = spike_chunk(STEPS, *DENSE)
    if kind == "audio":
        chunk = audio_chunk(sound(STEPS * STEP_SAMPLES, 1))
    graphs.stall_s = stall_s
    for _ in range(ROUNDS):
        graphs.runs.clear()
        works = [Work(initial_stream(model), chunk, end=False) for _ in range(STREAMS)]
        await asyncio.gather(*(batcher.run(model, work) for work in works))
    assert graphs.runs == [Run(STREAMS, STEPS, on_loop=True)]
    assert graphs.now_s - stall_s < 1.0
    await batcher.close()


async def test_a_core_that_others_took_for_a_while_is_forgotten(models: Path) -> None:
    graphs = MeteredGraphs()
    model = ModelCatalog(models, load=graphs.load).get()
    batcher = Batcher(Engine(1_000), BatchPolicy(), threads=1, inline_s=INLINE_S, timer=graphs.clock)
    runs_at: dict[float, list[Run]] = {}
    for slowness in (1.0, 300.0, 1.0):
        graphs.slowness, began_s = slowness, graphs.now_s
        for _ in range(ROUNDS):
            graphs.runs.clear()
            works = [Work(initial_stream(model), spike_chunk(STEPS, *DENSE), end=False) for _ in range(STREAMS)]
            await asyncio.gather(*(batcher.run(model, work) for work in works))
            runs_at[slowness] = list(graphs.runs)
    whole = [Run(STREAMS, STEPS, on_loop=True)]
    assert runs_at[300.0] != whole  # it was cut to pieces
    assert runs_at[1.0] == whole
    assert graphs.now_s - began_s < 1.0
    await batcher.close()


Send = Callable[[int], Awaitable[None]]
"""Sends a chunk of each stream, and awaits the replies. Of its number."""


async def posts(server: Listening, media_type: str, url: str, content: Callable[[int], bytes]) -> Send:
    reader, writer = await server.connect()

    async def send(seq: int) -> None:
        body = content(seq)
        head = (
            f"POST {url.format(seq)} HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        status, reply = await response(reader)
        assert status == 200, reply

    return send


async def infer(server: Listening) -> Send:
    return await posts(server, MEDIA_TYPE, "/infer?session=a&seq={}", lambda _: pack_events(STEPS, *DENSE))


async def open_inference(server: Listening) -> Send:
    spikes = {"name": "spikes", "datatype": "BOOL", "shape": [STEPS, CHANNELS], "data": [True] * STEPS * CHANNELS}

    def content(seq: int) -> bytes:
        sequence = {"sequence_id": 1, "sequence_start": seq == 0, "seq": seq}
        return json.dumps({"inputs": [spikes], "parameters": sequence}).encode()

    return await posts(server, "application/json", "/v2/models/digits/infer", content)


async def stream(server: Listening) -> Send:
    socket, _ = await opened(server)

    async def send(seq: int) -> None:
        await socket.send(sent(BINARY, pack_events(STEPS, *DENSE)))
        assert (await socket.frame())["seq"] == seq

    return send


async def streams(server: Listening) -> Send:
    many, _ = await hub(server)
    handles = range(STREAMS)
    await many.opens(*map(str, handles))

    async def send(seq: int) -> None:
        results = await many.chunks(spikes_frame(handles, seq, [(STEPS, *DENSE)] * STREAMS))
        assert not results.more

    return send


@pytest.mark.parametrize(
    ("way", "stall_s"),
    [
        (infer, 0.0),
        (infer, 0.012),
        (infer, 1.0),
        (stream, 0.1),
        (stream, 0.04),
        (streams, 0.012),
        (streams, 1.0),
        (open_inference, 0.006),
        (open_inference, 0.1),
    ],
)
async def test_chunks_of_every_way_in_are_whole_and_on_the_loop(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[Listening], Awaitable[Send]],
    stall_s: float,
) -> None:
    write_artifact(tmp_path)
    graphs = MeteredGraphs()
    monkeypatch.setattr("time.thread_time", graphs.clock)
    async with listening(tmp_path, Gate(graphs.load), inline_s=INLINE_S) as server:
        send = await way(server)
        graphs.stall_s = stall_s
        for seq in range(ROUNDS):
            graphs.runs.clear()
            await send(seq)
    assert graphs.runs == [Run(STREAMS if way is streams else 1, STEPS, on_loop=True)]
    assert graphs.now_s - stall_s < 1.0
