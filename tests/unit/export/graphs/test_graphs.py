"""Exported graphs and scripts against torch: every neuron model and decision rule, any chunks, any company."""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.encoders import verify_encoder
from export.graphs.encoder_graph import encoder_graph, encoder_state
from export.parity import (
    ParityError,
    Streams,
    Traces,
    exported_network,
    graphs_by_runtime,
    run_graph,
    run_script,
    run_torch,
)
from hetsyn_model.encoders.encoder import Encoder, EncoderSpec
from hetsyn_model.spec import Rule
from hetsyn_model.state import Form
from service.runtime.onnx import load_graph
from service.runtime.operators import library
from tests.support.networks.exported import FORMS, RUNTIMES, exported, verify_form
from tests.support.networks.networks import CASES
from tests.support.pairs import in_pairs
from tests.support.tools import NO_OPERATOR

CHUNKED: list[tuple[str, Form, str]] = [
    ("hetsyn", "bank", "operator"),
    ("hetsyn", "bank", "plain ONNX"),
    ("hetsyn", "exact", "plain ONNX"),
    ("lif-zero-own", "exact", "operator"),
    ("lif-zero-own", "exact", "plain ONNX"),
    ("hetsyn-resonance", "bank", "plain ONNX"),
]


def streams(count: int = 5, steps: int = 40) -> Streams:
    spikes = (torch.rand(count, steps, 30, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    return Streams(spikes, torch.tensor([steps, 3, steps // 2, 1, steps][:count]))


@pytest.mark.parametrize(("name", "rule", "form"), in_pairs((*case, form) for case in CASES for form in FORMS))
def test_implementations_agree_to_the_bit(name: str, rule: Rule, form: Form) -> None:
    made = exported(name, rule, form, bias=rule == "last", recurrent=rule != "trace")
    differences = verify_form(made.compiled, made.graphs, made.script, streams())
    assert run_torch(made.compiled, streams()).hidden[1].any()
    assert [(d.labels, d.spikes, d.readout) for d in differences] == [(0, 0, 0.0)] * (4 * len(made.graphs) + 1)
    assert max(d.probabilities for d in differences) < 1e-6
    words = sum(prod(tensor.shape) for tensor in made.compiled.layout if not tensor.is_decision)
    expected = run_script(made.script, exported_network(made.compiled, b""), streams()).rows
    assert expected is not None
    for graph in made.graphs.values():  # torch's rollout has no state; TorchScript is the step itself
        found = run_graph(graph, made.compiled.layout, streams(), 2, [7, 1]).rows
        assert found is not None
        assert np.array_equal(found[:, :words], expected[:, :words])


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param == "operator" and library() is None:
        pytest.skip(NO_OPERATOR)
    return str(request.param)


@cache
def whole(name: str, form: Form, runtime: str) -> Traces:
    made = exported(name, "sum_softmax", form)
    return run_graph(made.on(runtime), made.compiled.layout, streams(), 2, [1 << 30])


@pytest.mark.parametrize(("name", "form", "runtime"), CHUNKED)
@given(cuts=st.lists(st.integers(1, 15), min_size=1, max_size=6))
@settings(max_examples=25)
def test_any_chunking_gives_the_same_bits(name: str, form: Form, runtime: str, cuts: list[int]) -> None:
    made, expected = exported(name, "sum_softmax", form), whole(name, form, runtime)
    parts = run_graph(made.on(runtime), made.compiled.layout, streams(), 2, cuts)
    assert np.array_equal(expected.readout, parts.readout)
    assert np.array_equal(expected.probabilities, parts.probabilities)


@pytest.mark.parametrize(("name", "form", "runtime"), CHUNKED)
@given(order=st.permutations(range(5)), count=st.integers(1, 5))
@settings(max_examples=25)
def test_any_batch_mates_give_the_same_bits(name: str, form: Form, runtime: str, order: list[int], count: int) -> None:
    made, everyone = exported(name, "sum_softmax", form), whole(name, form, runtime)
    chosen = order[:count]
    some = Streams(streams().spikes[chosen], streams().steps[chosen])
    got = run_graph(made.on(runtime), made.compiled.layout, some, 2, [13])
    assert np.array_equal(got.readout, everyone.readout[chosen, : got.readout.shape[1]])
    assert np.array_equal(got.probabilities, everyone.probabilities[chosen])


def test_threads_give_the_same_bits(runtime: str) -> None:
    made = exported("hetsyn", "sum_softmax", "bank")
    content, layout = made.content, made.compiled.layout
    many = Streams(streams().spikes.repeat(8, 1, 1), streams().steps.repeat(8))
    alone, shared = (
        run_graph(load_graph(content, threads=threads, use_operators=runtime == "operator"), layout, many, 2, [1 << 30])
        for threads in (1, 2)
    )
    assert np.array_equal(alone.readout, shared.readout)
    assert np.array_equal(alone.probabilities, shared.probabilities)


def test_a_script_takes_any_batch() -> None:
    made = exported("hetsyn", "sum_softmax", "bank")
    for count in (1, 2, 5):
        traces = run_script(made.script, exported_network(made.compiled, b""), streams(count))
        assert np.array_equal(traces.readout, run_torch(made.compiled, streams(count)).readout)


def test_a_graph_of_another_network_is_refused() -> None:
    made, other = (exported("hetsyn", "sum_softmax", "bank", bias=bias) for bias in (False, True))
    with pytest.raises(ParityError, match="alone differs from torch"):
        verify_form(made.compiled, other.graphs, made.script, streams())


@pytest.mark.parametrize(
    "spec", [EncoderSpec(), EncoderSpec(bands=12, levels=6, contrast=0.5, emphasis_db_per_octave=6.0)]
)
def test_the_encoder_graph_gives_the_same_spikes(runtime: str, spec: EncoderSpec) -> None:
    graph = graphs_by_runtime(encoder_graph(spec))[runtime]
    rng = np.random.default_rng(0)
    audio = torch.from_numpy((rng.normal(size=(3, 30 * 80)) * np.array([[0.3], [0.01], [0.0001]])).astype(np.float32))
    verify_encoder(Encoder(spec), graph, encoder_state(spec), audio)
    other = Encoder(EncoderSpec(**{**spec.to_dict(), "spacing_db": spec.spacing_db + 1}))
    with pytest.raises(ParityError, match="encoder"):
        verify_encoder(other, graph, encoder_state(spec), audio)


def test_streams_of_one_encoder_batch_may_differ_in_length(runtime: str) -> None:
    spec = EncoderSpec(bands=12, levels=6)
    encoder, graph = Encoder(spec), graphs_by_runtime(encoder_graph(spec))[runtime]
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.normal(size=(2, 20 * 80))).astype(np.float32)
    steps = np.array([20, 7])
    feed: dict[str, np.ndarray] = {"audio": audio, "steps": steps}
    feed |= {f"state.{t.name}": np.full((2, *t.shape), t.initial, t.dtype) for t in encoder_state(spec)}
    out = graph.run(feed, ["events.row", "next.encoder.gain_db", "next.encoder.history", "next.encoder.level_db"])
    alone, state = encoder.step(torch.from_numpy(audio[1:, : 7 * 80]), encoder.initial_state(1))
    assert int((out["events.row"] >= 20).sum()) == int(alone.sum())
    assert out["events.row"].max() < 27
    assert float(out["next.encoder.gain_db"][1]) == pytest.approx(float(state.gain_db), abs=1e-12)
    assert np.array_equal(out["next.encoder.history"][1], state.history[0].float().numpy())
    assert np.allclose(out["next.encoder.level_db"][1], state.level_db[0].numpy(), atol=1e-12)
