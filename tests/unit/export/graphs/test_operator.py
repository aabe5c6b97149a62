"""Our operators on inputs that plain ONNX need not check: malformed calls, denormal numbers, empty batches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export.encoders import initial_arrays
from export.graphs.encoder_graph import encoder_graph, encoder_state
from export.graphs.network_graph import OPERATOR
from export.parity import graphs_by_runtime, initial_row
from hetsyn_model import Network, NetworkSpec, variant
from hetsyn_model.encoders.encoder import EncoderSpec
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
from service.runtime.onnx import Array, Graph, Sound, load_graph, operators_problem
from service.runtime.operators import MODE, library
from tests.support.networks.exported import FORMS, Exported
from tests.support.tools import NO_OPERATOR

pytestmark = pytest.mark.skipif(library() is None, reason=NO_OPERATOR)

OUTPUTS = 3


@cache
def made(form: Form) -> Exported:
    """A bank, or a current a neuron."""
    neuron = variant("hetsyn" if form == "bank" else "hetneu")
    network = Network(NetworkSpec(channels=6, hidden=(4,), outputs=OUTPUTS, neuron=neuron), seed=0).eval()
    network.fit_banks()
    return Exported(network, form)


def graph(form: Form) -> Graph:
    return load_graph(made(form).content)


def feed(form: Form, row: list[int], unit: list[int], steps: list[int]) -> dict[str, Array]:
    events = {EVENT_ROW: np.array(row, np.int64), EVENT_UNIT: np.array(unit, np.int64)}
    return {**events, STEPS: np.array(steps, np.int64), **initial_row(made(form).compiled.layout, len(steps))}


def sound(samples: int) -> dict[str, Array]:
    """A step of one stream's silence, which begins from below all thresholds."""
    state = initial_arrays(encoder_state(EncoderSpec()), 1)
    inputs: dict[str, Array] = {AUDIO: np.zeros((1, samples), np.float32), STEPS: np.ones(1, np.int64)}
    return inputs | {state_name(name): value for name, value in state.items()}


def test_the_library_that_was_built_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operators_problem() is None
    content = made("bank").content
    assert list(graphs_by_runtime(content)) == ["operator", "plain ONNX"]
    monkeypatch.setattr("service.runtime.operators.GRAPH_VERSION", 0)  # what another version has built is not compared
    assert list(graphs_by_runtime(content)) == ["plain ONNX"]


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

    def currents_after(steps: int) -> Array:
        state = graph(form).run(feed(form, [0, 0], [1, 4], [steps]), [NEXT_STATE])[NEXT_STATE]
        return np.abs(state[0, :-OUTPUTS])

    assert currents_after(100).any()
    late = currents_after(20_000)
    assert not late[late < np.finfo(np.float32).tiny].any()


def test_a_long_silence_ends_in_zeros_in_plain_onnx_too() -> None:
    """The operators are loaded, but run no network of this kind."""
    neuron = variant("hetsyn")
    network = Network(NetworkSpec(channels=6, hidden=(4,), outputs=OUTPUTS, neuron=neuron), seed=0).eval()
    exact = Exported(network, "exact")
    inputs = {EVENT_ROW: np.zeros(2, np.int64), EVENT_UNIT: np.array([1, 4]), STEPS: np.array([5_000])}
    state = load_graph(exact.content).run(inputs | initial_row(exact.compiled.layout, 1), [NEXT_STATE])[NEXT_STATE]
    late = np.abs(state[0, : -2 * OUTPUTS])
    assert not late[late < np.finfo(np.float32).tiny].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("use_operators", [True, False], ids=["operator", "plain ONNX"])
def test_a_batch_without_events_or_steps_runs(form: Form, use_operators: bool) -> None:
    inputs = feed(form, [], [], [0, 0])
    loaded = load_graph(made(form).content, use_operators=use_operators)
    got = loaded.run(inputs, [NEXT_STATE, NEXT_STEP, READOUT, PROBABILITIES])
    assert np.array_equal(got[NEXT_STATE], inputs[STATE])
    assert np.array_equal(got[NEXT_STEP], inputs[STEP])
    assert got[READOUT].shape == (2, 0, 3)
    assert np.allclose(got[PROBABILITIES], 1 / 3)


