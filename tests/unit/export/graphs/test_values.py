"""Graphs and scripts of networks of values against torch: every neuron model, any chunks, any company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.graphs.network_graph import PLAIN, network_graph
from export.parity import Streams, Traces, chunk_feed, initial_row, run_graph, run_torch
from hetsyn_model import Compiled, Network, NetworkSpec, variant
from hetsyn_model.spec import Rule
from hetsyn_model.state import Form
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, READOUT, STATE, STEPS, VALUES
from service.errors import ArtifactError
from service.runtime.onnx import Array, Graph
from tests.support.networks.exported import FORMS, Exported, exported, verify_form
from tests.support.pairs import in_pairs

CASES: list[tuple[str, Rule]] = [
    ("hetsyn", "spike_count"),
    ("hetsyn", "sum_softmax"),
    ("hetneu", "spike_count"),
    ("alif", "last"),
    ("no-synapse-memory", "spike_count"),
    ("lif-zero", "spike_count"),
    ("hetsyn-membrane", "trace"),
    ("hetsyn-own", "spike_count"),
]


def values_network(name: str, rule: Rule, form: Form, channels: int, **options: bool) -> Exported:
    return exported(name, rule, form, channels=channels, input_kind="values", **options)


def streams(channels: int, count: int = 5, steps: int = 40) -> Streams:
    """Values whose magnitudes differ from step to step by a factor of thousands."""
    generator = torch.Generator().manual_seed(0)
    size = torch.exp(2 * torch.randn(count, steps, 1, generator=generator))
    values = size * torch.randn(count, steps, channels, generator=generator)
    return Streams(values, torch.tensor([steps, 3, steps // 2, 1, steps][:count]))


@pytest.mark.parametrize(
    ("name", "rule", "form", "channels"),
    in_pairs((*case, form, n) for case in CASES for form in FORMS for n in (1, 35)),
)
def test_implementations_agree_to_the_bit(name: str, rule: Rule, form: Form, channels: int) -> None:
    made = values_network(name, rule, form, channels, bias=rule != "sum_softmax", recurrent=rule != "trace")
    differences = verify_form(made.compiled, made.graphs, made.script, streams(channels))
    assert run_torch(made.compiled, streams(channels)).hidden[1].any()
    assert [(d.labels, d.spikes, d.readout) for d in differences] == [(0, 0, 0.0)] * (4 * len(made.graphs) + 1)
    assert max(d.probabilities for d in differences) < 1e-6


@pytest.fixture(
    scope="module",
    params=[("hetsyn", "exact"), ("hetsyn", "bank"), ("hetneu", "exact")],
    ids="-".join,
)
def form_graph(request: pytest.FixtureRequest) -> tuple[Compiled, Graph, Traces]:
    """A network, its graph, and what all streams give there as a whole."""
    name, form = request.param
    made = values_network(name, "spike_count", form, 6, bias=True)
    compiled, graph = made.compiled, made.graph
    return compiled, graph, run_graph(graph, compiled.layout, streams(6), 2, [1 << 30], "values")


@given(
    cuts=st.lists(st.integers(1, 15), min_size=1, max_size=6), order=st.permutations(range(5)), count=st.integers(1, 5)
)
@settings(max_examples=25, deadline=None)
def test_any_chunks_in_any_company_give_the_same_bits(
    form_graph: tuple[Compiled, Graph, Traces], cuts: list[int], order: list[int], count: int
) -> None:
    compiled, graph, whole = form_graph
    every, chosen = streams(6), order[:count]
    some = Streams(every.spikes[chosen], every.steps[chosen])
    parts = run_graph(graph, compiled.layout, some, 2, cuts, "values")
    assert np.array_equal(whole.readout[chosen, : parts.readout.shape[1]], parts.readout)
    assert np.array_equal(whole.probabilities[chosen], parts.probabilities)


def test_a_chunk_of_no_steps_changes_nothing(form_graph: tuple[Compiled, Graph, Traces]) -> None:
    compiled, graph, _ = form_graph
    row = initial_row(compiled.layout, 2)
    row[STATE][:] = np.random.default_rng(0).random(row[STATE].shape, np.float32)
    feed: dict[str, Array] = {VALUES: np.zeros((2, 0, 6), np.float32), STEPS: np.zeros(2, np.int64)}
    out = graph.run(feed | row, [NEXT_STATE, NEXT_STEP, READOUT])
    assert np.array_equal(out[NEXT_STATE], row[STATE])
    assert not out[NEXT_STEP].any()
    assert out[READOUT].shape == (2, 0, 5)


def test_values_of_another_shape_are_refused() -> None:
    made = values_network("hetsyn", "spike_count", "bank", 6)
    feed = chunk_feed(np.zeros((1, 4, 6), np.float32), np.array([9], np.int64), "values")
    with pytest.raises(ArtifactError, match="the graph failed"):
        made.graph.run(feed | initial_row(made.compiled.layout, 1), [READOUT])


def test_the_operator_takes_spikes_alone() -> None:
    assert PLAIN.encode() in values_network("hetsyn", "spike_count", "bank", 6).content
    assert PLAIN.encode() not in network_graph(
        Network(NetworkSpec(2, (3,), 2, neuron=variant("hetneu"))).compile("exact")
    )
