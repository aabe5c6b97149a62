"""Does a long or a dense chunk make the others wait? Batcher and engine without HTTP.

*Behind long chunks*: a chunk of 100 ms of the speech model, in the bank form, alone and behind two chunks of 20,000
steps, with the operator and without. Passed: it waits at most 20 ms more than alone.

*Dense after quiet*: 30 chunks without a spike, then one of as many steps with many spikes, whose cost no chunk before
has shown. The longest time that the event loop stood still meanwhile. Passed: at most 10 ms.

Both with the operator and on plain ONNX. Medians of the rounds, and the worst.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.revisions import FIXTURES, models_of
from service.batching.batcher import Batcher
from service.batching.policy import BatchPolicy
from service.contract.manifest import FormName
from service.engine.engine import Engine
from service.engine.stream import initial_stream
from service.engine.work import Work
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import load_graph
from service.settings import Batching, Limits
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, spike_chunk

LONG_STEPS, CHUNK_S, RATE_HZ = 20_000, 0.1, 8_000
MOST_WAIT_S, MOST_STALL_S = 20e-3, 10e-3
PAUSE_S = 0.2  # until the long chunks are under way
# form of the long chunks, with and without the operator
BEHIND: tuple[tuple[FormName, bool], ...] = (("bank", True), ("bank", False))
# model, form, steps and spikes a step of a dense chunk, with and without the operator
DENSE: tuple[tuple[str, FormName, int, float, bool], ...] = (
    ("shd-size", "bank", 4_000, 700.0, True),
    ("speech-digits", "bank", 3_000, 960.0, True),
    ("shd-size", "bank", 150, 700.0, False),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    rounds = 2 if arguments.quick else arguments.rounds
    behind, dense = BEHIND, DENSE
    if arguments.smoke:
        rounds, behind, dense = 1, BEHIND[:1], DENSE[:1]
    with models_of(FIXTURES) as models:
        waits = [asyncio.run(_behind_long_chunks(models, *case, rounds)) for case in behind]
        stalls = [asyncio.run(_dense_after_quiet(models, *case, rounds=rounds)) for case in dense]
    table = Table("100 ms chunk behind two of 20,000 steps", "alone, ms", "behind, ms", "worst, ms")
    for row in waits:
        table.add_row(row["case"], *(f"{1e3 * row[name]:.1f}" for name in ("alone_s", "behind_s", "worst_s")))
    Console().print(table)
    table = Table("dense chunk after 30 quiet ones", "spikes", "took, ms", "event loop stood still, ms", "worst, ms")
    for row in stalls:
        times = (f"{1e3 * row[name]:.1f}" for name in ("took_s", "stall_s", "worst_s"))
        table.add_row(row["case"], f"{row['spikes']:,}", *times)
    Console().print(table)
    passed = all(row["worst_s"] - row["alone_s"] <= MOST_WAIT_S for row in waits)
    passed &= all(row["worst_s"] <= MOST_STALL_S for row in stalls)
    return {"behind_long_chunks": waits, "dense_after_quiet": stalls, "rounds": rounds, "passed": passed}


def _parts(models: Path, name: str, operators: bool) -> tuple[Model, Batcher]:
    model = ModelCatalog(models, name, partial(load_graph, use_operators=operators)).get(name)
    batching = Batching()
    policy = BatchPolicy(batching.max_batch)
    engine = Engine(Limits().max_chunk_steps)
    return model, Batcher(engine, policy, batching.engine_threads, batching.inline_s)


async def _behind_long_chunks(models: Path, form: FormName, operators: bool, rounds: int) -> dict[str, Any]:
    model, batcher = _parts(models, "speech-digits", operators)
    rng = np.random.default_rng(0)

    def sound(duration_s: float) -> AudioChunk:
        return AudioChunk((0.1 * rng.normal(size=round(duration_s * RATE_HZ))).astype(np.float32), RATE_HZ)

    async def took(of: FormName, chunk: Chunk) -> float:
        work = Work(initial_stream(model, of), chunk, end=False)
        began_s = time.perf_counter()
        await batcher.run(model, of, work)
        return time.perf_counter() - began_s

    short, long = sound(CHUNK_S), sound(LONG_STEPS * model.manifest.input.step_s - CHUNK_S)
    for _ in range(20):
        await took("bank", short)
    alone_s, behind_s = [], []
    for _ in range(rounds):
        alone_s.append(await took("bank", short))
        running = [asyncio.create_task(took(form, long)) for _ in range(2)]
        await asyncio.sleep(PAUSE_S)
        behind_s.append(await took("bank", short))
        if any(task.done() for task in running):
            raise SystemExit("a long chunk was done before the short one came: the machine is too fast for this case")
        for task in running:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*running)
        await batcher.close()
    return {
        "case": f"{form}, {'operator' if operators else 'plain ONNX'}",
        "alone_s": statistics.median(alone_s),
        "behind_s": statistics.median(behind_s),
        "worst_s": max(behind_s),
    }


async def _dense_after_quiet(
    models: Path, name: str, form: FormName, steps: int, density: float, operators: bool, *, rounds: int
) -> dict[str, Any]:
    channels = ModelCatalog(models, name).get(name).manifest.input.channels
    fires = np.random.default_rng(0).random((steps, channels)) < density / channels
    dense, quiet = spike_chunk(steps, *np.nonzero(fires)), spike_chunk(steps, [], [])
    took_s, stall_s = [], []
    for _ in range(rounds):
        model, batcher = _parts(models, name, operators)  # one that has not seen a dense chunk

        async def run(chunk: SpikeChunk, model: Model = model, batcher: Batcher = batcher) -> None:
            await batcher.run(model, form, Work(initial_stream(model, form), chunk, end=False))

        for _ in range(30):
            await run(quiet)
        watch = _Watch()
        began_s = time.perf_counter()
        await run(dense)
        took_s.append(time.perf_counter() - began_s)
        stall_s.append(await watch.stop())
        await batcher.close()
    return {
        "case": f"{name}, {form}, {steps} steps, {'operator' if operators else 'plain ONNX'}",
        "spikes": len(dense.step),
        "took_s": statistics.median(took_s),
        "stall_s": statistics.median(stall_s),
        "worst_s": max(stall_s),
    }


class _Watch:
    """How long the event loop stands still."""

    TICK_S = 5e-4

    def __init__(self) -> None:
        self._worst_s = 0.0
        self._task = asyncio.create_task(self._tick())

    async def stop(self) -> float:
        await asyncio.sleep(4 * self.TICK_S)
        self._task.cancel()
        return self._worst_s

    async def _tick(self) -> None:
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(self.TICK_S)
            self._worst_s = max(self._worst_s, time.perf_counter() - began_s - self.TICK_S)
