"""Networks with delays: every implementation, any chunks, any company, to the bit."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest
import torch

from export.network_graph import network_graph
from export.parity import Streams, chunk_feed, initial_row, run_graph, run_torch, verify_form
from export.torchscript import torchscript
from export.write import graphs_by_runtime
from hetsyn_model import Network, NetworkSpec, NeuronSpec, PathSpec
from hetsyn_model.spec import Rule
from hetsyn_model.state import Form
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, READOUT, STATE, STEP, STEPS
from service.errors import ArtifactError
from service.runtime.onnx import load_graph
from service.runtime.operators import library
from tests.support.delays import PATHS, delayed_network
from tests.support.exported import FORMS, RUNTIMES, exported_delayed
from tests.support.pairs import in_pairs
from tests.support.tools import NO_OPERATOR

CHANNELS = 30
CASES: list[tuple[str, Rule]] = [
    ("hetsyn", "sum_softmax"),
    ("hetneu", "spike_count"),
    ("alif", "last"),
    ("lif-zero", "trace"),
    ("hetsyn-membrane", "spike_count"),
    ("hetsyn-own", "sum_softmax"),
]


def streams(count: int = 5, steps: int = 70) -> Streams:
    spikes = (torch.rand(count, steps, CHANNELS, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    return Streams(spikes, torch.tensor([steps, 3, steps // 2, 1, steps][:count]))


@pytest.mark.parametrize(
    ("path", "kind", "rule", "form"),
    in_pairs((path, *case, form) for path in PATHS for case in CASES for form in FORMS),
)
def test_implementations_agree_to_the_bit(path: str, kind: str, rule: Rule, form: Form) -> None:
    made = exported_delayed(path, form, kind, rule, bias=rule == "last")
    differences = verify_form(made.compiled, made.graphs, made.script, streams())
    assert run_torch(made.compiled, streams()).hidden[1].any()
    assert [(d.labels, d.spikes, d.readout) for d in differences] == [(0, 0, 0.0)] * (3 * len(made.graphs) + 1)
    assert max(d.probabilities for d in differences) < 1e-6


@pytest.mark.parametrize(("neurons", "taps", "delay"), [(1, 1, 3), (1, 2, 0), (12, 1, 3), (12, 2, 26)])
@pytest.mark.parametrize("form", FORMS)
def test_all_neurons_that_fire_at_once_arrive_at_once(form: Form, neurons: int, taps: int, delay: int) -> None:
    neuron = NeuronSpec(decays="shared")
    spec = NetworkSpec(CHANNELS, (neurons,), 3, neuron=neuron, recurrent_path=PathSpec(30, taps))
    made = Network(spec, seed=1).eval()
    with torch.no_grad():
        made.layer("hidden1").get_parameter("w_in").fill_(0.15)
        made.layer("hidden1").get_parameter("w_rec").fill_(-1.0 / neurons)
        for delays in made.delays().values():
            delays.fill_(delay)
    made.fit_banks()
    compiled = made.compile(form)
    fired = run_torch(compiled, streams()).hidden[0]
    assert fired.any()
    assert (fired == fired[..., :1]).all()
    differences = verify_form(compiled, graphs_by_runtime(network_graph(compiled)), torchscript(compiled), streams())
    assert all((d.labels, d.spikes, d.readout) == (0, 0, 0.0) for d in differences)


@pytest.mark.parametrize(("path", "form", "runtime"), in_pairs(product(PATHS, FORMS, RUNTIMES)))
def test_chunks_as_long_as_the_delays_give_the_same_bits(path: str, form: Form, runtime: str) -> None:
    made = exported_delayed(path, form, longest_everywhere=True)
    graph, layout = made.on(runtime), made.compiled.layout
    whole = run_graph(graph, layout, streams(), 2, [1 << 30])
    longest = max(part.max_delay_steps for part in PATHS[path])
    for cut in (1, longest - 1, longest, longest + 1):
        parts = run_graph(graph, layout, streams(), 2, [cut])
        assert np.array_equal(whole.readout, parts.readout), cut
        for a, b in zip(whole.hidden, parts.hidden, strict=True):
            assert np.array_equal(a, b), cut


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", FORMS)
def test_the_state_is_the_same_after_any_chunks_and_runtime(path: str, form: Form) -> None:
    made = exported_delayed(path, form)
    spikes = streams(4, 70).spikes.numpy()
    ends = []
    for graph in made.graphs.values():
        for cuts in ([70], [1] * 70, [24, 25, 21], [50, 0, 20]):
            state, start = initial_row(made.compiled.layout, 4), 0
            for cut in cuts:
                feed = chunk_feed(spikes[:, start : start + cut], np.full(4, cut, np.int64)) | state
                out = graph.run(feed, [NEXT_STATE, NEXT_STEP])
                state, start = {STATE: out[NEXT_STATE], STEP: out[NEXT_STEP]}, start + cut
            ends.append(state[STATE])
    score = made.compiled.spec.outputs * 2  # of class C, as it is without delays
    for end in ends[1:]:
        assert np.array_equal(end[:, :-score], ends[0][:, :-score])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("form", FORMS)
def test_batch_mates_of_other_ages_change_nothing(runtime: str, form: Form) -> None:
    made = exported_delayed("both", form)
    graph = made.on(runtime)
    spikes = streams(2, 60).spikes.numpy()
    row = initial_row(made.compiled.layout, 1)

    def run(x: np.ndarray, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return graph.run(chunk_feed(x, np.full(len(x), x.shape[1], np.int64)) | state, [NEXT_STATE, NEXT_STEP, READOUT])

    older = run(spikes[:1, :33], row)
    alone = run(spikes[:1, 33:], {STATE: older[NEXT_STATE], STEP: older[NEXT_STEP]})
    mates = {
        STATE: np.concatenate([older[NEXT_STATE], row[STATE]]),
        STEP: np.concatenate([older[NEXT_STEP], row[STEP]]),
    }
    together = run(np.concatenate([spikes[:1, 33:], spikes[1:, :27]]), mates)
    assert np.array_equal(together[READOUT][0], alone[READOUT][0])
    assert np.array_equal(together[NEXT_STATE][0], alone[NEXT_STATE][0])
    assert np.array_equal(together[READOUT][1], run(spikes[1:, :27], row)[READOUT][0])


def test_silence_of_a_hundred_thousand_steps_leaves_the_first_state() -> None:
    made = exported_delayed("both", "bank", rule="last")
    graph = made.on("operator")
    first = initial_row(made.compiled.layout, 1)
    out = graph.run(chunk_feed(streams(1, 60).spikes.numpy(), np.array([60])) | first, list(graph.outputs))
    for _ in range(10):
        state = {STATE: out[NEXT_STATE], STEP: out[NEXT_STEP]}
        silence = chunk_feed(np.zeros((1, 10_000, CHANNELS), np.float32), np.array([10_000]))
        out = graph.run(silence | state, list(graph.outputs))
    assert out[NEXT_STEP][0] == 100_060
    assert np.array_equal(out[NEXT_STATE], first[STATE])


@pytest.mark.parametrize("form", FORMS)
def test_values_have_delays_on_the_recurrent_path_alone(form: Form) -> None:
    made = delayed_network("recurrent-50-taps-2", input_kind="values")
    compiled = made.compile(form)
    values = torch.randn(3, 70, CHANNELS, generator=torch.Generator().manual_seed(1)) * 0.3
    parts = Streams(values, torch.tensor([70, 33, 70]))
    differences = verify_form(compiled, graphs_by_runtime(network_graph(compiled)), torchscript(compiled), parts)
    assert run_torch(compiled, parts).hidden[0].any()
    assert all((d.labels, d.spikes) == (0, 0) for d in differences)


def test_a_state_that_no_history_has_counts_as_silence() -> None:
    made = exported_delayed("both", "bank", rule="last")
    graph, state = made.on("operator"), initial_row(made.compiled.layout, 1)
    wild = state[STATE].copy()
    wild[0, ::2], wild[0, 1::2] = np.nan, 1e30
    feed = {**chunk_feed(np.zeros((1, 30, CHANNELS), np.float32), np.array([30])), STEP: state[STEP], STATE: wild}
    assert graph.run(feed, [NEXT_STATE])[NEXT_STATE].shape == wild.shape
    assert feed[STEPS].tolist() == [30]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator has to refuse wrong delays by itself: its loops believe them."""
    monkeypatch.setattr("service.runtime.onnx.check_delays", lambda _: None)


