"""Batches across callers: gathered while the engine is busy, and no caller harmed by another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from service.batching.batcher import MOST_ROUNDS, Batcher
from service.batching.policy import BatchPolicy
from service.contract.manifest import FormName
from service.engine.engine import Engine, Outcome, Work
from service.engine.stream import initial_stream
from service.errors import ArtifactError
from service.models.model import Model
from service.wire.chunk import SpikeChunk, spike_chunk
from tests.support.gate import Gate


class RecordingEngine(Engine):
    """An engine that keeps the sizes of its batches, and refuses chunks that spike on a poisonous channel."""

    POISON = 3

    def __init__(self) -> None:
        super().__init__(10_000, 64)
        self.sizes: list[int] = []

    def run(self, model: Model, form: FormName, batch: Sequence[Work]) -> list[Outcome]:
        self.sizes.append(len(batch))
        for work in batch:
            if work.chunk is not None and getattr(work.chunk, "unit", np.zeros(0)).tolist() == [self.POISON]:
                raise ArtifactError("poisoned")
        return super().run(model, form, batch)


def work(model: Model, unit: int = 1, steps: int = 4) -> Work:
    return Work(initial_stream(model, "bank"), spike_chunk(steps, [0], [unit]), end=False)


async def gathered(batcher: Batcher, model: Model, gate: Gate, works: Sequence[Work]) -> list[asyncio.Task[Outcome]]:
    """The works as tasks that all wait while a first one holds the only engine thread."""
    gate.opened.clear()
    blocker = asyncio.create_task(batcher.run(model, "bank", work(model), 4))
    await asyncio.to_thread(gate.entered.acquire)
    tasks = [asyncio.create_task(batcher.run(model, "bank", item, 4)) for item in works]
    await asyncio.sleep(0)
    return [blocker, *tasks]


async def test_what_gathers_while_the_engine_is_busy_is_one_batch(model: Model, gate: Gate) -> None:
    engine = RecordingEngine()
    batcher = Batcher(engine, BatchPolicy(), threads=1)
    tasks = await gathered(batcher, model, gate, [work(model, unit) for unit in (0, 1, 2, 4)])
    gate.opened.set()
    together = await asyncio.gather(*tasks)
    assert engine.sizes == [1, 4]
    for unit, outcome in zip((0, 1, 2, 4), together[1:], strict=True):
        (alone,) = engine.run(model, "bank", [work(model, unit)])
        assert np.array_equal(alone.result.scores, outcome.result.scores)
    await batcher.close()


@pytest.mark.parametrize("inline_s", [0.0, float("inf")])
async def test_chunks_that_come_round_after_round_are_one_batch(model: Model, inline_s: float) -> None:
    """As from sockets that were readable together; what comes after a quiet round runs by itself."""

    async def later(batcher: Batcher, rounds: int) -> Outcome:
        for _ in range(rounds):
            await asyncio.sleep(0)
        return await batcher.run(model, "bank", work(model), 4)

    engine = RecordingEngine()
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=inline_s)
    await batcher.run(model, "bank", work(model), 4)  # loads the graph
    await asyncio.gather(*(later(batcher, n) for n in range(4)))
    assert engine.sizes == [1, 4]
    await asyncio.gather(*(later(batcher, n) for n in (0, 2 * MOST_ROUNDS)))
    assert engine.sizes == [1, 4, 1, 1]
    await batcher.close()


async def test_a_batch_starts_though_chunks_keep_coming(model: Model) -> None:
    engine = RecordingEngine()
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=float("inf"))
    await batcher.run(model, "bank", work(model), 4)
    tasks = []
    for _ in range(3 * MOST_ROUNDS):
        tasks.append(asyncio.create_task(batcher.run(model, "bank", work(model), 4)))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert len(engine.sizes) > 2
    assert max(engine.sizes) <= MOST_ROUNDS + 1
    await batcher.close()


@pytest.mark.parametrize("leaving", [0, 2, 3])
async def test_a_caller_that_leaves_harms_nobody(model: Model, gate: Gate, leaving: int) -> None:
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    tasks = await gathered(batcher, model, gate, [work(model, unit) for unit in (0, 1, 2, 4)])
    tasks[1 + leaving].cancel()
    gate.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [
        index == 1 + leaving for index in range(5)
    ]
    assert isinstance(await batcher.run(model, "bank", work(model), 4), Outcome)
    await batcher.close()


@pytest.mark.parametrize("index", [0, 2, 3])
async def test_an_error_reaches_only_the_caller_whose_chunk_it_is(model: Model, gate: Gate, index: int) -> None:
    units = [0, 1, 2, 4]
    units[index] = RecordingEngine.POISON
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    tasks = await gathered(batcher, model, gate, [work(model, unit) for unit in units])
    gate.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, ArtifactError) for result in results[1:]] == [i == index for i in range(4)]
    await batcher.close()


async def test_an_unexpected_error_leaves_nobody_waiting(model: Model, gate: Gate) -> None:
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    tasks = await gathered(batcher, model, gate, [work(model), work(model)])
    gate.failure = RuntimeError("defect")
    gate.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, RuntimeError | ArtifactError) for result in results)
    await batcher.close()


async def test_an_idle_engine_may_wait_for_a_batch(model: Model) -> None:
    engine, now = RecordingEngine(), [0.0]
    batcher = Batcher(engine, BatchPolicy(max_batch=2, max_wait_s=3600.0), threads=1, clock=lambda: now[0])
    first = asyncio.create_task(batcher.run(model, "bank", work(model), 4))
    await asyncio.sleep(0)
    assert engine.sizes == []
    await asyncio.gather(first, batcher.run(model, "bank", work(model), 4))
    assert engine.sizes == [2]
    await batcher.close()


async def test_closing_runs_what_waits(model: Model) -> None:
    batcher = Batcher(RecordingEngine(), BatchPolicy(max_wait_s=3600.0), threads=1)
    task = asyncio.create_task(batcher.run(model, "bank", work(model), 4))
    await asyncio.sleep(0)
    await batcher.close()
    assert isinstance(await task, Outcome)


class Threads(RecordingEngine):
    """Keeps which thread each batch ran on."""

    def __init__(self) -> None:
        super().__init__()
        self.on_loop: list[bool] = []

    def run(self, model: Model, form: FormName, batch: Sequence[Work]) -> list[Outcome]:
        self.on_loop.append(threading.current_thread() is threading.main_thread())
        return super().run(model, form, batch)


async def warmed(engine: RecordingEngine, model: Model) -> Batcher:
    """A batcher that runs on the loop whatever it knows the length of."""
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=3600.0)
    await batcher.run(model, "bank", work(model), 4)
    return batcher


async def test_a_short_batch_runs_on_the_loop_and_the_first_of_a_model_on_a_thread(model: Model) -> None:
    engine = Threads()
    batcher = await warmed(engine, model)
    await asyncio.gather(*(batcher.run(model, "bank", work(model, unit), 4) for unit in (0, 1, 2)))
    assert engine.on_loop == [False, True]
    assert engine.sizes == [1, 3]  # what arrived in one round of the loop is one batch
    await batcher.close()


async def test_a_batch_that_is_expected_to_be_long_runs_on_a_thread(model: Model) -> None:
    engine = Threads()
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=1e-12)
    for _ in range(3):
        await batcher.run(model, "bank", work(model), 4)
    assert engine.on_loop == [False] * 3
    await batcher.close()


class Metered(Threads):
    """Takes a millisecond a step, on a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def run(self, model: Model, form: FormName, batch: Sequence[Work]) -> list[Outcome]:
        self.now_s += 0.001 * sum(item.chunk.steps for item in batch if isinstance(item.chunk, SpikeChunk))
        return super().run(model, form, batch)


