from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.graph_io import NEXT_STATE, PROBABILITIES
from service.engine.engine import Engine
from service.engine.work import Job, Outcome, StreamState, Work, begin, initial_stream
from service.errors import ArtifactError, InputError, TooLarge, UnsupportedInput
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import Graph
from service.wire.chunk import AudioChunk, Chunk, spike_chunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import (
    CHANNELS,
    OUTPUTS,
    SKIP,
    STEP_SAMPLES,
    TAIL,
    Rule,
    load_fake,
    probabilities_of,
)
from tests.support.artifacts.gate import Gate
from tests.support.data.signals import audio_chunk, sound, spikes

ENGINE = Engine(max_chunk_steps=1000, segment_steps=7)


def run(model: Model, stream: StreamState, chunk: Chunk | None, end: bool = False, engine: Engine = ENGINE) -> Outcome:
    engine.check(model, stream, chunk)
    return engine.run(model, [Work(stream, chunk, end)])[0]


def same(first: StreamState, second: StreamState) -> bool:
    """Bit for bit."""
    rows: Any = (first.network, second.network)
    tensors = [rows] + [(first.encoder[name], second.encoder[name]) for name in (*first.encoder, *second.encoder)]
    return (
        first.step == second.step
        and all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in tensors)
        and first.pending.tobytes() == second.pending.tobytes()
        and first.kind == second.kind
    )


def test_spikes_reach_the_network_at_their_steps(digits: Model) -> None:
    times, units = spikes(23)
    result = run(digits, initial_stream(digits), spike_chunk(23, times, units)).result
    assert result.steps == 23
    assert result.readout is None
    ones = np.zeros((23, CHANNELS), np.float32)
    ones[times, units] = 1
    np.testing.assert_allclose(result.probabilities, probabilities_of(ones), atol=1e-6)


@settings(max_examples=30)
@given(
    rate_hz=st.sampled_from([8000, 16_000, 11_025]),
    cuts=st.lists(st.integers(0, 3000), max_size=15),
    segment=st.integers(1, 50),
)
def test_any_cutting_of_audio_gives_the_same_bits(digits: Model, rate_hz: int, cuts: list[int], segment: int) -> None:
    whole = audio_chunk(sound(3000)).samples
    expected = run(digits, initial_stream(digits), AudioChunk(whole, rate_hz), end=True)
    engine = Engine(1000, segment)
    stream, steps = initial_stream(digits), 0
    pieces = [piece for piece in np.split(whole, sorted(cuts)) if len(piece)]
    for index, piece in enumerate(pieces):
        outcome = run(digits, stream, AudioChunk(piece, rate_hz), index == len(pieces) - 1, engine)
        stream, steps = outcome.stream, steps + outcome.result.steps
    assert steps == expected.result.steps == -(-round(3000 * 8000 / rate_hz) // STEP_SAMPLES) + TAIL
    assert same(stream, expected.stream)
    assert outcome.result.probabilities.tobytes() == expected.result.probabilities.tobytes()


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 59), max_size=10, unique=True), segment=st.integers(1, 80))
def test_any_cutting_of_spikes_gives_the_same_bits(digits: Model, cuts: list[int], segment: int) -> None:
    times, units = spikes(60)
    expected = run(digits, initial_stream(digits), spike_chunk(60, times, units), end=True)
    stream = initial_stream(digits)
    edges = [0, *sorted(cuts), 60]
    for start, stop in pairwise(edges):
        chosen = (times >= start) & (times < stop)
        chunk = spike_chunk(stop - start, times[chosen] - start, units[chosen])
        stream = run(digits, stream, chunk, stop == 60, Engine(1000, segment)).stream
    assert same(stream, expected.stream)


def test_the_end_may_come_by_itself(digits: Model) -> None:
    whole = audio_chunk(sound(1234), 16_000)
    expected = run(digits, initial_stream(digits), whole, end=True)
    opened = run(digits, initial_stream(digits), whole)
    ended = run(digits, opened.stream, None, end=True)
    assert same(ended.stream, expected.stream)
    assert opened.result.steps + ended.result.steps == expected.result.steps


def test_chunks_without_a_step_run_together(digits: Model) -> None:
    opened = run(digits, initial_stream(digits), spike_chunk(20, *spikes(20)))
    outcomes = ENGINE.run(digits, [Work(opened.stream, spike_chunk(0, [], []), False)] * 2)
    for outcome in outcomes:
        assert same(outcome.stream, opened.stream)
        assert outcome.result.steps == 0
        assert outcome.result.probabilities.tobytes() == opened.result.probabilities.tobytes()


