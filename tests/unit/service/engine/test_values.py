"""Models that take values: directly, through an encoder, and as frames of audio."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.graph_io import NEXT_STATE
from service.engine.engine import Engine
from service.engine.work import Outcome, StreamState, Work, begin, initial_stream
from service.errors import ArtifactError, InputError, TooLarge, UnsupportedInput
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import Array
from service.wire.chunk import AudioChunk, Chunk, ValuesChunk, dense_chunk, spike_chunk
from tests.support.artifacts.artifact import Takes, write_artifact
from tests.support.artifacts.fake_graph import (
    CHANNELS,
    RATE_HZ,
    ROW,
    TAIL,
    FakeValues,
    load_fake,
    probabilities_of,
)
from tests.support.data.signals import audio_chunk, sound, spikes

ENGINE = Engine(max_chunk_steps=1000, segment_steps=7)
STEPS = 40


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    kinds: tuple[Takes, ...] = ("spikes", "audio", "values", "rows", "frames")
    for takes in kinds:
        write_artifact(folder, takes, takes=takes)
    catalog = ModelCatalog(folder, load=load_fake)
    return {takes: catalog.get(takes) for takes in kinds}


def rows(steps: int, channels: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(steps, channels)).astype(np.float32)


def run(model: Model, stream: StreamState, chunk: Chunk | None, end: bool = False, engine: Engine = ENGINE) -> Outcome:
    engine.check(model, stream, chunk)
    return engine.run(model, [Work(stream, chunk, end)])[0]


def whole(model: Model, chunk: Chunk) -> Outcome:
    return run(model, initial_stream(model), chunk, end=True)


def bits(outcome: Outcome) -> tuple[Any, ...]:
    stream = outcome.stream
    row: Any = stream.network
    encoder = {name: value.tobytes() for name, value in stream.encoder.items()}
    probabilities = outcome.result.probabilities.tobytes()
    return row.tobytes(), stream.step, encoder, stream.kind, stream.pending.tobytes(), probabilities


def test_values_reach_the_network_at_their_steps_and_the_tail_is_zeros(models: dict[str, Model]) -> None:
    values = rows(STEPS, CHANNELS)
    outcome = run(models["values"], initial_stream(models["values"]), ValuesChunk(values))
    np.testing.assert_allclose(outcome.result.probabilities, probabilities_of(values), atol=1e-6)
    ended = run(models["values"], outcome.stream, None, end=True)
    assert ended.result.steps == TAIL
    with_tail = np.concatenate([values, np.zeros((TAIL, CHANNELS), np.float32)])
    np.testing.assert_allclose(ended.result.probabilities, probabilities_of(with_tail), atol=1e-6)
    assert bits(whole(models["values"], ValuesChunk(values))) == bits(ended)


def test_spikes_are_ones_to_a_network_of_values(models: dict[str, Model]) -> None:
    times, units = spikes(STEPS)
    ones = np.zeros((STEPS, CHANNELS), np.float32)
    ones[times, units] = 1
    expected = bits(whole(models["values"], ValuesChunk(ones)))
    assert bits(whole(models["values"], spike_chunk(STEPS, times, units))) == expected
    assert bits(whole(models["values"], dense_chunk(ones.tolist()))) == expected
    first = run(models["values"], initial_stream(models["values"]), ValuesChunk(ones[:9]))
    late = times >= 9
    rest = spike_chunk(STEPS - 9, times[late] - 9, units[late])
    assert bits(run(models["values"], first.stream, rest, end=True)) == expected  # one session may have both


def test_rows_of_values_are_encoded(models: dict[str, Model]) -> None:
    values = np.zeros((4, ROW), np.float32)
    values[1, 0], values[2, 0], values[2, 2] = 1, 1, -1  # up at 1; down at 2; both back at 3
    expected = spike_chunk(4, [1, 2, 3, 3], [0, 5, 1, 4])
    by_spikes = run(models["rows"], initial_stream(models["rows"]), expected)
    by_values = run(models["rows"], initial_stream(models["rows"]), ValuesChunk(values))
    assert (by_spikes.stream.kind, by_values.stream.kind) == ("spikes", "values")
    np.testing.assert_array_equal(by_spikes.result.probabilities, by_values.result.probabilities)


def test_samples_are_the_values_of_a_network_without_encoder(models: dict[str, Model]) -> None:
    samples = audio_chunk(sound(STEPS * CHANNELS)).samples
    by_values = whole(models["frames"], ValuesChunk(samples.reshape(STEPS, CHANNELS)))
    by_audio = whole(models["frames"], AudioChunk(samples, RATE_HZ))
    assert (by_values.stream.kind, by_audio.stream.kind) == ("values", "audio")
    np.testing.assert_array_equal(by_values.result.probabilities, by_audio.result.probabilities)
    assert by_audio.result.steps == STEPS + TAIL
    half = run(models["frames"], initial_stream(models["frames"]), AudioChunk(samples[:8], RATE_HZ))
    assert (half.result.steps, len(half.stream.pending)) == (1, 2)
    resampled = whole(models["frames"], AudioChunk(np.repeat(samples, 2), 2 * RATE_HZ))
    assert resampled.result.steps == STEPS + TAIL


inputs = st.sampled_from(["values", "rows", "frames", "frames of values"])


def signal(name: str, seed: int) -> tuple[str, list[Chunk]]:
    """The model, and the chunks of a row or a sample each."""
    if name == "frames":
        samples = audio_chunk(sound(STEPS * CHANNELS, seed)).samples
        return "frames", [AudioChunk(samples[n : n + 1], 11_025) for n in range(len(samples))]
    channels = ROW if name == "rows" else CHANNELS
    values = rows(STEPS, channels, seed)
    return name.split()[0], [ValuesChunk(values[t : t + 1]) for t in range(STEPS)]


def joined(chunks: Sequence[Any]) -> Chunk:
    if isinstance(chunks[0], AudioChunk):
        return AudioChunk(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].rate_hz)
    return ValuesChunk(np.concatenate([chunk.values for chunk in chunks]))


@settings(max_examples=40, deadline=None)
@given(name=inputs, cuts=st.sets(st.integers(1, STEPS - 1), max_size=8), segment=st.integers(1, 50))
def test_any_cutting_gives_the_same_bits(models: dict[str, Model], name: str, cuts: set[int], segment: int) -> None:
    takes, chunks = signal(name, 0)
    model, engine = models[takes], Engine(1000, segment)
    expected = whole(model, joined(chunks))
    stream, steps = initial_stream(model), 0
    for start, stop in pairwise([0, *sorted(cuts), len(chunks)]):
        outcome = run(model, stream, joined(chunks[start:stop]), stop == len(chunks), engine)
        stream, steps = outcome.stream, steps + outcome.result.steps
    assert steps == expected.result.steps
    assert bits(outcome) == bits(expected)


@settings(max_examples=30, deadline=None)
@given(
    takes=st.sampled_from(["values", "rows", "frames"]),
    parts=st.lists(st.tuples(inputs, st.integers(1, STEPS), st.booleans()), min_size=1, max_size=5),
)
def test_any_company_gives_the_same_bits(
    models: dict[str, Model], takes: str, parts: list[tuple[str, int, bool]]
) -> None:
    model, works = models[takes], []
    for seed, (name, count, end) in enumerate(parts):
        of, chunks = signal(name, seed)
        chunk: Chunk = spike_chunk(9, *spikes(9, seed)) if of != takes else joined(chunks[:count])
        works.append(Work(initial_stream(model), chunk, end))
    together = ENGINE.run(model, works)
    alone = [ENGINE.run(model, [work])[0] for work in works]
    assert list(map(bits, together)) == list(map(bits, alone))


@pytest.mark.parametrize(
    ("takes", "sentence"),
    [
        ("spikes", "'spikes' takes spikes, not values: send kind 'events' or 'dense'$"),
        ("audio", "'audio' takes audio and spikes, not values: send kind 'audio', 'events' or 'dense'$"),
        ("values", "takes values and spikes, not audio: send kind 'values', 'events' or 'dense'$"),
        ("rows", "takes values and spikes, not audio: send kind 'values', 'events' or 'dense'$"),
    ],
)
def test_what_a_model_does_not_take_is_refused(models: dict[str, Model], takes: str, sentence: str) -> None:
    takes_values = takes in ("values", "rows")
    other: Chunk = audio_chunk(sound(9)) if takes_values else ValuesChunk(rows(3, CHANNELS))
    with pytest.raises(UnsupportedInput, match=sentence):
        ENGINE.check(models[takes], initial_stream(models[takes]), other)


def test_values_are_checked_against_the_model_and_the_session(models: dict[str, Model]) -> None:
    for takes, channels in (("values", CHANNELS), ("rows", ROW), ("frames", CHANNELS)):
        model = models[takes]
        fresh = initial_stream(model)
        with pytest.raises(InputError, match=f"rows have 5 values, but model '{takes}' takes {channels} a step"):
            ENGINE.check(model, fresh, ValuesChunk(rows(3, 5)))
        with pytest.raises(TooLarge, match="1001 steps"):
            ENGINE.check(model, fresh, ValuesChunk(rows(1001, channels)))
        ENGINE.check(model, fresh, ValuesChunk(rows(1000, channels)))
    with pytest.raises(InputError, match="unit 6 is outside model 'values'"):
        ENGINE.check(models["values"], initial_stream(models["values"]), spike_chunk(1, [0], [6]))
    begun = run(models["rows"], initial_stream(models["rows"]), ValuesChunk(rows(3, ROW))).stream
    with pytest.raises(InputError, match="began with values: continue with that, or open another session for spikes"):
        ENGINE.check(models["rows"], begun, spike_chunk(1, [0], [0]))
    begun = run(models["frames"], initial_stream(models["frames"]), AudioChunk(rows(1, 9)[0], RATE_HZ)).stream
    with pytest.raises(InputError, match="began with audio: continue with that, or open another session for values"):
        ENGINE.check(models["frames"], begun, ValuesChunk(rows(1, CHANNELS)))


def test_a_segment_has_a_bounded_number_of_values(models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.engine.SEGMENT_VALUES", 10 * CHANNELS)
    model, engine = models["values"], Engine(1000, 1000)
    works = [Work(initial_stream(model), spike_chunk(steps, [0], [1]), end=False) for steps in (300, 2, 300)]
    segment = engine.take(model, [begin(model, work) for work in works], 1000)
    assert [piece.steps for piece in segment.pieces] == [3, 2, 3]
    together = engine.run(model, works)
    assert list(map(bits, together)) == [bits(ENGINE.run(model, [work])[0]) for work in works]


class Overflowing(FakeValues):
    """A network whose state goes out of range on values beyond a limit."""

    limit = 0.0

    def run(self, inputs: Any, outputs: Sequence[str]) -> dict[str, Array]:
        answers = super().run(inputs, outputs)
        answers[NEXT_STATE][np.abs(inputs["values"]).max(axis=(1, 2)) > self.limit] = np.inf
        return answers


@pytest.mark.parametrize(("value", "error"), [(1e6, InputError), (1.0, ArtifactError)])
def test_large_values_are_the_chunk_s_fault_and_small_ones_the_model_s(
    tmp_path: Path, value: float, error: type[Exception]
) -> None:
    write_artifact(tmp_path, takes="values")
    model = ModelCatalog(tmp_path, load=lambda _: Overflowing("sum_softmax", 1.0)).get()
    good, bad = np.zeros((2, CHANNELS), np.float32), np.full((2, CHANNELS), value, np.float32)
    jobs = [Work(initial_stream(model), ValuesChunk(chunk), False) for chunk in (good, bad)]
    assert isinstance(ENGINE.run(model, jobs[:1])[0], Outcome)
    with pytest.raises(error, match=r"beyond 1000, from which model 'digits'|from a sound state"):
        ENGINE.run(model, jobs)
