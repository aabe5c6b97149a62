"""Resonant neurons as they are served: any cuts, silence without end, what an artifact says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export import export_network
from export.graphs.network_graph import network_graph
from export.parity import chunk_feed, initial_row
from hetsyn_model.state import FORMS, Form
from service.contract.artifact import Artifact
from service.contract.describe import summary
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, READOUT, STATE, STEP, spikes_name
from service.runtime.onnx import Array, Graph, load_graph
from tests.support.networks.networks import small_network

KINDS = ("se-adlif", "hetsyn-resonance")
CHANNELS, STEPS = 30, 60


def run(graph: Graph, spikes: Array, state: dict[str, Array]) -> tuple[dict[str, Array], Array]:
    """A chunk of every stream, [stream, steps, channels]; the state after it, and the readout."""
    steps = np.full(len(spikes), spikes.shape[1], np.int64)
    out = graph.run(chunk_feed(spikes, steps) | state, [NEXT_STATE, NEXT_STEP, READOUT, spikes_name("hidden1")])
    assert out[spikes_name("hidden1")].any() or not spikes.any()
    return {STATE: out[NEXT_STATE], STEP: out[NEXT_STEP]}, out[READOUT]


def some_spikes(streams: int = 3, rate: float = 0.3) -> Array:
    return (np.random.default_rng(2).random((streams, STEPS, CHANNELS)) < rate).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_ten_thousand_steps_of_silence_end_in_rest(kind: str, form: Form) -> None:
    compiled = small_network(kind, "last").compile(form)
    graph = load_graph(network_graph(compiled))
    state, _ = run(graph, some_spikes(1), initial_row(compiled.layout, 1))
    state, readout = run(graph, np.zeros((1, 10_000, CHANNELS), np.float32), state)
    assert np.isfinite(readout).all()
    assert np.abs(state[STATE]).max() < 1e-30
    assert state[STEP].tolist() == [STEPS + 10_000]


@pytest.mark.parametrize(
    ("name", "form", "exactness"), [("se-adlif", "bank", "B"), ("lif-zero", "bank", "A"), ("lif-zero", "exact", "B")]
)
def test_an_artifact_states_exactness_and_lookahead(tmp_path: Path, name: str, form: Form, exactness: str) -> None:
    examples, out = torch.from_numpy(some_spikes()), tmp_path / name / "1"
    export_network(small_network(name, "last"), out=out, labels=list("abcde"), examples=examples, form=form)
    network = summary(Artifact.open(out).manifest)["network"]
    assert (network["exactness"], network["lookahead_steps"]) == (exactness, 0)
