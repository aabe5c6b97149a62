"""Chunks that a batcher drops or refuses: their callers leave, they come too late, or their states are broken."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.batching.backlog import BatchPolicy
from service.batching.batcher import Batcher
from service.batching.estimates import SEGMENT_S, SETTLED
from service.engine.engine import Engine, Segment
from service.engine.work import Job, Outcome
from service.errors import HetsynError, Overloaded, ShuttingDown, StateBroken
from service.models.catalog import ModelCatalog
from service.models.model import Model
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import load_fake
from tests.support.artifacts.gate import WITHIN_S, Gate
from tests.support.artifacts.recording_engine import Metered, RecordingEngine, gathered, together, work


@pytest.fixture
def other(tmp_path: Path) -> Model:
    """Another model, whose chunks are another group."""
    write_artifact(tmp_path / "others", "other")
    return ModelCatalog(tmp_path / "others", load=load_fake).get()


async def known(engine: Metered, *models: Model, **limits: Any) -> Batcher:
    """A batcher on the engine's clock that knows the cost of its work, and runs all of it on one thread."""
    batcher = engine.batcher(inline_s=0.0, **limits)
    for model in models:
        for _ in range(SETTLED):
            await batcher.run(model, work(model, steps=3))
    engine.sizes.clear()
    return batcher


async def test_a_chunk_whose_caller_leaves_stops_at_the_next_segment(model: Model) -> None:
    engine = Metered()
    batcher = await known(engine, model)
    long = asyncio.create_task(batcher.run(model, work(model, steps=5_000)))
    while len(engine.sizes) < 10:
        await asyncio.sleep(0)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    left_s = engine.now_s
    await batcher.close()
    assert engine.now_s - left_s <= 2 * SEGMENT_S  # what ran then, of 5 s
    assert batcher.waiting_work == 0


async def test_chunks_whose_callers_leave_are_not_begun(model: Model, gate: Gate) -> None:
    """As of 1,000 connections that close at once, with their turn still to come."""
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    blocker, *tasks = await gathered(batcher, model, gate, [work(model, steps=5_000) for _ in range(1_000)])
    for task in tasks:
        task.cancel()
    good = asyncio.create_task(batcher.run(model, work(model)))
    calls = gate.calls
    gate.opened.set()
    assert isinstance(await good, Outcome)
    await blocker
    assert gate.calls == calls + 1  # the good one alone
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert batcher.waiting_work == 0
    await batcher.close()


async def test_mates_of_a_caller_that_leaves_get_their_own_bits(model: Model) -> None:
    engine = Metered()
    batcher = await known(engine, model)
    works = [work(model, unit, steps=300) for unit in (0, 1, 2)]
    tasks = [asyncio.create_task(batcher.run(model, item)) for item in works]
    while 3 not in engine.sizes:
        await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    for index in (0, 2):
        (alone,) = Engine(10_000, 10_000).run(model, [works[index]])
        outcome = results[index]
        assert isinstance(outcome, Outcome)
        assert outcome.result.scores.tobytes() == alone.result.scores.tobytes()
    await batcher.close()


async def test_a_chunk_that_has_not_begun_in_time_is_refused_and_costs_nothing(model: Model, other: Model) -> None:
    engine = Metered()
    batcher = await known(engine, model, other)
    long = asyncio.create_task(batcher.run(model, work(model, steps=400)))
    while not engine.sizes:
        await asyncio.sleep(0)
    due_s = engine.now_s  # the segment that runs takes longer
    late = asyncio.create_task(batcher.run(other, work(other, steps=3), due_s=due_s))
    begun = asyncio.create_task(batcher.run(model, work(model, steps=400), due_s=due_s + 10 * SEGMENT_S))
    with pytest.raises(Overloaded, match="waited too long for its turn"):
        await late
    assert engine.now_s <= due_s + 2 * SEGMENT_S
    assert (await begun).result.steps == 400  # what has begun is finished, however long that takes
    assert engine.now_s > due_s + 10 * SEGMENT_S
    await long
    assert batcher.waiting_work == 0
    await batcher.close()


async def test_more_work_than_may_wait_is_refused_at_once(model: Model) -> None:
    engine = Metered()
    batcher = await known(engine, model, max_work=4_000, client_share=0.5)
    longest = asyncio.create_task(batcher.run(model, work(model, steps=5_000), client="a"))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="5001 steps of this client are waiting") as refused:
        await batcher.run(model, work(model), client="a")
    assert refused.value.retry_after_s == 3.0  # 3,006 too many, each 0.75 ms by the work before
    assert isinstance(await batcher.run(model, work(model), client="b"), Outcome)
    longest.cancel()
    await asyncio.sleep(0)
    assert isinstance(await batcher.run(model, work(model, steps=400), client="a"), Outcome)
    await batcher.close()