def test_a_batch_gives_what_each_chunk_gives_alone(digits: Model) -> None:
    times, units = spikes(20)
    opened = run(digits, initial_stream(digits), audio_chunk(sound(500, 3))).stream
    fresh = initial_stream(digits)
    batch = [
        Work(fresh, audio_chunk(sound(2000, 1)), False),
        Work(fresh, spike_chunk(20, times, units), True),
        Work(opened, audio_chunk(sound(700, 2)), True),
        Work(fresh, audio_chunk(sound(30, 4)), False),  # less than a step
        Work(fresh, spike_chunk(3, [1], [2]), False),
        Work(opened, None, True),
        Work(fresh, audio_chunk(sound(4000, 5), 16_000), False),
    ]
    together = ENGINE.run(digits, batch)
    for work, outcome in zip(batch, together, strict=True):
        alone = ENGINE.run(digits, [work])[0]
        assert same(outcome.stream, alone.stream)
        assert outcome.result.steps == alone.result.steps
        assert outcome.result.is_decided == alone.result.is_decided
        assert outcome.result.probabilities.tobytes() == alone.result.probabilities.tobytes()


def test_states_own_their_memory(digits: Model) -> None:
    work = Work(initial_stream(digits), spike_chunk(9, [1], [2]), False)
    for outcome in ENGINE.run(digits, [work] * 3):
        value: Any = outcome.stream.network
        assert value.base is None or value.base.size == value.size


def test_a_chunk_that_goes_on_keeps_no_readouts_of_its_batch(tmp_path: Path) -> None:
    write_artifact(tmp_path, rule="trace")
    model = ModelCatalog(tmp_path, load=load_fake).get()
    stream = initial_stream(model)
    jobs = [begin(model, Work(stream, spike_chunk(steps, [0], [1]), end=False)) for steps in (20, 3, 3, 3)]
    job = ENGINE.compute(model, ENGINE.take(model, jobs, 5))[0]
    assert isinstance(job, Job)
    assert [readout.shape for readout in job.readouts] == [(5, OUTPUTS)]
    assert all(readout.base is None for readout in job.readouts)


def test_samples_that_fill_no_step_wait(digits: Model) -> None:
    outcome = run(digits, initial_stream(digits), audio_chunk(sound(STEP_SAMPLES - 1)))
    assert (outcome.result.steps, len(outcome.stream.pending)) == (0, STEP_SAMPLES - 1)
    assert not outcome.result.is_decided
    np.testing.assert_array_equal(outcome.result.probabilities, np.full(OUTPUTS, np.float32(1 / OUTPUTS)))
    outcome = run(digits, outcome.stream, audio_chunk(sound(1)))
    assert (outcome.result.steps, len(outcome.stream.pending)) == (1, 0)


def test_a_chunk_without_a_step_repeats_the_result(digits: Model) -> None:
    first = run(digits, initial_stream(digits), audio_chunk(sound(1000)))
    second = run(digits, first.stream, audio_chunk(sound(1)))
    assert second.result.steps == 0
    assert second.result.is_decided
    np.testing.assert_array_equal(second.result.probabilities, first.result.probabilities)
    np.testing.assert_array_equal(second.result.scores, first.result.scores)


@pytest.mark.parametrize(("steps", "decided"), [(SKIP - 1, False), (SKIP, False), (SKIP + 1, True)])
def test_a_result_counts_once_a_step_counts(digits: Model, steps: int, decided: bool) -> None:
    assert run(digits, initial_stream(digits), spike_chunk(steps, [0], [0])).result.is_decided is decided


@pytest.mark.parametrize("rule", ["sum_softmax", "spike_count", "last", "trace"])
def test_each_rule_answers(tmp_path: Path, rule: Rule) -> None:
    write_artifact(tmp_path, rule=rule)
    model = ModelCatalog(tmp_path, load=load_fake).get()
    times, units = spikes(20)
    first = run(model, initial_stream(model), spike_chunk(20, times, units))
    again = run(model, replace_kind(first.stream), audio_chunk(sound(3)))
    np.testing.assert_allclose(again.result.probabilities, first.result.probabilities, atol=1e-6)
    if rule == "trace":
        assert first.result.readout is not None
        assert again.result.readout is not None
        assert first.result.readout.shape == (20, OUTPUTS)
        row = first.stream.network
        np.testing.assert_array_equal(first.result.readout[-1], row[:OUTPUTS])
        assert again.result.readout.shape == (0, OUTPUTS)
    else:
        assert first.result.readout is None


