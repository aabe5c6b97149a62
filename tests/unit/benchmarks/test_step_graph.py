"""The step graph that the peers run is the exact form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.servers.models import BankModel, Chunk, ExactModel, State, unpack
from benchmarks.steps.step_graph import step_graph
from export.graphs.network_graph import network_graph
from hetsyn_client.events import pack_events
from hetsyn_model import Network
from tests.support.networks.networks import small_network


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network("hetsyn", "sum_softmax", channels=20)


@pytest.fixture(scope="module")
def spikes() -> torch.Tensor:
    """Two streams of 24 steps."""
    return (torch.rand(2, 24, 20, generator=torch.Generator().manual_seed(0)) < 0.2).float()


def in_chunks(model: ExactModel | BankModel, spikes: torch.Tensor, length: int) -> np.ndarray:
    """Probabilities [stream, outputs] at the end."""
    states: list[State] = [model.initial] * len(spikes)
    probabilities: list[np.ndarray] = []
    for start in range(0, spikes.shape[1], length):
        chunks = [_chunk(stream[start : start + length]) for stream in spikes.numpy()]
        results = model.run(states, chunks)
        probabilities, states = [p for p, _ in results], [state for _, state in results]
    return np.array(probabilities)


def _chunk(spikes: np.ndarray) -> Chunk:
    times, units = np.nonzero(spikes)
    return unpack(pack_events(len(spikes), times, units))


@pytest.mark.parametrize("length", [1, 5, 24])
@torch.no_grad()
def test_steps_equal_torch(network: Network, spikes: torch.Tensor, length: int, tmp_path: Path) -> None:
    rolled = network.rollout(spikes, "exact")
    assert all(z.any() for z in rolled.hidden_spikes)
    (tmp_path / "step.onnx").write_bytes(step_graph(network))
    got = in_chunks(ExactModel(tmp_path / "step.onnx"), spikes, length)
    np.testing.assert_allclose(got, rolled.probabilities.numpy(), atol=1e-5)


@pytest.mark.parametrize("length", [5, 24])
@torch.no_grad()
def test_our_bank_graph_runs_as_the_peers_run_it(
    network: Network, spikes: torch.Tensor, length: int, tmp_path: Path
) -> None:
    (tmp_path / "bank.onnx").write_bytes(network_graph(network.compile("bank")))
    got = in_chunks(BankModel(tmp_path / "bank.onnx"), spikes, length)
    np.testing.assert_allclose(got, network.rollout(spikes, "bank").probabilities.numpy(), atol=1e-5)
