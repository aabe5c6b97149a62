"""States and answers out of range: whose fault they are, and that they harm nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.contract.graph_io import NEXT_STATE, NEXT_STEP, PROBABILITIES, READOUT, STATE, STEPS, VALUES
from service.engine.engine import Engine
from service.engine.work import Outcome, StreamState, Work, begin, initial_stream
from service.errors import ArtifactError, HetsynError, StateBroken
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.runtime.onnx import Array, Graph, GraphLoader
from service.runtime.states import is_bounded
from service.wire.chunk import AudioChunk, Chunk, ValuesChunk, spike_chunk
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.fake_graph import CHANNELS, LOUDNESS, OUTPUTS, RATE_HZ, FakeNetwork, FakeValues, load_fake
from tests.support.artifacts.overflowing_graph import load_overflowing
from tests.support.data.signals import audio_chunk, sound, spikes

ENGINE = Engine(max_chunk_steps=1000)
SPIKES = spike_chunk(10, *spikes(10, 1))
SOUND = audio_chunk(sound(1000))


def opened(folder: Path, load: GraphLoader, **options: Any) -> Model:
    write_artifact(folder, form="bank", **options)
    return ModelCatalog(folder, load=load).get()


def huge(model: Model, value: float = 9e29) -> StreamState:
    """A stream whose potentials are finite and huge."""
    row = model.initial_row.copy()
    row[:OUTPUTS] = value
    return initial_stream(model)._replace(network=row)


def computed(model: Model, works: Sequence[Work], max_steps: int = 1000) -> list[Any]:
    """The results of a batch that runs once."""
    return ENGINE.compute(model, ENGINE.take(model, [begin(model, work) for work in works], max_steps))


def bits(outcome: Outcome) -> tuple[Any, ...]:
    stream = outcome.stream
    encoder = [value.tobytes() for value in stream.encoder.values()]
    return stream.network.tobytes(), stream.step, encoder, outcome.result.probabilities.tobytes(), outcome.result.steps


@pytest.mark.parametrize("chunk", [SPIKES, SOUND], ids=["spikes", "sound"])
@pytest.mark.parametrize("index", [0, 2])
def test_a_broken_state_is_its_session_s_error_and_its_mates_keep_their_results(
    tmp_path: Path, chunk: Chunk, index: int
) -> None:
    model = opened(tmp_path, load_overflowing)
    works = [Work(initial_stream(model), chunk, end=False)] * 3
    works[index] = works[index]._replace(stream=huge(model))
    results = computed(model, works)
    assert isinstance(results.pop(index), StateBroken)
    (alone,) = ENGINE.run(model, [works[1 - index // 2]])
    assert [bits(result) for result in results] == [bits(alone)] * 2
    with pytest.raises(StateBroken, match=r"delete the session.*was not applied"):
        ENGINE.run(model, works)


def test_a_broken_encoder_is_its_session_s_error_too(tmp_path: Path) -> None:
    model = opened(tmp_path, load_overflowing)
    fresh = initial_stream(model)
    loud = fresh._replace(encoder={LOUDNESS: np.array(1e29)})
    results = computed(model, [Work(stream, SOUND, end=False) for stream in (fresh, loud, fresh)])
    assert [type(result) for result in results] == [Outcome, StateBroken, Outcome]


def test_a_state_may_break_in_any_segment_of_a_chunk(tmp_path: Path) -> None:
    class Growing(FakeNetwork):
        def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
            values = super().run(inputs, outputs)
            values[NEXT_STATE][:, :OUTPUTS] *= np.float32(1e6)
            return values

    model = opened(tmp_path, _instead(Growing("sum_softmax", 1.0)))
    engine = Engine(1000, segment_steps=3)
    with pytest.raises(StateBroken):
        engine.run(model, [Work(huge(model, 1e20), SPIKES, end=False)])


def test_a_client_s_chunks_alone_break_a_state(tmp_path: Path) -> None:
    """A huge value that one integrator holds overflows in the next, while nothing more is sent."""

    class Chained(FakeValues):
        def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
            values = super().run(inputs, outputs)
            before, after = inputs[STATE], values[NEXT_STATE]
            after[:, 0] = before[:, 0] + inputs[VALUES].sum(axis=(1, 2))
            after[:, 1] = before[:, 1] + inputs[STEPS] * before[:, 0]
            return values

    write_artifact(tmp_path, takes="values")
    model = ModelCatalog(tmp_path, load=lambda _: Chained("sum_softmax", 1.0)).get()
    values = np.zeros((1, CHANNELS), np.float32)
    values[0, 0] = 9e29
    (first,) = ENGINE.run(model, [Work(initial_stream(model), ValuesChunk(values), end=False)])
    silence = ValuesChunk(np.zeros((3, CHANNELS), np.float32))
    with pytest.raises(StateBroken):
        ENGINE.run(model, [Work(first.stream, silence, end=False)])


def _instead(network: Graph) -> GraphLoader:
    return lambda content: load_fake(content) if b"encoder" in content else network


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (NEXT_STATE, np.nan),
        (NEXT_STATE, np.inf),
        (NEXT_STATE, 2e30),
        (PROBABILITIES, np.nan),
        (PROBABILITIES, -0.5),
        (PROBABILITIES, 3.0),
        (NEXT_STEP, 7),
        (READOUT, np.nan),
    ],
)
def test_a_sound_state_that_breaks_is_the_model_s_fault(tmp_path: Path, name: str, value: float) -> None:
    """Only the chunks on which it happens get the error."""

    class Wrong(FakeNetwork):
        def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
            values = super().run(inputs, outputs)
            if name in values:
                values[name][1] = value
            return values

    rule: Any = "trace" if name == READOUT else "sum_softmax"
    model = opened(tmp_path, _instead(Wrong(rule, 1.0)), rule=rule)
    work = Work(initial_stream(model), SPIKES, end=False)
    results = computed(model, [work] * 3)
    assert [type(result) for result in results] == [Outcome, ArtifactError, Outcome]
    assert "from a sound state" in str(results[1])


def test_a_chunk_without_a_step_repeats_no_impossible_answer(tmp_path: Path) -> None:
    model = opened(tmp_path, load_fake)
    row = model.initial_row.copy()
    row[OUTPUTS:] = -5
    stream = initial_stream(model)._replace(network=row, step=40)
    (result,) = computed(model, [Work(stream, AudioChunk(SOUND.samples[:30], RATE_HZ), end=False)])
    assert isinstance(result, HetsynError)


@pytest.mark.parametrize("count", [1, 500, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_out_of_bounds_is_seen(count: int, dtype: Any) -> None:
    values = np.linspace(-1, 1, count).astype(dtype)
    assert is_bounded(values)
    for bad in (np.nan, np.inf, -np.inf, 1.1e30, -1.1e30, 3e38, -3e38):
        for index in (0, count // 2, count - 1):
            wrong = values.copy()
            wrong[index] = bad
            assert not is_bounded(wrong)
            wrong[index] = 9e29
            assert is_bounded(wrong)
    both = np.zeros(count + 1, dtype)
    both[0], both[-1] = 3e38, -3e38
    assert not is_bounded(both)
    assert is_bounded(np.zeros(0, dtype))
