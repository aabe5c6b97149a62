"""A long or a dense chunk does not make the others wait: batcher and engine without HTTP.

CPU time counts, which other programs hardly change, and the quietest of the rounds.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from service.batching.backlog import BatchPolicy
from service.batching.batcher import Batcher
from service.engine.engine import Engine
from service.engine.work import Work, initial_stream
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import load_graph
from service.settings import Batching, Limits
from service.wire.chunk import AudioChunk, Chunk, spike_chunk
from tests.support.paths import MODELS

pytestmark = pytest.mark.long

ROUNDS = 5
LONG_STEPS, CHUNK_S, RATE_HZ = 20_000, 0.1, 8_000
MOST_WAIT_S, MOST_STALL_S = 20e-3, 10e-3
PAUSE_S = 0.2  # until the long chunks are under way
TICK_S = 5e-4  # between two looks at the event loop


@pytest.mark.parametrize("operators", [True, False], ids=["operator", "plain ONNX"])
async def test_a_chunk_waits_little_behind_two_long_ones(operators: bool) -> None:
    model, batcher = _parts("speech-digits", operators=operators)
    rng = np.random.default_rng(0)

    def sound(duration_s: float) -> AudioChunk:
        return AudioChunk((0.1 * rng.normal(size=round(duration_s * RATE_HZ))).astype(np.float32), RATE_HZ)

    async def took(chunk: Chunk) -> float:
        """Run a chunk: CPU seconds of all that this process did until it was there."""
        began_s = time.process_time()
        await _run(model, batcher, chunk)
        return time.process_time() - began_s

    short, long = sound(CHUNK_S), sound(LONG_STEPS * model.manifest.input.step_s - CHUNK_S)
    for _ in range(20):
        await took(short)
    alone_s, behind_s = [], []
    for _ in range(ROUNDS):
        alone_s.append(await took(short))
        running = [asyncio.create_task(took(long)) for _ in range(2)]
        await asyncio.sleep(PAUSE_S)
        behind_s.append(await took(short))
        assert not any(task.done() for task in running), "a long chunk was done first"
        for task in running:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*running)
        await batcher.close()
    print(f"100 ms alone {1e3 * min(alone_s):.1f} ms, behind two of {LONG_STEPS:,} steps {1e3 * min(behind_s):.1f} ms")
    assert min(behind_s) - min(alone_s) <= MOST_WAIT_S


@pytest.mark.parametrize(
    ("name", "steps", "operators"),
    [("shd-size", 4_000, True), ("speech-digits", 3_000, True), ("shd-size", 150, False)],
)
async def test_the_event_loop_does_not_stand_still_for_a_dense_chunk_after_quiet_ones(
    name: str, steps: int, operators: bool
) -> None:
    """Every channel spikes in every step, and no chunk before has shown what that costs."""
    stalls_s = []
    for _ in range(ROUNDS):
        model, batcher = _parts(name, operators=operators)  # one that has not seen a dense chunk
        channels = model.manifest.input.channels
        dense = spike_chunk(steps, *np.nonzero(np.ones((steps, channels), bool)))
        quiet = spike_chunk(steps, [], [])
        for _ in range(30):
            await _run(model, batcher, quiet)
        watching = asyncio.create_task(_longest_stall_s())
        await _run(model, batcher, dense)
        await asyncio.sleep(4 * TICK_S)
        watching.cancel()
        stalls_s.append(await watching)
        await batcher.close()
    print(f"{name}, {len(dense.step):,} spikes: the event loop stands still for {1e3 * min(stalls_s):.1f} ms")
    assert min(stalls_s) <= MOST_STALL_S


def _parts(name: str, *, operators: bool) -> tuple[Model, Batcher]:
    model = ModelCatalog(MODELS, partial(load_graph, use_operators=operators)).get(name)
    batching = Batching()
    engine = Engine(Limits().max_chunk_steps)
    return model, Batcher(engine, BatchPolicy(batching.max_batch), batching.engine_threads, batching.inline_s)


async def _run(model: Model, batcher: Batcher, chunk: Chunk) -> None:
    await batcher.run(model, Work(initial_stream(model), chunk, end=False))


async def _longest_stall_s() -> float:
    """Watch the event loop's thread until cancelled."""
    longest_s = 0.0
    try:
        while True:
            began_s = time.thread_time()
            await asyncio.sleep(TICK_S)
            longest_s = max(longest_s, time.thread_time() - began_s)
    except asyncio.CancelledError:
        return longest_s
