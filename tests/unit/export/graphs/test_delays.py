"""Networks with delays: every implementation, any chunks, any company, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.graphs.network_graph import network_graph
from export.graphs.torchscript import torchscript
from export.parity import Streams, chunk_feed, graphs_by_runtime, initial_row, run_graph, run_torch
from hetsyn_model import Network, NetworkSpec, NeuronSpec, PathSpec
from hetsyn_model.spec import Rule
from hetsyn_model.state import Form
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, STATE, STEP
from service.runtime.onnx import load_graph
from tests.support.networks.delays import PATHS, delayed_network
from tests.support.networks.exported import FORMS, exported_delayed, verify_form
from tests.support.pairs import in_pairs

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
    assert [(d.labels, d.spikes, d.readout) for d in differences] == [(0, 0, 0.0)] * (4 * len(made.graphs) + 1)
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


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", FORMS)
def test_the_state_is_the_same_after_any_chunks(path: str, form: Form) -> None:
    made = exported_delayed(path, form)
    spikes = streams(4, 70).spikes.numpy()
    ends = []
    for cuts in ([70], [1] * 70, [24, 25, 21], [50, 0, 20]):
        state, start = initial_row(made.compiled.layout, 4), 0
        for cut in cuts:
            feed = chunk_feed(spikes[:, start : start + cut], np.full(4, cut, np.int64)) | state
            out = made.graph.run(feed, [NEXT_STATE, NEXT_STEP])
            state, start = {STATE: out[NEXT_STATE], STEP: out[NEXT_STEP]}, start + cut
        ends.append(state[STATE])
    score = made.compiled.spec.outputs * 2  # of class C, as it is without delays
    for end in ends[1:]:
        assert np.array_equal(end[:, :-score], ends[0][:, :-score])


@pytest.mark.parametrize("form", FORMS)
def test_values_have_delays_on_the_recurrent_path_alone(form: Form) -> None:
    made = delayed_network("recurrent-50-taps-2", input_kind="values")
    compiled = made.compile(form)
    values = torch.randn(3, 70, CHANNELS, generator=torch.Generator().manual_seed(1)) * 0.3
    parts = Streams(values, torch.tensor([70, 33, 70]))
    differences = verify_form(compiled, graphs_by_runtime(network_graph(compiled)), torchscript(compiled), parts)
    assert run_torch(compiled, parts).hidden[0].any()
    assert all((d.labels, d.spikes) == (0, 0) for d in differences)


@pytest.mark.parametrize("form", FORMS)
def test_delays_of_many_registers_give_the_same_bits_in_any_chunks(form: Form) -> None:
    spec = NetworkSpec(40, (20,), 3, input_path=PathSpec(100, 2), recurrent_path=PathSpec(240))
    made = Network(spec, seed=2).eval()
    with torch.no_grad():
        made.layer("hidden1").get_parameter("w_in").mul_(3.0)
    made.fit_banks()
    compiled = made.compile(form)
    x = (torch.rand(2, 300, 40, generator=torch.Generator().manual_seed(5)) < 0.3).float()
    parts = Streams(x, torch.tensor([300, 290]))
    graph = load_graph(network_graph(compiled))
    runs = [run_torch(compiled, parts), *(run_graph(graph, compiled.layout, parts, 1, [n]) for n in (1, 32, 64, 300))]
    assert runs[0].hidden[0].any()
    assert all(np.array_equal(run.readout, runs[0].readout) for run in runs)
    assert all(np.array_equal(run.hidden[0], runs[0].hidden[0]) for run in runs)
