"""Chunks in which nobody speaks: the network does not run, so they say nothing of its time."""

from __future__ import annotations

import numpy as np

from service.batching.backlog import BatchPolicy
from service.batching.batcher import Batcher
from service.contract.endpointing import EndpointingChange
from service.engine.endpointing_choice import with_endpointing
from service.engine.engine import Engine
from service.engine.work import Job, Work, begin, initial_stream, size_of
from service.models.model import Model
from service.wire.chunk import SpikeChunk
from tests.support.artifacts.fake_graph import RATE_HZ
from tests.support.artifacts.recording_engine import RecordingEngine
from tests.support.data.signals import audio_chunk, words


def silence(model: Model, steps: int) -> Work:
    chunk = SpikeChunk(steps, np.zeros(0, np.int64), np.zeros(0, np.int64))
    stream = with_endpointing(model, initial_stream(model), chunk, EndpointingChange(threshold=0.5))
    return Work(stream, chunk, end=False)


async def test_the_estimate_of_a_network_is_not_of_chunks_that_it_does_not_hear(model: Model) -> None:
    engine = RecordingEngine()
    batcher = Batcher(engine, BatchPolicy(), threads=1, inline_s=0.0, timer=iter(np.arange(0.0, 1e3, 1.0)).__next__)
    for _ in range(20):
        await batcher.run(model, silence(model, 1))
    assert batcher._estimates.network[model.name, model.version].seconds(2, 0) == float("inf")
    await batcher.close()


def test_work_that_is_left_does_not_shrink_while_an_utterance_ends(model: Model) -> None:
    sound = audio_chunk(words(3))
    stream = with_endpointing(model, initial_stream(model), sound, EndpointingChange(silence_s=0.1))
    engine = Engine(20_000)
    job, ended = begin(model, Work(stream, sound, end=True)), 0
    while isinstance(job, Job):
        ended += job.after is not None
        left, _ = size_of(model, job)
        assert left * model.encoder.samples_per_step >= len(sound.samples) - _position(job) - RATE_HZ // 50
        (job,) = engine.compute(model, engine.take(model, [job], 7))  # type: ignore[assignment]
    assert ended >= 3


def _position(job: Job) -> int:
    stream = job.stream if job.after is None else job.after.stream
    assert stream.utterances is not None
    return stream.utterances.position