@pytest.mark.parametrize("use_operators", [True, False])
@pytest.mark.parametrize("path", ["recurrent-50-taps-2", "both"])
@pytest.mark.parametrize("delay", [-1, 51, 32767])
def test_no_runtime_takes_delays_beyond_the_registers(use_operators: bool, path: str, delay: int) -> None:
    model = onnx.load_from_string(exported_delayed(path, "bank").content)
    load_graph(model.SerializeToString(), use_operators=use_operators)
    delays = next(x for x in model.graph.initializer if x.name.endswith(".delay_rec"))
    forged = onnx.numpy_helper.to_array(delays).copy()
    forged[-1] = delay
    delays.CopyFrom(onnx.numpy_helper.from_array(forged, delays.name))
    with pytest.raises(ArtifactError, match=rf"\.delay_rec has a delay of {delay} steps, not from 0 to \d+: export"):
        load_graph(model.SerializeToString(), use_operators=use_operators)
    delays.ClearField("raw_data")
    delays.int32_data.extend(forged.tolist())
    with pytest.raises(ArtifactError, match=r"delay_rec is no constant of whole steps"):
        load_graph(model.SerializeToString(), use_operators=use_operators)


@pytest.mark.parametrize(("name", "steps"), [("input_delay", 241), ("input_delay", -1), ("recurrent_delay", 0)])
def test_no_runtime_takes_longer_registers_than_there_are(name: str, steps: int) -> None:
    model = onnx.load_from_string(exported_delayed("both", "bank").content)
    next(attribute for attribute in model.graph.node[-1].attribute if attribute.name == name).i = steps
    with pytest.raises(ArtifactError, match=rf"{name} is {steps}|not from 0 to {steps}:"):
        load_graph(model.SerializeToString(), use_operators=False)


