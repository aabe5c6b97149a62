"""Our operators on inputs that plain ONNX need not check: malformed calls, denormal numbers, empty batches."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.encoder_graph import encoder_graph, encoder_state
from export.network_graph import network_graph
from export.parity import initial_arrays, initial_row
from hetsyn_model import Network, NetworkSpec
from hetsyn_model.encoder import EncoderSpec
from hetsyn_model.state import Form
from service.contract.graph_io import (
    AUDIO,
    EVENT_ROW,
    EVENT_UNIT,
    NEXT_STATE,
    NEXT_STEP,
    PROBABILITIES,
    READOUT,
    SCORES,
    STATE,
    STEP,
    STEPS,
    state_name,
)
from service.errors import ArtifactError
from service.runtime.onnx import Array, Graph, load_graph, operators_problem
from service.runtime.operators import library
from tests.support.tools import NO_OPERATOR

pytestmark = pytest.mark.skipif(library() is None, reason=NO_OPERATOR)

FORMS: tuple[Form, ...] = ("exact", "bank")
NETWORK = Network(NetworkSpec(channels=6, hidden=(4,), outputs=3), seed=0).eval()
NETWORK.fit_banks()


def graph(form: Form) -> Graph:
    return load_graph(network_graph(NETWORK.compile(form)))


def feed(form: Form, row: list[int], unit: list[int], steps: list[int]) -> dict[str, Array]:
    events = {EVENT_ROW: np.array(row, np.int64), EVENT_UNIT: np.array(unit, np.int64)}
    return {**events, STEPS: np.array(steps, np.int64), **initial_row(NETWORK.compile(form).layout, len(steps))}


def sound(samples: int) -> dict[str, Array]:
    """A step of one stream's silence, which begins from below all thresholds."""
    state = initial_arrays(encoder_state(EncoderSpec()), 1)
    inputs: dict[str, Array] = {AUDIO: np.zeros((1, samples), np.float32), STEPS: np.ones(1, np.int64)}
    return inputs | {state_name(name): value for name, value in state.items()}


def test_the_library_that_was_built_can_be_used() -> None:
    assert operators_problem() is None


@pytest.mark.parametrize(
    ("row", "unit"),
    [([10], [0]), ([-1], [0]), ([0], [6]), ([0], [-1]), ([3, 2], [0, 0])],
    ids=["row beyond the batch", "negative row", "unit beyond the channels", "negative unit", "rows descend"],
)
@pytest.mark.parametrize("form", FORMS)
def test_events_that_would_reach_beyond_an_array_are_refused(form: Form, row: list[int], unit: list[int]) -> None:
    with pytest.raises(ArtifactError, match="events are not in ascending rows, or outside"):
        graph(form).run(feed(form, row, unit, [5, 5]), [SCORES])


@pytest.mark.parametrize("form", FORMS)
def test_states_of_another_network_are_refused(form: Form) -> None:
    wrong = feed(form, [0], [0], [5])
    wrong[STEP] = np.zeros(2, np.int64)
    with pytest.raises(ArtifactError):
        graph(form).run(wrong, [SCORES])


@pytest.mark.parametrize("form", FORMS)
def test_negative_steps_are_refused(form: Form) -> None:
    with pytest.raises(ArtifactError, match="steps are negative"):
        graph(form).run(feed(form, [], [], [3, -1]), [SCORES])


@pytest.mark.parametrize("form", FORMS)
def test_a_long_silence_ends_in_zeros_not_in_denormal_numbers(form: Form) -> None:
    """A synapse with a time constant of 20 steps is below 1e-38 after some 1,800."""
    outputs = NETWORK.spec.outputs

    def currents_after(steps: int) -> Array:
        state = graph(form).run(feed(form, [0, 0], [1, 4], [steps]), [NEXT_STATE])[NEXT_STATE]
        return np.abs(state[0, :-outputs])

    assert currents_after(100).any()
    late = currents_after(20_000)
    assert not late[late < np.finfo(np.float32).tiny].any()


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_without_events_or_steps_runs(form: Form) -> None:
    inputs = feed(form, [], [], [0, 0])
    got = graph(form).run(inputs, [NEXT_STATE, NEXT_STEP, READOUT, PROBABILITIES])
    assert np.array_equal(got[NEXT_STATE], inputs[STATE])
    assert np.array_equal(got[NEXT_STEP], inputs[STEP])
    assert got[READOUT].shape == (2, 0, 3)
    assert np.allclose(got[PROBABILITIES], 1 / 3)


def test_an_encoder_whose_matrix_is_no_fourier_transform_is_left_to_plain_onnx(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = onnx.load_from_string(encoder_graph(EncoderSpec()))
    (spectrum,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("spectrum"))
    altered = np.frombuffer(spectrum.raw_data, np.float64).copy()
    altered[1] += 1e-3
    spectrum.raw_data = altered.tobytes()
    content = model.SerializeToString()
    got = load_graph(content).run(sound(80), [EVENT_UNIT])[EVENT_UNIT]
    plain = load_graph(content, use_operators=False).run(sound(80), [EVENT_UNIT])[EVENT_UNIT]
    assert np.array_equal(got, plain)
    assert "plain ONNX runs instead" in caplog.text
    assert "is not a windowed Fourier transform" in caplog.text


def test_audio_of_another_length_is_refused() -> None:
    with pytest.raises(ArtifactError, match="audio or state does not have a row a stream"):
        load_graph(encoder_graph(EncoderSpec())).run(sound(79), [EVENT_ROW])