async def test_a_batch_is_expected_to_take_longer_the_more_steps_it_has(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Metered()
    clock = SimpleNamespace(perf_counter=lambda: engine.now_s, monotonic=lambda: engine.now_s)
    monkeypatch.setattr("service.batching.batcher.time", clock)
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=0.05)
    for steps in (99, 9, 99, 9):
        await batcher.run(model, "bank", work(model, steps=steps), steps)
    assert engine.on_loop == [False, True, False, True]  # 100 ms and 10 ms
    await asyncio.gather(*(batcher.run(model, "bank", work(model, steps=9), 9) for _ in range(8)))
    assert engine.sizes[4:] == [8]
    assert engine.on_loop[4:] == [False]  # 80 ms together
    await batcher.close()


@pytest.mark.parametrize("leaving", [0, 2, 3])
async def test_a_caller_that_leaves_harms_nobody_on_the_loop(model: Model, leaving: int) -> None:
    engine = RecordingEngine()
    batcher = await warmed(engine, model)
    tasks = [asyncio.create_task(batcher.run(model, "bank", work(model, unit), 4)) for unit in (0, 1, 2, 4)]
    await asyncio.sleep(0)
    tasks[leaving].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [i == leaving for i in range(4)]
    assert engine.sizes == [1, 4]
    await batcher.close()


@pytest.mark.parametrize("index", [0, 2, 3])
async def test_an_error_on_the_loop_reaches_only_the_caller_whose_chunk_it_is(model: Model, index: int) -> None:
    units = [0, 1, 2, 4]
    units[index] = RecordingEngine.POISON
    batcher = await warmed(RecordingEngine(), model)
    tasks = [asyncio.create_task(batcher.run(model, "bank", work(model, unit), 4)) for unit in units]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, ArtifactError) for result in results] == [i == index for i in range(4)]
    await batcher.close()
