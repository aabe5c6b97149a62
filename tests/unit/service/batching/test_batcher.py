"""Batches across callers: gathered while the engine is busy, and no caller harmed by another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.batching.backlog import BatchPolicy
from service.batching.batcher import MOST_ROUNDS, Batcher
from service.batching.estimates import SEGMENT_S, SETTLED
from service.engine.engine import Engine, Segment
from service.engine.work import Job, Outcome, Work, initial_stream
from service.errors import ArtifactError, HetsynError, InputError, RuntimeUnavailable
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.observe.watch import Watch
from service.runtime.device import Device
from service.wire.chunk import AudioChunk, Chunk, ValuesChunk, spike_chunk
from tests.support.artifacts.artifact import Takes, write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, RATE_HZ, STEP_SAMPLES, load_fake
from tests.support.artifacts.gate import Gate
from tests.support.artifacts.recording_engine import (
    Metered,
    RecordingEngine,
    Threads,
    gathered,
    together,
    warmed,
    work,
)
from tests.support.data.signals import audio_chunk, sound


async def test_what_gathers_while_the_engine_is_busy_is_one_batch(model: Model, gate: Gate) -> None:
    engine = RecordingEngine()
    batcher = Batcher(engine, BatchPolicy(), threads=1)
    tasks = await gathered(batcher, model, gate, [work(model, unit) for unit in (0, 1, 2, 4)])
    gate.opened.set()
    together = await asyncio.gather(*tasks)
    assert engine.sizes == [1, 4]
    for unit, outcome in zip((0, 1, 2, 4), together[1:], strict=True):
        (alone,) = engine.run(model, [work(model, unit)])
        assert np.array_equal(alone.result.scores, outcome.result.scores)
    await batcher.close()


@pytest.mark.parametrize("inline_s", [0.0, float("inf")])
async def test_chunks_that_come_round_after_round_are_one_batch(model: Model, inline_s: float) -> None:
    """As from sockets that were readable together; what comes after a quiet round runs by itself."""

    async def later(batcher: Batcher, rounds: int) -> Outcome:
        for _ in range(rounds):
            await asyncio.sleep(0)
        return await batcher.run(model, work(model))

    engine = RecordingEngine()
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=inline_s)
    await batcher.run(model, work(model))  # loads the graph
    await asyncio.gather(*(later(batcher, n) for n in range(4)))
    assert engine.sizes == [1, 4]
    await asyncio.gather(*(later(batcher, n) for n in (0, 2 * MOST_ROUNDS)))
    assert engine.sizes == [1, 4, 1, 1]
    await batcher.close()


async def test_a_batch_starts_though_chunks_keep_coming(model: Model) -> None:
    engine = RecordingEngine()
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=float("inf"))
    await batcher.run(model, work(model))
    tasks = []
    for _ in range(3 * MOST_ROUNDS):
        tasks.append(asyncio.create_task(batcher.run(model, work(model))))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert len(engine.sizes) > 2
    assert max(engine.sizes) <= MOST_ROUNDS + 1
    await batcher.close()


@pytest.mark.parametrize("on_loop", [False, True])
@pytest.mark.parametrize("leaving", [0, 2, 3])
async def test_a_caller_that_leaves_harms_nobody(model: Model, gate: Gate, leaving: int, on_loop: bool) -> None:
    engine = RecordingEngine()
    works = [work(model, unit) for unit in (0, 1, 2, 4)]
    batcher, tasks = await together(engine, model, gate, works, on_loop=on_loop)
    tasks[leaving].cancel()
    gate.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [i == leaving for i in range(4)]
    assert engine.sizes == [1, 3]
    assert isinstance(await batcher.run(model, work(model)), Outcome)
    await batcher.close()


async def test_a_caller_that_leaves_as_its_batch_ends_harms_nobody(model: Model, gate: Gate) -> None:
    class Leaving(RecordingEngine):
        def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
            if len(segment.pieces) > 1:
                tasks[1].cancel()  # it runs again only after the batch was answered
            return super().compute(model, segment)

    works = [work(model, unit) for unit in (0, 1, 2)]
    batcher, tasks = await together(Leaving(), model, gate, works, on_loop=True)
    gate.opened.set()
    async with asyncio.timeout(10):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Outcome, asyncio.CancelledError, Outcome]
    await batcher.close()


@pytest.mark.parametrize("on_loop", [False, True])
@pytest.mark.parametrize("index", [0, 2, 3])
async def test_an_error_reaches_only_the_caller_whose_chunk_it_is(
    model: Model, gate: Gate, index: int, on_loop: bool
) -> None:
    units = [0, 1, 2, 4]
    units[index] = RecordingEngine.POISON
    works = [work(model, unit) for unit in units]
    batcher, tasks = await together(RecordingEngine(), model, gate, works, on_loop=on_loop)
    gate.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, ArtifactError) for result in results] == [i == index for i in range(4)]
    await batcher.close()


async def test_an_unexpected_error_leaves_nobody_waiting(model: Model, gate: Gate) -> None:
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    tasks = await gathered(batcher, model, gate, [work(model), work(model)])
    gate.failure = RuntimeError("defect")
    gate.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, RuntimeError | ArtifactError) for result in results)
    await batcher.close()


async def test_closing_runs_what_waits(model: Model) -> None:
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    task = asyncio.create_task(batcher.run(model, work(model)))
    await asyncio.sleep(0)
    await batcher.close()
    assert isinstance(await task, Outcome)


async def test_a_short_batch_runs_on_the_loop_and_the_first_of_a_model_on_a_thread(model: Model) -> None:
    engine = Threads()
    batcher = await warmed(engine, model)
    await asyncio.gather(*(batcher.run(model, work(model, unit)) for unit in (0, 1, 2)))
    assert engine.on_loop == [False, True]
    assert engine.sizes == [1, 3]  # what arrived in one round of the loop is one batch
    await batcher.close()


async def test_a_batch_that_is_expected_to_be_long_runs_on_a_thread(model: Model) -> None:
    engine = Threads()
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=1e-12)
    for _ in range(3):
        await batcher.run(model, work(model))
    assert engine.on_loop == [False] * 3
    await batcher.close()


@pytest.mark.parametrize(("rate_hz", "on_loop"), [(2 * RATE_HZ, True), (191_999, False)])
async def test_a_rate_that_is_slow_to_resample_runs_on_a_thread(model: Model, rate_hz: int, on_loop: bool) -> None:
    engine = Threads()
    batcher = await warmed(engine, model)
    stream = initial_stream(model)
    step = AudioChunk(np.zeros(STEP_SAMPLES, np.float32), RATE_HZ)
    await batcher.run(model, Work(stream, step, end=False))  # what the encoder takes for a step is known
    for end in (False, False, True):
        chunk = AudioChunk(np.zeros(100, np.float32), rate_hz)
        stream = (await batcher.run(model, Work(stream, chunk, end=end))).stream
    assert engine.on_loop[-1] is on_loop
    await batcher.close()


@pytest.mark.parametrize(
    ("rate_hz", "on_loop"), [(2 * RATE_HZ, True), (44_100, True), (171_850, False), (191_999, False)]
)
async def test_the_first_chunk_of_a_rate_that_is_slow_to_resample_runs_on_a_thread_too(
    model: Model, rate_hz: int, on_loop: bool
) -> None:
    engine = Threads()
    batcher = await warmed(engine, model)
    for rate in (RATE_HZ, RATE_HZ, rate_hz):  # what the encoder takes for a step is known
        chunk = AudioChunk(np.zeros(STEP_SAMPLES * rate // RATE_HZ, np.float32), rate)
        await batcher.run(model, Work(initial_stream(model), chunk, end=True))
    assert engine.on_loop[-1] is on_loop
    await batcher.close()


async def test_the_event_loop_does_not_wait_for_a_gpu(models: Path) -> None:
    on_gpu = ModelCatalog(models, load=load_fake, device=Device("a fake GPU", load_fake)).get()
    engine = Threads()
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=float("inf"))
    for _ in range(3):
        await batcher.run(on_gpu, work(on_gpu))
    assert engine.on_loop == [False] * 3
    await batcher.close()


async def test_a_batch_is_expected_to_take_longer_the_more_steps_it_has(model: Model) -> None:
    engine = Metered()
    batcher = engine.batcher(inline_s=0.05)
    for steps in (9, 9, 99, 9):
        before = len(engine.on_loop)
        await batcher.run(model, work(model, steps=steps))
        assert engine.on_loop[before:] == [False] if before == 0 else engine.on_loop[before] == (steps == 9)
    before = len(engine.on_loop)
    await asyncio.gather(*(batcher.run(model, work(model, steps=9)) for _ in range(8)))
    assert all(engine.on_loop[before:])  # 80 ms together, so the first ones run, and then the others
    assert engine.sizes[before:] == [5, 3]
    assert engine.longest_on_loop_s < 0.05
    before = len(engine.on_loop)
    await asyncio.gather(*(batcher.run(model, work(model, steps=99)) for _ in range(2)))
    assert not any(engine.on_loop[before:])  # each takes longer
    await batcher.close()


def dense(model: Model, steps: int) -> Work:
    """A spike on every channel in every step."""
    step, unit = np.divmod(np.arange(steps * CHANNELS), CHANNELS)
    return Work(initial_stream(model), spike_chunk(steps, step, unit), end=False)


async def test_a_dense_chunk_after_many_quiet_ones_does_not_hold_the_loop(model: Model) -> None:
    """Its cost is not known: a quiet chunk of as many steps takes a hundredth of it."""
    engine = Metered()
    batcher = engine.batcher(inline_s=4e-3)
    for _ in range(30):
        await batcher.run(model, work(model, steps=2))
    assert engine.on_loop[-1]
    before = len(engine.on_loop)
    await batcher.run(model, dense(model, 2))
    assert not engine.on_loop[before]
    assert engine.longest_on_loop_s <= 4e-3
    await batcher.close()


async def test_a_short_chunk_waits_for_a_segment_of_a_long_one_and_not_for_all_of_it(model: Model) -> None:
    engine = Metered()
    batcher = engine.batcher(inline_s=4e-3)
    for _ in range(SETTLED):  # the cost of such work is known
        await batcher.run(model, work(model, steps=3))
    long = asyncio.create_task(batcher.run(model, work(model, steps=5_000)))
    while not engine.now_s > 0.5:  # it is under way
        await asyncio.sleep(0)
    arrived_s = engine.now_s
    await batcher.run(model, work(model, steps=3))
    assert engine.now_s - arrived_s <= 3 * SEGMENT_S  # one that runs, one that was chosen, and its own
    assert not long.done()
    assert (await long).result.steps == 5_000
    assert engine.longest_s <= 2 * SEGMENT_S
    await batcher.close()


class MeteredAudio(Metered):
    """Takes a tenth of a millisecond a step, and a whole one to encode it."""

    def take(self, model: Model, jobs: Sequence[Job], max_steps: int) -> Segment:
        segment = super().take(model, jobs, max_steps)
        self.now_s += 1e-3 * segment.steps
        return segment

    def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
        results = Engine.compute(self, model, segment)
        self.now_s += 1e-4 * segment.steps
        self.longest_s = max(self.longest_s, 1.1e-3 * segment.steps)
        return results


@pytest.mark.parametrize("together", [1, 3])
async def test_the_time_of_the_encoder_counts_in_a_segment(model: Model, together: int) -> None:
    engine = MeteredAudio()
    batcher = engine.batcher(inline_s=0.0)
    audio = Work(initial_stream(model), audio_chunk(sound(300 * STEP_SAMPLES, 1)), end=False)
    await batcher.run(model, audio)  # its cost is known now
    engine.longest_s = 0.0
    await asyncio.gather(*(batcher.run(model, audio) for _ in range(together)))
    assert 0 < engine.longest_s <= 2 * SEGMENT_S
    await batcher.close()


class DearSpikes(Metered):
    """Takes 20 ms for a step of spikes, and a millisecond to encode one of sound."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded_on_loop: list[int] = []

    def take(self, model: Model, jobs: Sequence[Job], max_steps: int) -> Segment:
        segment = super().take(model, jobs, max_steps)
        if jobs[0].stream.kind == "audio":
            self.now_s += 1e-3 * segment.steps
            if threading.current_thread() is threading.main_thread():
                self.encoded_on_loop.append(segment.steps)
        return segment

    def compute(self, model: Model, segment: Segment) -> list[Job | Outcome | HetsynError]:
        if segment.pieces[0].job.stream.kind == "spikes":
            self.now_s += 2e-2 * segment.steps
        return Engine.compute(self, model, segment)


