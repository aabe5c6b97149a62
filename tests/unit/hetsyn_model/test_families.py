"""The families' values: what the papers' settings are in ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hetsyn_model import Network, NetworkSpec
from hetsyn_model.families import dcls_like, delrec_like, dynap_pair, f_lif, filtered_input, se_adlif
from hetsyn_model.spec import DecisionSpec
from hetsyn_model.state import state_bytes
from tests.support.kernels import gruenwald_letnikov
from tests.support.paths import ROOT


@torch.no_grad()
@pytest.mark.parametrize(("order", "tau", "step"), [(0.5, 2.0, 1.0), (0.8, 2.0, 0.5), (1.0, 4.0, 1.0)])
def test_an_f_lif_neuron_follows_the_solver_of_its_equation(order: float, tau: float, step: float) -> None:
    """``tau D^p v = u - v`` by the implicit Gruenwald-Letnikov step, and a spike that takes theta off the drive."""
    network = Network(NetworkSpec(1, (1,), 1, recurrent=False, **f_lif(order=order, tau=tau, step=step))).double()
    network.layer("hidden1").w_in.fill_(3.0)
    network.fit_banks(error_bound=2e-4)
    steps, rate = 80, step**order / tau
    b = np.cumprod(np.concatenate([[1.0], 1.0 - (1.0 + order) / np.arange(1, steps)]))
    x = (np.arange(steps) % 3 == 0).astype(float)
    v, z = np.zeros(steps), np.zeros(steps)
    for t in range(steps):
        drive = 3.0 * x[t] - (z[t - 1] if t else 0.0)
        v[t] = (rate * drive - np.dot(b[1 : t + 1], v[:t][::-1])) / (1.0 + rate)
        z[t] = v[t] > 1.0
    rolled = network.rollout(torch.from_numpy(x).view(1, steps, 1))
    assert z.sum() >= 3
    assert rolled.hidden_spikes[0].flatten().tolist() == z.tolist()


def test_a_learned_f_lif_layer_has_one_order_and_one_rate() -> None:
    network = Network(NetworkSpec(5, (4, 3), 2, **f_lif(learned=True)))
    assert set(network.decays()) == {f"layers.{k}.{part}_in" for k in range(3) for part in ("r", "order")}
    assert all(value.numel() == 1 for value in network.decays().values())
    assert not Network(NetworkSpec(5, (4, 3), 2, **f_lif())).decays()


def test_a_pair_of_dynamic_synapses_answers_late() -> None:
    network = Network(NetworkSpec(1, (1,), 1, recurrent=False, decision=DecisionSpec("trace"), **dynap_pair(spread=0)))
    layer = network.layer("hidden1")
    n = np.arange(200)
    response = np.exp(-n / 35.5) - np.exp(-n / 14.2)
    slow, fast = (float(layer.get_parameter(name).detach()) for name in ("r_in", "fast_in"))
    np.testing.assert_allclose(slow**n - fast**n, response, atol=1e-5)
    assert 15 <= response.argmax() <= 30
    assert gruenwald_letnikov(1.0, slow, 10)[0] == pytest.approx(1 - slow)


def test_the_page_of_related_systems_has_the_bytes_of_each_family() -> None:
    text = (ROOT / "docs/explanation/related-systems.md").read_text()
    sizes = (700, (128, 64), 20)
    for name, spec in (
        ("`dcls_like`, `delrec_like` | B |", dcls_like(*sizes)),
        ("| 6,200 B;", delrec_like(*sizes)),
        ("`filtered_input`; `examples/temporal_filter.py` | B; C |", filtered_input(*sizes)),
        ("`se_adlif()` | B |", NetworkSpec(*sizes, neuron=se_adlif())),
        ("`f_lif()` | A |", NetworkSpec(*sizes, **f_lif())),
        ("`dynap_pair()` | A |", NetworkSpec(*sizes, **dynap_pair())),
    ):
        network = Network(spec)
        network.fit_banks()
        assert f"{name} {state_bytes(network.compile('bank').layout):,} B" in text, name
