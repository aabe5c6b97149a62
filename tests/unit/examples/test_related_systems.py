"""The related systems' settings are their papers', and the page has the bytes of their state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from examples import delays
from examples.delays import dcls_like, delrec_like, filtered_input
from examples.kernels.dynap_se import dynap_se
from examples.kernels.f_lif import f_lif
from examples.kernels.network import KernelNetwork, Layer, Running
from examples.training import rollout
from hetsyn_model import Network, NetworkSpec
from hetsyn_model.spec import DecisionSpec, se_adlif
from hetsyn_model.state import decision_layout, state_bytes
from service.contract.artifact import Artifact
from tests.support.paths import ROOT


def layer_of(network: KernelNetwork, index: int) -> Layer:
    layer = network.layers[index]
    assert isinstance(layer, Layer)
    return layer


@torch.no_grad()
@pytest.mark.parametrize(("order", "tau", "step"), [(0.5, 2.0, 1.0), (0.8, 2.0, 0.5), (1.0, 4.0, 1.0)])
def test_an_f_lif_neuron_follows_the_solver_of_its_equation(order: float, tau: float, step: float) -> None:
    """``tau D^p v = u - v`` by the implicit Gruenwald-Letnikov step, and a spike that takes theta off the drive."""
    network = f_lif(1, (1,), 1, order=order, tau=tau, step=step, recurrent=False)
    layer_of(network, 0).w_in.fill_(3.0)
    steps, rate = 80, step**order / tau
    b = np.cumprod(np.concatenate([[1.0], 1.0 - (1.0 + order) / np.arange(1, steps)]))
    x = (np.arange(steps) % 3 == 0).astype(float)
    v, z = np.zeros(steps), np.zeros(steps)
    for t in range(steps):
        drive = 3.0 * x[t] - (z[t - 1] if t else 0.0)
        v[t] = (rate * drive - np.dot(b[1 : t + 1], v[:t][::-1])) / (1.0 + rate)
        z[t] = v[t] > 1.0
    state, spikes = network.initial_state(), []
    for row in torch.from_numpy(x).float():
        state, _ = network.step(state, row.view(1, 1))
        spikes.append(float(state["hidden1_spikes"]))
    assert z.sum() >= 3
    assert spikes == z.tolist()


def test_a_learned_f_lif_layer_has_one_order_and_one_rate() -> None:
    learned = [name for name, values in f_lif(5, (4, 3), 2, learned=True).named_parameters() if "of_input" in name]
    assert learned == [f"layers.{k}.of_input.{part}" for k in range(3) for part in ("decay", "shaped.order")]
    fixed = f_lif(5, (4, 3), 2)
    assert not any("of_" in name and values.requires_grad for name, values in fixed.named_parameters())


@torch.no_grad()
def test_a_pair_of_dynamic_synapses_answers_late() -> None:
    network = dynap_se(1, (1,), 1, spread=0.0)
    x = torch.zeros(1, 200, 1)
    x[0, 0] = 1.0
    layer_of(network, 0).w_in.fill_(3.0)
    layer_of(network, 1).w_in.fill_(1.0)
    state, potentials = network.initial_state(), []
    first = network.running().layers[0]
    state = Running((first,)).initial_state()
    for row in x.unbind(1):
        state, potential = Running((first,)).step(state, row)
        potentials.append(float(potential))
    n = np.arange(200)
    response = 3.0 * (np.exp(-n / 35.5) - np.exp(-n / 14.2))
    np.testing.assert_allclose(potentials, response, atol=1e-2)
    assert 15 <= response.argmax() <= 30


@pytest.mark.parametrize("name", ["f_lif", "dynap_se"])
def test_weights_and_kernels_learn_within_their_ranges(name: str) -> None:
    torch.manual_seed(0)  # some weights give no spike that could teach
    network = f_lif(6, (5,), 2, learned=True) if name == "f_lif" else dynap_se(6, (5,), 2)
    x = (torch.rand(4, 20, 6, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    before = {name: values.detach().clone() for name, values in network.named_parameters()}
    optimiser = torch.optim.SGD(network.parameters(), lr=3e3)
    rollout(network, x).square().sum().backward()
    optimiser.step()
    network.initial_state()
    for name, values in network.named_parameters():
        assert not torch.equal(values, before[name]), name
        if "of_" in name:
            low, high = network.ranges[name.rpartition(".")[2]]
            assert low - 1e-6 <= float(values.detach().min()) <= float(values.detach().max()) <= high + 1e-6


@pytest.mark.parametrize(
    ("name", "least"),
    [
        pytest.param("dcls", 75, marks=pytest.mark.process),
        *(pytest.param(name, 80, marks=pytest.mark.long) for name in ("delrec", "stsc")),
    ],
)
def test_a_network_with_delays_learns_and_is_exported(
    name: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export compares every implementation to the bit, in chunks and in company; test_restart.py has the kill."""
    printed: list[str] = []
    monkeypatch.setattr(delays, "print", printed.append, raising=False)
    delays.main(name, str(tmp_path / name / "1"))
    assert int(printed[0].partition("%")[0]) >= least, printed
    assert Artifact.open(tmp_path / name / "1").manifest.network.exactness == "B"


def test_the_page_of_related_systems_has_the_bytes_of_each() -> None:
    text = (ROOT / "docs/explanation/related-systems.md").read_text()
    sizes = (700, (128, 64), 20)
    for row, spec in (
        ("`examples/delays.py` | B |", dcls_like(*sizes)),
        ("| 6,200 B;", delrec_like(*sizes)),
        ("`examples/delays.py`; `examples/temporal_filter.py` | B; C |", filtered_input(*sizes)),
        ("`se_adlif()` | B |", NetworkSpec(*sizes, neuron=se_adlif())),
    ):
        network = Network(spec)
        network.fit_banks()
        assert f"{row} {state_bytes(network.compile('bank').layout):,} B" in text, row
    for row, cell in (
        ("`examples/kernels/f_lif.py` | B |", f_lif(*sizes)),
        ("`examples/kernels/dynap_se.py` | B |", dynap_se(*sizes)),
    ):
        layers = [tensor for layer in cell.running().layers for tensor in layer.layout()]
        kept = state_bytes([*layers, *decision_layout(DecisionSpec(), 20)])
        assert f"{row} {kept:,} B" in text, row


def test_an_unknown_network_of_delays_is_named() -> None:
    with pytest.raises(SystemExit, match="no network 'dlcs': give one of dcls, delrec, stsc"):
        delays.main("dlcs")
