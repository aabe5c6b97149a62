"""What all chunks pass, whatever their interface."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from service.ingress import Source, grown_bytes
from service.models.catalog import ModelCatalog
from service.wire.chunk import AudioChunk
from tests.support.artifact import write_artifact
from tests.support.gate import Gate
from tests.support.in_process import DirectServer
from tests.support.infer_request import infer_request


def test_only_what_grows_more_than_most_counts_as_more_than_its_bytes() -> None:
    chunk = AudioChunk(np.zeros(100_000, np.float32), 8_000)
    assert grown_bytes(chunk, 100_000) == 0  # mu-law
    assert grown_bytes(chunk, 99_999) == 300_001
    assert grown_bytes(AudioChunk(np.zeros(100, np.float32), 8_000), 1) == 0
    assert grown_bytes(None, 0) == 0


async def test_the_chunks_of_a_frame_leave_other_clients_their_turns(tmp_path: Path) -> None:
    for name in ("digits", "other"):
        write_artifact(tmp_path, name)
    gate = Gate()
    server = DirectServer(ModelCatalog(tmp_path, "digits", load=gate.load), gate, engine_threads=1, max_batch=4)
    gate.opened.clear()
    source = Source("WS /streams", "streams", "a")
    requests = [infer_request(f"a{number}", 0) for number in range(100)]
    frame = asyncio.create_task(server.parts.ingress.apply_frame(source, requests, 0.0))
    await server.entered()
    other = asyncio.create_task(server.send("b", 0, model="other", client="b"))
    while server.admission.in_flight < 2:
        await asyncio.sleep(0)
    gate.opened.set()
    await other
    assert server.counters.chunks_applied <= 3 * 4  # the batch that ran, one before, and that of the other
    assert len(await frame) == 100
    await server.close()