async def test_states_that_take_long_to_copy_make_batches_of_fewer_streams(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each segment copies them. Four streams of a step each would do little else."""
    monkeypatch.setattr("service.batching.estimates.COPIED_BYTES", model.initial_row.nbytes // 3)
    engine = Metered()
    batcher = await known(engine, model)
    long = [asyncio.create_task(batcher.run(model, work(model, steps=400))) for _ in range(4)]
    while len(engine.sizes) < 8:
        await asyncio.sleep(0)
    assert max(engine.sizes[4:]) == 1
    for task in long:
        task.cancel()
    await batcher.close()


@pytest.mark.parametrize("same_client", [False, True])
async def test_a_short_chunk_waits_for_a_few_segments_behind_many_long_ones(
    model: Model, other: Model, same_client: bool
) -> None:
    """Of another group, which would have been the last in order of arrival.

    Clients take turns. Of one client, a chunk waits for the segment that each of those before it has in turn.
    """
    engine = Metered()
    batcher = await known(engine, model, other)
    long = [asyncio.create_task(batcher.run(other, work(other, steps=5_000), client="a")) for _ in range(1_000)]
    while len(engine.sizes) < 3:
        await asyncio.sleep(0)
    before = len(engine.sizes)
    await batcher.run(model, work(model, steps=3), client="a" if same_client else "b")
    segments = len(engine.sizes) - before
    assert segments <= (1_000 / 4 + 3 if same_client else 3)  # a batch has four of the longest segments
    for task in long:
        task.cancel()
    await batcher.close()


async def test_a_batcher_that_stops_refuses_what_is_not_done(model: Model, other: Model) -> None:
    engine = Metered()
    batcher = await known(engine, model, other)
    running = asyncio.create_task(batcher.run(model, work(model, steps=5_000)))
    waiting = asyncio.create_task(batcher.run(other, work(other, steps=5_000)))
    while not engine.sizes:
        await asyncio.sleep(0)
    stopped_s = engine.now_s
    batcher.stop()
    results = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ShuttingDown] * 2
    assert engine.now_s <= stopped_s + 2 * SEGMENT_S
    with pytest.raises(ShuttingDown):
        await batcher.run(model, work(model))
    await batcher.close()


async def test_a_segment_that_does_not_end_keeps_no_server_from_its_end(
    model: Model, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.batching.batcher.ABANDON_S", 0.01)
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    gate.opened.clear()
    endless = asyncio.create_task(batcher.run(model, work(model)))
    await gate.computes()
    batcher.stop()
    with pytest.raises(ShuttingDown):
        await endless
    closing = asyncio.create_task(batcher.close())
    async with asyncio.timeout(60):
        while not gate.stops:
            await asyncio.sleep(0.001)
    gate.opened.set()  # as ONNX Runtime ends a run that is stopped
    await closing


async def test_a_segment_that_takes_long_is_awaited_where_somebody_waits(
    model: Model, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.batching.batcher.ABANDON_S", 0.01)
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    gate.opened.clear()
    long = asyncio.create_task(batcher.run(model, work(model)))
    await gate.computes()
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0.1)
    assert not gate.stops
    gate.opened.set()
    assert (await long).result.steps
    await closing


class BreakingEngine(RecordingEngine):
    """Finds the state of the second chunk of a batch broken."""

    def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
        results = super().compute(model, segment)
        return [StateBroken("broken") if index == 1 else result for index, result in enumerate(results)]


@pytest.mark.parametrize("on_loop", [False, True])
async def test_a_broken_state_reaches_only_its_caller_and_the_batch_runs_once(
    model: Model, gate: Gate, on_loop: bool
) -> None:
    engine = BreakingEngine()
    works = [work(model, unit) for unit in (1, 2, 4)]
    batcher, tasks = await together(engine, model, gate, works, on_loop=on_loop)
    gate.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Outcome, StateBroken, Outcome]
    assert engine.sizes == [1, 3]
    await batcher.close()


class ForgettingEngine(RecordingEngine):
    """Has no result of the last chunk of a batch."""

    def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
        return super().compute(model, segment)[: max(1, len(segment.pieces) - 1)]


@pytest.mark.parametrize("on_loop", [False, True])
async def test_a_defect_behind_the_engine_reaches_all_callers(model: Model, gate: Gate, on_loop: bool) -> None:
    works = [work(model, unit) for unit in (1, 2, 4)]
    batcher, tasks = await together(ForgettingEngine(), model, gate, works, on_loop=on_loop)
    gate.opened.set()
    async with asyncio.timeout(WITHIN_S):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    assert batcher.waiting_work == 0
    await batcher.close()
