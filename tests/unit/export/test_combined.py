"""Delays, kernels and resonance in one network: the parts of a description combine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export import export_network
from hetsyn_model import Network, NetworkSpec
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
    for form in ("exact", "bank") if "kernel" not in COMBINED[name] else ("bank",):
        out = tmp_path / form / "1"
        report = export_network(delayed(name), out=out, labels=["a", "b", "c"], bank_size=8, form=form)
        for difference in report.differences:
            assert (difference.labels, difference.spikes, difference.readout) == (0, 0, 0.0), difference


def test_a_reset_by_synapse_takes_no_recurrent_delay() -> None:
    with pytest.raises(
        SpecError, match="'same_kernel' is a synapse, which a recurrent_path with delays would delay too"
    ):
        NetworkSpec(20, (16,), 3, **PATHS, neuron=NeuronSpec(decays="neuron", reset="same_kernel"))
