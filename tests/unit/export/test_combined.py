"""Delays, kernels and resonance in one network: the parts of a description combine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from export import export_network
from hetsyn_model import Network, NetworkSpec, native
from hetsyn_model.rollout import Rollout
from hetsyn_model.spec import KernelSpec, NeuronSpec, PathSpec, ResonanceSpec, SpecError, SurrogateSpec, se_adlif

PATHS: dict[str, Any] = {"input_path": PathSpec(30), "recurrent_path": PathSpec(26, taps=2)}
COMBINED: dict[str, dict[str, Any]] = {
    "decays a synapse": {},
    "SE-adLIF": {"neuron": se_adlif(), "surrogate": SurrogateSpec("exponential", width=0.2)},
    "decays a synapse, resonance": {
        "neuron": NeuronSpec(potential="membrane", reset="zero", resonance=ResonanceSpec())
    },
    "pairs": {"kernel": KernelSpec("pair")},
    "fractional": {"kernel": KernelSpec("fractional"), "neuron": NeuronSpec(decays="neuron")},
    "pairs, resonance": {
        "kernel": KernelSpec("pair"),
        "neuron": NeuronSpec(potential="membrane", reset="zero", resonance=ResonanceSpec()),
    },
}


def delayed(name: str) -> Network:
    return Network(NetworkSpec(20, (16, 12), 3, **PATHS, **COMBINED[name]))


@pytest.mark.parametrize("name", COMBINED)
def test_every_implementation_has_torch_s_bits(name: str, tmp_path: Path) -> None:
    reports = export_network(delayed(name), out=tmp_path / "combined/1", labels=["a", "b", "c"], bank_size=8)
    assert {report.form for report in reports} >= {"bank"}
    for report in reports:
        for difference in report.differences:
            assert (difference.labels, difference.spikes, difference.readout) == (0, 0, 0.0), difference


@pytest.mark.skipif(native.library() is None, reason="the compiled library is not built")
@pytest.mark.parametrize("name", COMBINED)
def test_the_compiled_rollout_has_the_gradients_of_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = delayed(name).double()  # shares of a spike are no whole numbers: float32 would round them apart
    network.fit_banks(size=4)
    network.delay_spread = 2.0
    spikes = (torch.rand(3, 40, 20, generator=torch.Generator().manual_seed(1)) < 0.2).double()

    def rolled() -> tuple[Rollout, dict[str, torch.Tensor]]:
        network.zero_grad()
        found = network.rollout(spikes, "bank")
        (found.readout**2).mean().backward()
        return found, {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}

    compiled, gradients = rolled()
    monkeypatch.setattr(native, "library", lambda: None)
    plain, expected = rolled()
    torch.testing.assert_close(compiled.readout, plain.readout)
    assert gradients.keys() == expected.keys()
    assert any(name.startswith("layers.0.delay") for name in expected)
    for parameter, gradient in expected.items():
        torch.testing.assert_close(gradients[parameter], gradient, rtol=1e-6, atol=1e-9 * float(gradient.abs().max()))


def test_a_reset_by_synapse_takes_no_recurrent_delay() -> None:
    with pytest.raises(
        SpecError, match="'same_kernel' is a synapse, which a recurrent_path with delays would delay too"
    ):
        NetworkSpec(20, (16,), 3, **PATHS, neuron=NeuronSpec(decays="neuron", reset="same_kernel"))
