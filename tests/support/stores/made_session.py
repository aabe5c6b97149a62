"""Sessions made on an engine, without a registry."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from service.engine.engine import Engine
from service.engine.work import Utterances, Work, initial_stream
from service.models.model import Model
from service.session.protocol import Answered, Known, Progress
from service.session.session import Kept, Session
from service.wire.chunk import ValuesChunk, spike_chunk
from tests.support.artifacts.fake_graph import LABELS
from tests.support.clients.replies import Reply
from tests.support.data.signals import audio_chunk, sound, spikes


def made_session(
    model: Model,
    *,
    kind: str = "audio",
    rate_hz: int = 16_000,
    samples: int = 1234,
    end: bool = False,
    chunks: int = 2,
) -> Session:
    """A session as the registry makes it."""
    engine = Engine(20_000, 500)
    stream = initial_stream(model)
    steps = 0
    for n in range(chunks):
        chunk: Any = spike_chunk(10, *spikes(10, n))
        if kind == "audio":
            chunk = audio_chunk(sound(samples, n), rate_hz)
        elif kind == "values":
            chunk = ValuesChunk(np.random.default_rng(n).normal(size=(10, model.row_values)).astype(np.float32))
        (outcome,) = engine.run(model, [Work(stream, chunk, end and n == chunks - 1)])
        stream = outcome.stream
        steps += outcome.result.steps
    reply = Reply(
        session="abc", model=model.name, version=model.version, seq=chunks - 1,
        steps=outcome.result.steps, total_steps=steps,
        label="one", labels=LABELS, probabilities=tuple(outcome.result.probabilities.tolist()), end=end,
    )  # fmt: skip
    progress: Progress[Kept] = Progress(chunks, steps, end, Answered(chunks - 1, b"d" * 16, reply.to_json()))
    return Session(model, Known(progress, 1_000.25, 2_000.5), None if end else stream)


def assert_same(one: Session, other: Session) -> None:
    """Both have the same progress and, to the bit, the same stream."""
    assert (one.model, one.known) == (other.model, other.known)
    assert (one.stream is None) == (other.stream is None)
    if one.stream is None or other.stream is None:
        return
    assert one.stream.kind == other.stream.kind
    rows = [stream.network for session, stream in ((one, one.stream), (other, other.stream))]
    assert rows[0].dtype == rows[1].dtype == np.float32
    np.testing.assert_array_equal(rows[0], rows[1])
    assert one.stream.step == other.stream.step
    assert list(one.stream.encoder) == list(other.stream.encoder)
    for name, value in one.stream.encoder.items():
        assert value.dtype == other.stream.encoder[name].dtype
        np.testing.assert_array_equal(value, other.stream.encoder[name])
    np.testing.assert_array_equal(one.stream.pending, other.stream.pending)
    assert_same_utterances(one.stream.utterances, other.stream.utterances)
    have_r, want_r = one.stream.resampler, other.stream.resampler
    assert (have_r is None) == (want_r is None)
    if have_r is not None and want_r is not None:
        np.testing.assert_array_equal(have_r.waiting, want_r.waiting)
        for field in fields(have_r):  # a dataclass with an array cannot be compared as one
            assert field.name == "waiting" or getattr(have_r, field.name) == getattr(want_r, field.name)


def assert_same_utterances(one: Utterances | None, other: Utterances | None) -> None:
    assert (one is None) == (other is None)
    if one is None or other is None:
        return
    assert one._replace(recent=None) == other._replace(recent=None)
    assert type(one.recent) is type(other.recent)
    for mine, theirs in zip(one.recent or (), other.recent or (), strict=True):
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