async def test_the_time_of_the_encoder_counts_where_the_network_then_runs_on_a_thread(model: Model) -> None:
    engine = DearSpikes()
    batcher = engine.batcher(inline_s=0.05)
    audio = Work(initial_stream(model), audio_chunk(sound(10 * STEP_SAMPLES, 1)), end=False)
    for _ in range(2 * SETTLED):
        await batcher.run(model, work(model, steps=10))
        await batcher.run(model, audio)
    assert set(engine.encoded_on_loop) == {10}
    engine.encoded_on_loop.clear()
    await asyncio.gather(*(batcher.run(model, audio) for _ in range(8)))
    assert 0 < max(engine.encoded_on_loop) <= 50
    await batcher.close()


async def test_chunks_without_a_step_say_nothing_of_what_a_step_takes(model: Model) -> None:
    """Sound shorter than a step, and ends without input."""
    engine = Metered()
    batcher = engine.batcher(inline_s=10e-3)

    def heard(steps: float) -> Work:
        chunk = audio_chunk(sound(100 * STEP_SAMPLES, 1)[: int(steps * STEP_SAMPLES)])
        return Work(initial_stream(model), chunk, end=False)

    streams = []
    for begun in (work(model, steps=3), heard(3)):
        for _ in range(2 * SETTLED):
            after = (await batcher.run(model, begun)).stream
        streams.append(after)
    for _ in range(400):
        await batcher.run(model, heard(0.5))
        await batcher.run(model, Work(streams[0], None, end=True))
    assert engine.on_loop[-1]
    before = len(engine.on_loop)
    await batcher.run(model, heard(100))
    await batcher.run(model, work(model, steps=100))
    assert not any(engine.on_loop[before:])
    assert engine.longest_s <= 2 * SEGMENT_S
    await batcher.close()