def altered(form: Form, **attributes: Any) -> bytes:
    """The network's graph with other attributes."""
    model = onnx.load_from_string(made(form).content)
    (call,) = (node for node in model.graph.node if node.op_type == OPERATOR)
    for name, value in attributes.items():
        old = next((attribute for attribute in call.attribute if attribute.name == name), None)
        if old is None:  # one that only some graphs say
            old = call.attribute.add()
            model.functions[0].attribute.append(name)
        old.CopyFrom(onnx.helper.make_attribute(name, value))
    return bytes(model.SerializeToString())


HUGE = 1 << 57  # times an eighth of a channel count it wraps to nothing


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        ("channels", 6 + HUGE, "channels is 144115188075855878, not from 1 to 2147483647"),
        ("channels", 0, "channels is 0, not from 1"),
        ("channels", -6, "channels is -6"),
        ("neurons", [4 + HUGE, 3], "neurons is"),
        ("neurons", [4, 0], "neurons is 0"),
        ("neurons", [4], "do not name the same layers"),
        ("neurons", [(1 << 31) - 1, (1 << 31) - 1], "does not have|too large"),
        ("banks", [HUGE, HUGE], "banks is"),
        ("banks", [-1, -1], "banks is -1"),
        ("skip_steps", -5, "skip_steps is -5, not from 0"),
        ("skip_steps", HUGE, "skip_steps is"),
        ("threshold", float("nan"), "threshold is not finite"),
        ("threshold", float("inf"), "threshold is not finite"),
        ("adaptation_decay", float("nan"), "adaptation_decay is not finite"),
        ("adaptation_strength", float("-inf"), "adaptation_strength is not finite"),
        ("adaptive", 2, "adaptive is 2, not from 0 to 1"),
        ("recurrent", -1, "recurrent is -1"),
        ("biased", 7, "biased is 7"),
        ("per_synapse", 2, "per_synapse is 2"),
        ("membrane", 2, "membrane is 2, not from 0 to 1"),
        ("reset", 3, "reset is 3, not from 0 to 2"),
        ("reset", -1, "reset is -1"),
        ("filtered", 2, "filtered is 2, not from 0 to 1"),
        ("own_thresholds", 2, "own_thresholds is 2, not from 0 to 1"),
        ("own_thresholds", 1, "weight 1[0-9] does not have|a weight is missing"),
        ("membrane", 1, "a weight is missing"),
        ("resonant", 2, "resonant is 2, not from 0 to 1"),
        ("rule", "guess", "unknown decision rule guess"),
        ("score_words", 0, "score_words is 0, not from 1 to 2"),
        ("score_words", 3, "score_words is 3, not from 1 to 2"),
        ("rule", "last", "score_words is 2, but the rule adds nothing up"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_graph_whose_attributes_cannot_be_is_refused(
    form: Form, attribute: str, value: Any, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODE, "require")
    with pytest.raises(ArtifactError, match=problem):
        load_graph(altered(form, **{attribute: value}))


@pytest.mark.parametrize(
    ("attribute", "value"), [("per_synapse", 1), ("resonant", 1), ("input_delay", 5), ("recurrent_delay", 5)]
)
def test_what_the_operator_does_not_accelerate_runs_in_plain_onnx(
    attribute: str, value: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Artifacts of earlier versions call it all the same."""
    monkeypatch.setenv(MODE, "require")
    content, inputs = altered("bank", **{attribute: value}), feed("bank", [0, 3], [1, 4], [5])
    plain = load_graph(made("bank").content, use_operators=False).run(inputs, [SCORES, READOUT])
    found = load_graph(content).run(inputs, [SCORES, READOUT])
    assert all(np.array_equal(found[name], plain[name]) for name in plain)
    assert not caplog.records


@pytest.mark.parametrize("form", FORMS)
def test_a_score_of_one_word_does_not_take_the_state_of_two(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE, "require")
    with pytest.raises(ArtifactError, match="state or step does not have a row a stream"):
        load_graph(altered(form, score_words=1)).run(feed(form, [0], [0], [5]), [SCORES])


@pytest.mark.parametrize(("attribute", "value"), [("step_samples", 0), ("step_samples", HUGE), ("window_samples", -1)])
def test_an_encoder_whose_attributes_cannot_be_is_refused(
    attribute: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load_from_string(encoder_graph(EncoderSpec()))
    (call,) = (node for node in model.graph.node if node.op_type == "Encoder")
    (old,) = (found for found in call.attribute if found.name == attribute)
    old.i = value
    monkeypatch.setenv(MODE, "require")
    with pytest.raises(ArtifactError, match=f"{attribute} is {value}, not from 1"):
        load_graph(model.SerializeToString())


def test_an_encoder_whose_scalars_are_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load_from_string(encoder_graph(EncoderSpec()))
    (scalars,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("scalars"))
    scalars.raw_data = np.full(4, np.nan).tobytes()
    monkeypatch.setenv(MODE, "require")
    with pytest.raises(ArtifactError, match="not finite"):
        load_graph(model.SerializeToString())


@pytest.mark.parametrize("form", FORMS)
def test_more_steps_than_an_array_can_have_are_refused(form: Form) -> None:
    with pytest.raises(ArtifactError, match="more than 2147483647 steps"):
        graph(form).run(feed(form, [], [], [1 << 62, 1 << 62]), [SCORES])


@pytest.mark.parametrize("form", FORMS)
def test_a_score_that_is_no_number_stays_none(form: Form) -> None:
    """The softmax turns a float into an integer, which NaN has none of."""
    inputs = feed(form, [], [], [3])
    inputs[STATE][:] = np.nan
    got = graph(form).run(inputs, [SCORES, PROBABILITIES])
    assert np.isnan(got[SCORES]).all()
    assert np.isnan(got[PROBABILITIES]).all()


STATE_AND_ANSWER = [NEXT_STATE, NEXT_STEP, SCORES, PROBABILITIES]


def busy(form: Form) -> dict[str, Array]:
    """Streams of several lengths, with random spikes, in the midst of a session."""
    random, steps = np.random.default_rng(0), [7, 0, 12, 3]
    row, unit = np.nonzero(random.random((4 * 12, 6)) < 0.4)
    inputs = feed(form, row.tolist(), unit.tolist(), steps)
    before = graph(form).run(inputs, [NEXT_STATE, NEXT_STEP, READOUT])
    return inputs | {STATE: before[NEXT_STATE], STEP: before[NEXT_STEP]}


@pytest.mark.parametrize("form", FORMS)
def test_a_network_without_onnx_runtime_around_it_gives_the_same_bits(form: Form) -> None:
    inputs, loaded = busy(form), graph(form)
    direct, session = loaded.run(inputs, STATE_AND_ANSWER), loaded.run(inputs, [*STATE_AND_ANSWER, READOUT])
    assert isinstance(direct, Sound)
    assert not isinstance(session, Sound)
    assert all(direct[name].tobytes() == session[name].tobytes() for name in STATE_AND_ANSWER)
    assert list(loaded.run(inputs, [PROBABILITIES, NEXT_STEP])) == [PROBABILITIES, NEXT_STEP]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e31, -1e31])
@pytest.mark.parametrize("place", [0, -1], ids=["a current", "the score"])
def test_numbers_out_of_range_are_not_called_sound(place: int, value: float) -> None:
    inputs = busy("bank")
    inputs[STATE][2, place] = value
    assert not isinstance(graph("bank").run(inputs, STATE_AND_ANSWER), Sound)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (STATE, lambda state: state.repeat(2, axis=1)[:, ::2]),
        (EVENT_UNIT, lambda unit: unit.repeat(2)[::2]),
        (STATE, lambda state: np.asfortranarray(state)),
    ],
    ids=["a view of states", "a view of units", "states column by column"],
)
def test_arrays_in_pieces_give_the_same_bits(name: str, change: Callable[[Array], Array]) -> None:
    inputs, loaded = busy("bank"), graph("bank")
    expected, found = (loaded.run(feed, STATE_AND_ANSWER) for feed in (inputs, inputs | {name: change(inputs[name])}))
    assert all(np.array_equal(found[key], expected[key]) for key in STATE_AND_ANSWER)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (STATE, lambda state: state[:, :-1]),
        (STATE, lambda state: state.astype(np.float64)),
        (STATE, lambda state: state[:3]),
        (STEPS, lambda steps: steps.astype(np.int32)),
        (STEP, lambda step: step[:3]),
        (EVENT_UNIT, lambda unit: unit[1:]),
        (EVENT_ROW, lambda row: row[::-1]),
    ],
)
def test_arrays_of_another_type_or_shape_are_refused(name: str, change: Callable[[Array], Array]) -> None:
    inputs = busy("bank")
    with pytest.raises(ArtifactError, match="the graph failed in ONNX Runtime"):
        graph("bank").run(inputs | {name: change(inputs[name])}, STATE_AND_ANSWER)


def test_a_graph_that_is_more_than_its_network_runs_whole() -> None:
    model = onnx.load_from_string(made("bank").content)
    (call,) = (node for node in model.graph.node if node.op_type == OPERATOR)
    call.output[2] = "inner"
    model.graph.node.append(onnx.helper.make_node("Neg", ["inner"], [SCORES]))
    inputs = busy("bank")
    found = load_graph(model.SerializeToString()).run(inputs, STATE_AND_ANSWER)
    expected = graph("bank").run(inputs, STATE_AND_ANSWER)
    assert np.array_equal(found[SCORES], -expected[SCORES])
    assert not isinstance(found, Sound)


def test_a_graph_that_was_stopped_runs_nothing() -> None:
    loaded = graph("bank")
    loaded.stop()
    with pytest.raises(ArtifactError, match="terminate"):
        loaded.run(busy("bank"), STATE_AND_ANSWER)


SHARES_WITHOUT_MEMORY = """
import resource, sys
import numpy as np
from service.errors import ArtifactError
from service.runtime.onnx import Sound, load_graph
from tests.unit.export.graphs.test_operator import feed, made
loaded = load_graph(made("bank").content, threads=2)
inputs = feed("bank", [], [], [2_000_000, 2_000_000])
loaded.run(feed("bank", [], [], [100, 100]), ["scores"])  # both threads are there
outputs = 2 * 2_000_000 * (4 + 3) * 4
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + outputs + 60_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    loaded.run(inputs, ["scores"])
except ArtifactError as error:
    print(error)
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is set from /proc")
def test_a_thread_without_memory_fails_the_call_and_not_the_process() -> None:
    process = subprocess.run([sys.executable, "-c", SHARES_WITHOUT_MEMORY], capture_output=True, text=True, check=False)
    assert "no memory for the batch" in process.stdout, process.stdout + process.stderr
    assert process.returncode == 0


def test_an_encoder_whose_matrix_is_no_fourier_transform_is_left_to_plain_onnx(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = onnx.load_from_string(encoder_graph(EncoderSpec()))
    (spectrum,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("spectrum"))
    other = np.frombuffer(spectrum.raw_data, np.float64).copy()
    other[1] += 1e-3
    spectrum.raw_data = other.tobytes()
    content = model.SerializeToString()
    got = load_graph(content).run(sound(80), [EVENT_UNIT])[EVENT_UNIT]
    plain = load_graph(content, use_operators=False).run(sound(80), [EVENT_UNIT])[EVENT_UNIT]
    assert np.array_equal(got, plain)
    assert "plain ONNX runs instead" in caplog.text
    assert "is not a windowed Fourier transform" in caplog.text


def test_audio_of_another_length_is_refused() -> None:
    with pytest.raises(ArtifactError, match="audio or state does not have a row a stream"):
        load_graph(encoder_graph(EncoderSpec())).run(sound(79), [EVENT_ROW])