@pytest.mark.usefixtures("unchecked")
def test_the_operator_refuses_a_graph_that_says_wrong_things_of_its_delays(caplog: pytest.LogCaptureFixture) -> None:
    if library() is None:
        pytest.skip(NO_OPERATOR)
    model = onnx.load_from_string(exported_delayed("both", "bank").content)
    for attribute in model.graph.node[-1].attribute:
        if attribute.name == "input_delay":
            attribute.i = 100_000
    load_graph(model.SerializeToString())
    assert "input_delay is 100000, not from 0 to 240" in caplog.text


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("delay", [-1, 51, 32767])
def test_the_operator_refuses_delays_beyond_the_longest(delay: int, caplog: pytest.LogCaptureFixture) -> None:
    if library() is None:
        pytest.skip(NO_OPERATOR)
    model = onnx.load_from_string(exported_delayed("recurrent-50-taps-2", "bank").content)
    delays = next(x for x in model.graph.initializer if x.data_type == onnx.TensorProto.INT16 and len(x.dims) == 1)
    forged = onnx.numpy_helper.to_array(delays).copy()
    forged[-1] = delay
    delays.CopyFrom(onnx.numpy_helper.from_array(forged, delays.name))
    load_graph(model.SerializeToString())
    assert f"a delay is {delay} steps, not from 0 to 50" in caplog.text


@pytest.mark.parametrize("form", FORMS)
def test_delays_of_many_registers_give_the_graphs_bits(form: Form) -> None:
    if library() is None:
        pytest.skip(NO_OPERATOR)
    spec = NetworkSpec(40, (20,), 3, input_path=PathSpec(100, 2), recurrent_path=PathSpec(240))
    made = Network(spec, seed=2).eval()
    with torch.no_grad():
        made.layer("hidden1").get_parameter("w_in").mul_(3.0)
    made.fit_banks()
    compiled = made.compile(form)
    x = (torch.rand(2, 300, 40, generator=torch.Generator().manual_seed(5)) < 0.3).float()
    parts = Streams(x, torch.tensor([300, 290]))
    graphs = graphs_by_runtime(network_graph(compiled)).values()
    assert len(graphs) > 1
    runs = [run_graph(graph, compiled.layout, parts, 1, [chunk]) for graph in graphs for chunk in (1, 32, 64, 300)]
    assert runs[0].hidden[0].any()
    assert all(np.array_equal(run.readout, runs[0].readout) for run in runs)
    assert all(np.array_equal(run.hidden[0], runs[0].hidden[0]) for run in runs)


@pytest.mark.parametrize(
    ("path", "density", "form"),
    in_pairs(product(["input-24", "input-26-taps-2", "both"], [0.0, 0.02, 0.6, 1.0], FORMS)),
)
def test_any_density_gives_the_graphs_bits(path: str, density: float, form: Form) -> None:
    """Lists of arrivals that stay empty, that end within a processor's vector, and that hold every row."""
    if library() is None:
        pytest.skip(NO_OPERATOR)
    made = exported_delayed(path, form, "hetneu", channels=150)
    compiled, graphs = made.compiled, made.graphs
    x = (torch.rand(2, 70, 150, generator=torch.Generator().manual_seed(4)) < density).float()
    for cut in (1, 31, 33, 70):
        runs = [run_graph(g, compiled.layout, Streams(x, torch.tensor([70, 65])), 2, [cut]) for g in graphs.values()]
        assert all(np.array_equal(run.readout, runs[0].readout) for run in runs), cut
        assert all(np.array_equal(run.hidden[0], runs[0].hidden[0]) for run in runs), cut