@pytest.mark.parametrize("takes", ["values", "rows", "frames"])
async def test_values_are_batched_and_cut_as_the_other_kinds(tmp_path: Path, takes: Takes) -> None:
    write_artifact(tmp_path, takes=takes)
    model = ModelCatalog(tmp_path, load=load_fake).get()

    def of_values(steps: int, seed: int = 0) -> Work:
        values = np.random.default_rng(seed).normal(size=(steps, model.row_values)).astype(np.float32)
        return Work(initial_stream(model), ValuesChunk(values), end=seed % 2 == 1)

    engine = Metered()
    batcher = engine.batcher(inline_s=0.05)
    for _ in range(4):
        await batcher.run(model, of_values(3))
    assert engine.on_loop[0] is False  # its cost was not known
    assert engine.on_loop[-1] is True
    works = [of_values(steps, seed) for seed, steps in enumerate((3, 700, 3, 90, 1))] + [work(model, steps=9)]
    outcomes = await asyncio.gather(*(batcher.run(model, each) for each in works))
    for each, outcome in zip(works, outcomes, strict=True):
        (alone,) = Engine(10_000, 10_000).run(model, [each])
        assert outcome.result.probabilities.tobytes() == alone.result.probabilities.tobytes()
        assert outcome.result.steps == alone.result.steps
    assert engine.longest_s <= 0.05
    await batcher.close()


