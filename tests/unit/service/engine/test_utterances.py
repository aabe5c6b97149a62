"""Utterances of a stream: the same however it is cut, and each the answer of a session of its own."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.endpointing import EndpointingChange
from service.contract.manifest import MANIFEST
from service.engine.endpointing_choice import with_endpointing, with_manual_ends
from service.engine.engine import Engine
from service.engine.work import Outcome, Work, initial_stream
from service.errors import InputError, UnsupportedInput
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.wire.chunk import AudioChunk, Chunk, SpikeChunk, ValuesChunk, chunk_length, part_of_chunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, RATE_HZ, ROW, load_fake
from tests.support.data.signals import audio_chunk, row_bursts, spike_bursts, words

ENGINES = (Engine(max_chunk_steps=20_000), Engine(max_chunk_steps=20_000, segment_steps=7))
CHANGE = EndpointingChange(silence_s=0.15, preroll_s=0.1, no_speech_s=0.6, max_s=0.5)
Events = list[Any]


def audio(rate_hz: int, count: int = 4) -> AudioChunk:
    return audio_chunk(words(count, rate_hz), rate_hz)


def stream_of(kind: int | str, digits: Model, sensor: Model) -> tuple[Model, Chunk, float]:
    """A model, a stream of several utterances for it, and how long a sample or a step lasts.

    Args:
        kind: the rate of sound, "spikes" or "values".
    """
    if isinstance(kind, int):
        return digits, audio(kind), 1 / kind
    return (sensor, row_bursts(300), 0.01) if kind == "values" else (digits, spike_bursts(300), 0.01)


def ends_of(outcome: Outcome) -> Events:
    return list(outcome.result.heard)


def heard(
    model: Model, chunk: Chunk, cuts: list[int], engine: Engine = ENGINES[0], change: EndpointingChange = CHANGE
) -> tuple[Events, Outcome]:
    """What is heard in a session of some chunks, and its last outcome."""
    events: Events = []
    stream, length = initial_stream(model), chunk_length(chunk)
    for first, last in pairwise(sorted({0, *(cut % length for cut in cuts), length})):
        part = part_of_chunk(chunk, first, last)
        stream = with_endpointing(model, stream, part, change if not first else None)
        engine.check(model, stream, part)
        (outcome,) = engine.run(model, [Work(stream, part, end=last == length)])
        stream = outcome.stream
        events += outcome.result.heard
    return events, outcome


def alone(model: Model, chunk: Chunk) -> list[float]:
    """The final answer of a session that is this chunk, float32."""
    (outcome,) = ENGINES[0].run(model, [Work(initial_stream(model), chunk, end=True)])
    probabilities: list[float] = outcome.result.probabilities.tolist()
    return probabilities


CUTS = st.lists(st.integers(0, 10**6), max_size=40)


@pytest.mark.parametrize("kind", ["sound", "spikes", "values"])
@settings(max_examples=25, deadline=None)
@given(cuts=CUTS, rate_hz=st.sampled_from([RATE_HZ, 16_000, 11_025, 44_100]), engine=st.sampled_from(ENGINES))
def test_a_stream_is_cut_into_the_same_utterances_in_any_chunks(
    digits: Model, sensor: Model, kind: str, cuts: list[int], rate_hz: int, engine: Engine
) -> None:
    model, stream, _ = stream_of(rate_hz if kind == "sound" else kind, digits, sensor)
    whole, _ = heard(model, stream, [])
    assert heard(model, stream, cuts, engine)[0] == whole
    starts = [event for event in whole if event["type"] == "SpeechStarted"]
    assert len(starts) == (4 if kind == "sound" else 5)


@settings(max_examples=25, deadline=None)
@given(cuts=CUTS, engine=st.sampled_from(ENGINES))
def test_rows_are_heard_by_the_encoder_of_all_the_silence(sensor: Model, cuts: list[int], engine: Engine) -> None:
    """A sensor that keeps still, but not always at 0."""
    chunk = ValuesChunk(np.where(np.arange(200)[:, None] % 60 < 40, np.float32(0.7), row_bursts(200).values))
    change = CHANGE.followed_by(EndpointingChange(onset_s=0.0, threshold=0.5))
    whole, _ = heard(sensor, chunk, [], change=change)
    assert heard(sensor, chunk, cuts, engine, change)[0] == whole
    starts = {round(100 * event["at"]) for event in whole if event["type"] == "SpeechStarted"}
    assert starts == {0, 40, 60, 100, 120, 160, 180}  # where it moves


def test_values_that_no_encoder_takes_are_refused_in_silence_too(sensor: Model) -> None:
    chunk = ValuesChunk(np.full((10, ROW), 3e38, np.float32))
    change = EndpointingChange(threshold=1e6)
    stream = with_endpointing(sensor, initial_stream(sensor), chunk, change)
    with pytest.raises(InputError, match="out of range"):
        ENGINES[0].run(sensor, [Work(stream, chunk, end=False)])


@pytest.mark.parametrize("rate_hz", [16_000, 11_025, 44_100])
def test_speech_that_goes_on_after_an_end_is_ended_by_its_length_too(digits: Model, rate_hz: int) -> None:
    """The endpointer hears sound later than it comes: it finds a start in what the last utterance has taken."""
    half = AudioChunk(audio(rate_hz, 1).samples[: round(0.4 * rate_hz)], rate_hz)
    change = EndpointingChange(onset_s=0.0, silence_s=3.0, max_s=0.3)
    stream = with_endpointing(digits, initial_stream(digits), half, change)
    (outcome,) = ENGINES[0].run(digits, [Work(stream, half, end=False)])
    (outcome,) = ENGINES[0].run(digits, [Work(outcome.stream, None, end=False, finalize=True)])
    loud = AudioChunk(np.random.default_rng(0).uniform(-1, 1, 2 * rate_hz).astype(np.float32), rate_hz)
    (outcome,) = ENGINES[0].run(digits, [Work(outcome.stream, loud, end=False)])
    started, ended = ends_of(outcome)[:2]
    assert (started["type"], ended["trigger"]) == ("SpeechStarted", "length")
    assert ended["end"] - ended["start"] == pytest.approx(0.3, abs=0.1)


def test_many_short_utterances_in_a_chunk_take_little_time_to_hear(sensor: Model) -> None:
    """Each is looked for a little ahead, not to the end of the chunk."""
    steps, graph = 0, sensor.encoder_graph
    assert graph is not None
    encode = graph.run

    def counting(inputs: Any, names: Any) -> Any:
        nonlocal steps
        steps += int(inputs["steps"].sum())
        return encode(inputs, names)

    chunk = ValuesChunk(np.zeros((2_000, ROW), np.float32))
    change = EndpointingChange(no_speech_s=0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "run", counting)
        events, _ = heard(sensor, chunk, [], change=change)
    assert len(events) == 400
    assert steps <= 10 * chunk.steps


@pytest.mark.parametrize("kind", [RATE_HZ, 16_000, 11_025, 22_050, 44_100, 48_000, "spikes", "values"])
def test_an_utterance_is_answered_as_a_session_of_its_input(digits: Model, sensor: Model, kind: int | str) -> None:
    model, stream, unit_s = stream_of(kind, digits, sensor)
    check_alone(model, stream, heard(model, stream, [])[0], unit_s)


def check_alone(model: Model, chunk: Chunk, events: Events, unit_s: float) -> None:
    ends = [event for event in events if event["type"] == "UtteranceEnd" and event["probabilities"] is not None]
    assert len(ends) > 3
    for end in ends:
        first, last = round(end["start"] / unit_s), round(end["end"] / unit_s)
        assert np.array(end["probabilities"], np.float32).tolist() == alone(model, part_of_chunk(chunk, first, last))
        assert end["label"] in model.manifest.labels


def test_without_a_tail_an_utterance_is_answered_as_a_session_too(tmp_path: Path) -> None:
    path = write_artifact(tmp_path) / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["decision"]["tail_steps"] = 0
    path.write_text(json.dumps(manifest))
    model, train = ModelCatalog(tmp_path, load=load_fake).get(), spike_bursts(300)
    check_alone(model, train, heard(model, train, [])[0], 0.01)


def test_rumble_and_an_offset_hide_nothing(digits: Model) -> None:
    sound = audio(RATE_HZ)
    time_s = np.arange(len(sound.samples)) / RATE_HZ
    rumble = (0.05 + 0.05 * np.sin(2 * np.pi * 2.0 * time_s)).astype(np.float32)
    starts = [
        [
            event["at"]
            for event in heard(digits, AudioChunk(samples, RATE_HZ), [])[0]
            if event["type"] == "SpeechStarted"
        ]
        for samples in (sound.samples, sound.samples + rumble)
    ]
    assert len(starts[0]) == 4
    assert starts[1] == pytest.approx(starts[0], abs=0.02)


def test_an_utterance_takes_what_came_before_its_onset(digits: Model) -> None:
    events, _ = heard(digits, audio(RATE_HZ), [])
    started, ended = events[:2]
    assert started["at"] - ended["start"] == pytest.approx(0.1)
    assert 0.3 <= started["at"] <= 0.34  # the first word begins at 0.3 s
    assert 0.5 + 0.15 <= ended["end"] <= 0.5 + 0.2


def test_an_utterance_begins_at_the_earliest_where_the_last_one_ended(digits: Model) -> None:
    long = AudioChunk(
        np.concatenate([audio(RATE_HZ, 1).samples[:2400], np.tile(np.array([0.3, -0.3], np.float32), 8_000)]), RATE_HZ
    )
    ends = [event for event in heard(digits, long, [])[0] if event["type"] == "UtteranceEnd"]
    assert "length" in {end["trigger"] for end in ends}
    assert all(one["end"] <= other["start"] for one, other in pairwise(ends))


def test_silence_is_answered_by_nothing(digits: Model) -> None:
    events, outcome = heard(digits, AudioChunk(np.zeros(RATE_HZ, np.float32), RATE_HZ), [])
    assert [(event["type"], event["label"], event["trigger"]) for event in events] == [
        ("UtteranceEnd", None, "silence"), ("UtteranceEnd", None, "end"),
    ]  # fmt: skip
    assert not len(outcome.result.probabilities)
    assert not outcome.result.is_decided


def test_a_batch_gives_each_stream_its_own_utterances(digits: Model) -> None:
    chunks: list[Chunk] = [audio(RATE_HZ), audio(16_000, 2), spike_bursts(200)]
    plain = part_of_chunk(audio(RATE_HZ), 0, 4_000)
    batch = [Work(with_endpointing(digits, initial_stream(digits), chunk, CHANGE), chunk, True) for chunk in chunks]
    outcomes = ENGINES[1].run(digits, [*batch, Work(initial_stream(digits), plain, True)])
    for chunk, outcome in zip(chunks, outcomes, strict=False):
        assert list(outcome.result.heard) == heard(digits, chunk, [])[0]
    assert outcomes[-1].result.probabilities.tolist() == alone(digits, plain)


def test_settings_may_change_between_two_chunks(digits: Model) -> None:
    sound = audio(RATE_HZ)
    stream = with_endpointing(digits, initial_stream(digits), sound, "on")
    assert stream.utterances is not None
    assert stream.utterances.settings is not None
    changed = with_endpointing(digits, stream, sound, EndpointingChange(silence_s=1.5)).utterances
    assert changed is not None
    assert changed.settings == stream.utterances.settings.model_copy(update={"silence_s": 1.5})


def test_endpointing_is_chosen_with_the_first_chunk(digits: Model) -> None:
    sound = audio(RATE_HZ)
    (outcome,) = ENGINES[0].run(digits, [Work(initial_stream(digits), sound, end=False)])
    with pytest.raises(InputError, match="began without endpointing"):
        with_endpointing(digits, outcome.stream, sound, "on")
    stream = with_endpointing(digits, initial_stream(digits), sound, "on")
    with pytest.raises(InputError, match="began with endpointing"):
        with_endpointing(digits, stream, sound, "off")
    assert with_endpointing(digits, outcome.stream, sound, "off") is outcome.stream


def test_a_model_without_activity_or_answers_has_no_utterances(tmp_path: Path) -> None:
    write_artifact(tmp_path, "trace", rule="trace")
    write_artifact(tmp_path, "values", takes="values")
    catalog = ModelCatalog(tmp_path, load=load_fake)
    for name, chunk in (("trace", spike_bursts(10)), ("values", ValuesChunk(np.zeros((3, CHANNELS), np.float32)))):
        model = catalog.get(name)
        with pytest.raises(UnsupportedInput, match="leave endpointing off"):
            with_endpointing(model, initial_stream(model), chunk, "on")
    with pytest.raises(UnsupportedInput, match="draws a trace"):
        with_manual_ends(catalog.get("trace"), initial_stream(catalog.get("trace")))


def test_recent_input_is_charged_and_bounded(digits: Model) -> None:
    silence = AudioChunk(np.zeros(20 * RATE_HZ, np.float32), RATE_HZ)
    stream = with_endpointing(digits, initial_stream(digits), silence, "on")
    (outcome,) = ENGINES[0].run(digits, [Work(stream, silence, end=False)])
    utterances = outcome.stream.utterances
    assert utterances is not None
    assert utterances.recent is not None
    assert 0.2 * RATE_HZ <= chunk_length(utterances.recent) <= 0.3 * RATE_HZ
    assert outcome.stream.bytes > 4 * chunk_length(utterances.recent)


def test_recent_input_does_not_keep_its_chunk_in_memory(digits: Model, sensor: Model) -> None:
    spikes = SpikeChunk(2_000, np.arange(2_000), np.zeros(2_000, np.int64))
    for model, chunk in ((sensor, ValuesChunk(np.zeros((2_000, ROW), np.float32))), (digits, spikes)):
        stream = initial_stream(model)
        for _ in range(2):
            stream = with_endpointing(model, stream, chunk, EndpointingChange(threshold=1e6))
            (outcome,) = ENGINES[0].run(model, [Work(stream, chunk, end=False)])
            stream = outcome.stream
            assert stream.utterances is not None
            recent = stream.utterances.recent
            assert recent is not None
            assert not isinstance(recent, AudioChunk)
            arrays = (recent.values,) if isinstance(recent, ValuesChunk) else (recent.step, recent.unit)
            assert all(array.base is None or array.base.nbytes <= array.nbytes for array in arrays)
