"""The spikes of a chunk: the same however the stream is cut, and no answer changes because of them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsyn_client.results import Spikes
from service.contract.endpointing import EndpointingChange
from service.contract.graph_io import spikes_name
from service.engine.endpointing_choice import with_endpointing, with_manual_ends
from service.engine.engine import Engine
from service.engine.raster import spikes_of
from service.engine.work import Outcome, Work, initial_stream
from service.errors import ArtifactError
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import Array
from service.wire.chunk import Chunk, ValuesChunk, chunk_length, part_of_chunk, spike_chunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import (
    CHANNELS,
    HIDDEN,
    OUTPUTS,
    RATE_HZ,
    ROW,
    TAIL,
    FakeNetwork,
    hidden_spikes,
)
from tests.support.data.signals import audio_chunk, sound, spikes, words

ENGINES = (Engine(max_chunk_steps=20_000), Engine(max_chunk_steps=20_000, segment_steps=7))
CUTS = st.lists(st.integers(0, 10**6), max_size=20)
Seen = set[tuple[str, int, int]]
"""Layer, step of the session and unit of each spike."""


def rows(steps: int) -> ValuesChunk:
    return ValuesChunk(np.random.default_rng(0).normal(size=(steps, ROW)).astype(np.float32))


def streamed(
    model: Model, chunk: Chunk, cuts: list[int], engine: Engine, change: EndpointingChange | None = None
) -> tuple[Seen, list[Spikes], list[Outcome]]:
    """What is seen of a session of some chunks, of each chunk, and their outcomes."""
    stream, length, total = initial_stream(model), chunk_length(chunk), 0
    seen, shown, outcomes = set[tuple[str, int, int]](), list[Spikes](), list[Outcome]()
    for first, last in pairwise(sorted({0, *(cut % length for cut in cuts), length})):
        part = part_of_chunk(chunk, first, last)
        if change is not None:
            stream = with_endpointing(model, stream, part, change if not first else None)
        engine.check(model, stream, part, spikes=True)
        (outcome,) = engine.run(model, [Work(stream, part, last == length, spikes=True)])
        stream, before = outcome.stream, total
        total = outcome.result.total_steps if change is not None else total + outcome.result.steps
        assert outcome.result.raster is not None
        spikes = spikes_of(model, part, outcome.result.raster, before, total)
        assert spikes["first_step"] <= before
        assert spikes["first_step"] + spikes["steps"] == total
        for layer in spikes["layers"]:
            assert len(layer["times"]) == len(layer["units"])
            assert layer["times"] == sorted(layer["times"])
            assert all(0 <= time < spikes["steps"] for time in layer["times"])
            new = {
                (layer["name"], spikes["first_step"] + time, unit)
                for time, unit in zip(layer["times"], layer["units"], strict=True)
            }
            assert len(new) == len(layer["times"])
            assert not new & seen, "a spike is shown once"
            seen |= new
        shown.append(spikes)
        outcomes.append(outcome)
    return seen, shown, outcomes


def test_the_spikes_are_those_of_the_input_and_of_the_network(digits: Model) -> None:
    times, units = spikes(23)
    seen, shown, _ = streamed(digits, spike_chunk(23, times, units), [], ENGINES[0])
    assert [(layer["name"], layer["size"]) for layer in shown[0]["layers"]] == [
        ("input", CHANNELS),
        ("hidden1", HIDDEN),
    ]
    weights = FakeNetwork("sum_softmax", 1.0).weights
    potential, hidden = np.zeros(OUTPUTS, np.float32), set()
    for t in range(23 + TAIL):
        potential = np.float32(0.5) * potential
        for unit in units[times == t]:
            potential = potential + weights[unit]
        hidden |= {("hidden1", t, int(unit)) for unit in np.flatnonzero(hidden_spikes(potential))}
    assert hidden
    assert seen == hidden | {("input", int(t), int(unit)) for t, unit in zip(times, units, strict=True)}


@settings(max_examples=25, deadline=None)
@given(cuts=CUTS, engine=st.sampled_from(ENGINES), kind=st.sampled_from(["8000", "11025", "48000", "spikes", "values"]))
def test_any_chunking_shows_the_same_spikes(
    digits: Model, sensor: Model, cuts: list[int], engine: Engine, kind: str
) -> None:
    model = sensor if kind == "values" else digits
    chunk: Chunk = spike_chunk(60, *spikes(60)) if kind == "spikes" else rows(60)
    if kind.isdigit():
        chunk = audio_chunk(sound(3000), int(kind))
    whole, _, expected = streamed(model, chunk, [], ENGINES[0])
    seen, _, outcomes = streamed(model, chunk, cuts, engine)
    assert seen == whole
    assert {name for name, _, _ in whole} == {"input", "hidden1"}
    assert outcomes[-1].result.probabilities.tobytes() == expected[-1].result.probabilities.tobytes()


@settings(max_examples=25, deadline=None)
@given(cuts=CUTS, engine=st.sampled_from(ENGINES), rate_hz=st.sampled_from([RATE_HZ, 11_025, 48_000]))
def test_any_chunking_shows_the_same_spikes_of_utterances(
    digits: Model, cuts: list[int], engine: Engine, rate_hz: int
) -> None:
    change = EndpointingChange(silence_s=0.15, preroll_s=0.1, no_speech_s=0.6, max_s=0.5)
    chunk = audio_chunk(words(3, rate_hz), rate_hz)
    whole, _, (outcome,) = streamed(digits, chunk, [], ENGINES[0], change)
    assert streamed(digits, chunk, cuts, engine, change)[0] == whole
    # each utterance is seen as a session of its own, but for the silence after it
    expected: Seen = set()
    ends = [event for event in outcome.result.heard if event["type"] == "UtteranceEnd"]
    assert len([end for end in ends if end["label"] is not None]) >= 3
    for end in ends:
        if end["label"] is None:
            continue
        first, last = round(end["start"] * rate_hz), round(end["end"] * rate_hz)
        alone, _, _ = streamed(digits, part_of_chunk(chunk, first, last), [], ENGINES[0])
        begin, limit = (position * RATE_HZ // (rate_hz * 80) for position in (first, last))
        expected |= {(name, step + begin, unit) for name, step, unit in alone if step + begin < limit}
    assert whole == expected


def test_answers_with_and_without_spikes_have_the_same_bits_in_one_batch(digits: Model) -> None:
    stream, chunk = initial_stream(digits), audio_chunk(sound(3000), 16_000)
    asks = [True, False, True, False]
    for engine in ENGINES:
        batch = [Work(stream, part_of_chunk(chunk, 0, 3000 - n), True, spikes=wants) for n, wants in enumerate(asks)]
        outcomes = engine.run(digits, batch)
        for n, (outcome, wants) in enumerate(zip(outcomes, asks, strict=True)):
            (alone,) = ENGINES[0].run(digits, [Work(stream, part_of_chunk(chunk, 0, 3000 - n), True)])
            assert alone.result.raster is None
            assert (outcome.result.raster is not None) == wants
            assert outcome.result.probabilities.tobytes() == alone.result.probabilities.tobytes()
            assert outcome.stream.step == alone.stream.step
            if outcome.result.raster is not None:
                steps = outcome.result.steps
                shown = spikes_of(digits, chunk, outcome.result.raster, 0, steps)
                assert shown == streamed(digits, part_of_chunk(chunk, 0, 3000 - n), [], ENGINES[0])[1][0]


def test_a_chunk_that_fills_no_step_has_no_spikes(digits: Model) -> None:
    (outcome,) = ENGINES[0].run(digits, [Work(initial_stream(digits), audio_chunk(sound(79)), False, spikes=True)])
    assert outcome.result.raster == ()
    assert spikes_of(digits, None, (), 0, 0) == {
        "first_step": 0,
        "steps": 0,
        "layers": [
            {"name": "input", "size": CHANNELS, "times": [], "units": []},
            {"name": "hidden1", "size": HIDDEN, "times": [], "units": []},
        ],
    }


def test_after_an_end_that_the_client_chose_steps_are_those_of_the_session(digits: Model) -> None:
    engine, stream = ENGINES[0], initial_stream(digits)
    (first,) = engine.run(digits, [Work(stream, spike_chunk(10, [0], [1]), False)])
    manual = with_manual_ends(digits, first.stream)
    (ended,) = engine.run(digits, [Work(manual, None, False, finalize=True, spikes=True)])
    (second,) = engine.run(digits, [Work(ended.stream, spike_chunk(5, [2], [3]), False, spikes=True)])
    assert second.result.raster is not None
    shown = spikes_of(digits, spike_chunk(5, [2], [3]), second.result.raster, 10, 15)
    assert (shown["first_step"], shown["steps"]) == (10, 5)
    assert (shown["layers"][0]["times"], shown["layers"][0]["units"]) == ([2], [3])


class _Other(FakeNetwork):
    """A network whose graph gives no spikes of hidden layers, or some of another shape."""

    outputs = FakeNetwork.outputs[:-1]


class _Wide(FakeNetwork):
    def run(self, inputs, outputs):  # type: ignore[no-untyped-def]
        values = super().run(inputs, outputs)
        name = spikes_name("hidden1")
        return {**values, name: np.repeat(values[name], 2, axis=2)} if name in values else values


def test_a_graph_without_hidden_spikes_shows_its_input(tmp_path: Path) -> None:
    write_artifact(tmp_path, takes="spikes")
    model = ModelCatalog(tmp_path, load=lambda _: _Other("sum_softmax", 1.0)).get()
    _, (shown,), _ = streamed(model, spike_chunk(4, [0, 3], [5, 2]), [], ENGINES[0])
    assert [layer["name"] for layer in shown["layers"]] == ["input"]


def test_spikes_of_another_shape_are_the_models_fault(tmp_path: Path) -> None:
    write_artifact(tmp_path, takes="spikes")
    model = ModelCatalog(tmp_path, load=lambda _: _Wide("sum_softmax", 1.0)).get()
    with pytest.raises(
        ArtifactError, match=r"gave spikes of hidden1 as \[7, 8\], not \[7, 4\]: export the model again"
    ):
        streamed(model, spike_chunk(4, [0, 3], [5, 2]), [], ENGINES[0])


def test_the_traces_of_a_segment_are_bounded(digits: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    longest: list[int] = []
    run = FakeNetwork.run

    def noted(self: FakeNetwork, inputs: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        longest.append(int(inputs["steps"].max()))
        return run(self, inputs, outputs)

    monkeypatch.setattr(FakeNetwork, "run", noted)
    monkeypatch.setattr("service.engine.engine.SEGMENT_VALUES", 4 * HIDDEN)
    seen, _, _ = streamed(digits, spike_chunk(60, *spikes(60)), [], ENGINES[0])
    assert max(longest) == 4
    monkeypatch.undo()
    assert seen == streamed(digits, spike_chunk(60, *spikes(60)), [], ENGINES[0])[0]