@pytest.mark.parametrize(
    ("takes", "chunk", "units"),
    [
        ("spikes", spike_chunk(100, [], []), 101),
        ("spikes", spike_chunk(100, range(7), [0] * 7), 101),
        ("spikes", spike_chunk(100, range(100), [0] * 100), 113),
        ("values", ValuesChunk(np.ones((25, CHANNELS), np.float32)), 26),
    ],
    ids=["steps", "few spikes", "spikes", "rows"],
)
async def test_spikes_are_work_beside_the_steps_and_a_row_of_values_is_a_step(
    tmp_path: Path, gate: Gate, takes: Takes, chunk: Chunk, units: int
) -> None:
    write_artifact(tmp_path, takes=takes)
    model = ModelCatalog(tmp_path, load=gate.load).get()
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1)
    gate.opened.clear()
    task = asyncio.create_task(batcher.run(model, Work(initial_stream(model), chunk, end=False)))
    await asyncio.sleep(0)
    assert batcher.waiting_work == units
    gate.opened.set()
    await task
    await batcher.close()


@pytest.mark.parametrize("inline_s", [0.0, 1.0], ids=["thread", "loop"])
async def test_values_that_a_cell_cannot_compute_are_the_chunk_s_fault(
    tmp_path: Path, gate: Gate, inline_s: float
) -> None:
    """As an index outside an embedding, with which any client could fill the error log."""
    write_artifact(tmp_path, takes="values")
    model = ModelCatalog(tmp_path, load=gate.load).get()
    batcher = Batcher(Engine(max_chunk_steps=100), BatchPolicy(), threads=1, inline_s=inline_s)
    values = Work(initial_stream(model), ValuesChunk(np.zeros((3, CHANNELS), np.float32)), end=False)
    await batcher.run(model, values)
    gate.failure = ArtifactError("the graph failed in ONNX Runtime (index 77 is out of bounds)")
    with pytest.raises(InputError, match=r"cannot compute these values .*index 77.*: send values that it takes"):
        await batcher.run(model, values)
    with pytest.raises(ArtifactError):  # no client chooses the numbers of spikes
        await batcher.run(model, work(model))
    await batcher.close()