def replace_kind(stream: StreamState) -> StreamState:
    return StreamState(stream.network, stream.step, stream.encoder, None, None, stream.pending)


def test_readouts_of_a_batch_end_with_their_streams(tmp_path: Path) -> None:
    write_artifact(tmp_path, rule="trace")
    model = ModelCatalog(tmp_path, load=load_fake).get()
    fresh = initial_stream(model)
    batch = [Work(fresh, spike_chunk(steps, *spikes(steps, steps)), False) for steps in (3, 20, 9)]
    for work, outcome in zip(batch, ENGINE.run(model, batch), strict=True):
        alone = Engine(1000, 1000).run(model, [work])[0]
        assert outcome.result.readout is not None
        assert np.isfinite(outcome.result.readout).all()
        np.testing.assert_array_equal(outcome.result.readout, alone.result.readout)


def test_a_failing_batch_leaves_the_streams(models: Path) -> None:
    gate = Gate()
    model = ModelCatalog(models, load=gate.load).get()
    stream = run(model, initial_stream(model), audio_chunk(sound(990), 16_000)).stream
    before = stream.network.copy()
    work = Work(stream, audio_chunk(sound(3000, 1), 16_000), False)
    gate.failure = ArtifactError("the graph failed")
    with pytest.raises(ArtifactError):
        ENGINE.run(model, [work, work])
    gate.failure = None
    np.testing.assert_array_equal(stream.network, before)
    first, second = ENGINE.run(model, [work, work])
    assert same(first.stream, second.stream)


def _network_or_encoder(network: Graph, content: bytes) -> Graph:
    return load_fake(content) if b"encoder" in content else network


def test_a_state_of_another_shape_or_numbers_that_are_none_are_refused(models: Path, digits: Model) -> None:
    class Wrong:
        def __init__(self, name: str, factor: float, dtype: str) -> None:
            self.graph = digits.network
            self.inputs, self.outputs = self.graph.inputs, self.graph.outputs
            self.name, self.factor, self.dtype = name, factor, dtype

        def run(self, inputs, outputs):  # type: ignore[no-untyped-def]
            values = self.graph.run(inputs, outputs)
            return values | {self.name: (values[self.name] * self.factor).astype(self.dtype)}

        def stop(self) -> None:
            raise AssertionError("nobody stops it")

    for wrong, sentence in (
        (Wrong(NEXT_STATE, 1, "float64"), r"gave next\.state as float64\[1, 6\]"),
        (Wrong(PROBABILITIES, float("nan"), "float32"), "not finite"),
    ):
        networks = partial(_network_or_encoder, wrong)
        model = ModelCatalog(models, load=networks).get()
        with pytest.raises(ArtifactError, match=sentence):
            run(model, initial_stream(model), spike_chunk(5, [], []))


def test_what_the_stream_does_not_take_is_refused(digits: Model, tmp_path: Path) -> None:
    write_artifact(tmp_path / "deaf", takes_audio=False)
    deaf = ModelCatalog(tmp_path / "deaf", load=load_fake).get()
    fresh = initial_stream(digits)
    listening = run(digits, fresh, audio_chunk(sound(10))).stream
    spiking = run(digits, fresh, spike_chunk(2, [], [])).stream
    wide = spike_chunk(2, [0], [CHANNELS])
    for model, stream, chunk, kind, sentence in (
        (digits, fresh, None, InputError, "the session is empty"),
        (digits, fresh, wide, InputError, f"unit {CHANNELS} is outside model 'digits''s channels 0-{CHANNELS - 1}"),
        (digits, fresh, spike_chunk(1001, [], []), TooLarge, "1001 steps of 0.01 s, at most 1000"),
        (digits, fresh, audio_chunk(sound(1000 * STEP_SAMPLES + 1)), TooLarge, "1001 steps"),
        (digits, fresh, audio_chunk(sound(1001 * STEP_SAMPLES // 8), 1000), TooLarge, "1001 steps"),
        (digits, listening, audio_chunk(sound(10), 16_000), InputError, "8000 Hz, this chunk's is 16000 Hz"),
        (digits, listening, spike_chunk(2, [], []), InputError, "began with audio"),
        (digits, spiking, audio_chunk(sound(10)), InputError, "began with spikes"),
        (deaf, initial_stream(deaf), audio_chunk(sound(10)), UnsupportedInput, "takes spikes"),
    ):
        with pytest.raises(kind, match=sentence):
            ENGINE.check(model, stream, chunk)