@pytest.mark.parametrize("kind", ["values", "spikes"])
async def test_what_a_gpu_cannot_compute_is_not_the_client_s_fault(tmp_path: Path, gate: Gate, kind: str) -> None:
    """Its memory may be full. Those who run the server find it in the log."""
    write_artifact(tmp_path, takes="values")
    model = ModelCatalog(tmp_path, load=load_fake, device=Device("a fake GPU", gate.load)).get()
    batcher = Batcher(Engine(max_chunk_steps=100), BatchPolicy(), threads=1)
    gate.failure = ArtifactError("the graph failed in ONNX Runtime (CUDA failure 2: out of memory)")
    values = Work(initial_stream(model), ValuesChunk(np.zeros((3, CHANNELS), np.float32)), end=False)
    with pytest.raises(RuntimeUnavailable if kind == "values" else ArtifactError, match="out of memory"):
        await batcher.run(model, values if kind == "values" else work(model))
    await batcher.close()


async def test_chunks_whose_spikes_are_wanted_have_batches_of_their_own(model: Model, gate: Gate) -> None:
    engine = RecordingEngine()
    batcher = Batcher(engine, BatchPolicy(), threads=1)
    works = [work(model)._replace(spikes=n % 2 == 0) for n in range(5)]
    tasks = await gathered(batcher, model, gate, works)
    gate.opened.set()
    outcomes = [await task for task in tasks]
    assert sorted(engine.sizes) == [1, 2, 3]
    assert [outcome.result.raster is None for outcome in outcomes] == [True, False, True, False, True, False]
    assert len({outcome.result.probabilities.tobytes() for outcome in outcomes}) == 1
    await batcher.close()


@pytest.mark.parametrize("inline_s", [0.0, 3600.0])
async def test_the_time_of_a_chunk_is_that_of_its_segments(model: Model, inline_s: float) -> None:
    batcher = Batcher(RecordingEngine(), BatchPolicy(), threads=1, inline_s=inline_s)
    for steps in (4, 3000):  # the first of a model runs on a thread, and so does a long one
        for _ in range(2):
            watch = Watch(time.perf_counter())
            watch = watch._replace(ran=(await batcher.run(model, work(model, steps=steps))).ran)
            assert watch.ran.engine_s > 0
            assert watch.queue_s > 0
    await batcher.close()


async def test_long_chunks_take_turns(model: Model) -> None:
    """Of two chunks of one length neither is done much before the other."""
    engine = Metered()
    batcher = engine.batcher(inline_s=0.0)
    done_s: list[float] = []

    async def run(steps: int) -> None:
        await batcher.run(model, work(model, steps=steps))
        done_s.append(engine.now_s)

    await asyncio.gather(run(1_500), run(1_500))
    assert done_s[1] - done_s[0] <= 2 * SEGMENT_S
    await batcher.close()
