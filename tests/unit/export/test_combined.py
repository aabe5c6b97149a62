"""Delays and resonance in one network: the parts of a description combine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export import export_network
from hetsyn_model import Network, NetworkSpec
from hetsyn_model.spec import NeuronSpec, PathSpec, ResonanceSpec, SurrogateSpec, se_adlif
from hetsyn_model.state import Form

PATHS: dict[str, Any] = {"input_path": PathSpec(30), "recurrent_path": PathSpec(26, taps=2)}
COMBINED: dict[str, dict[str, Any]] = {
    "decays a synapse": {},
    "SE-adLIF": {"neuron": se_adlif(), "surrogate": SurrogateSpec("exponential", width=0.2)},
    "decays a synapse, resonance": {
        "neuron": NeuronSpec(potential="membrane", reset="zero", resonance=ResonanceSpec())
    },
}


def delayed(name: str) -> Network:
    return Network(NetworkSpec(20, (16, 12), 3, **PATHS, **COMBINED[name]))


@pytest.mark.parametrize("name", COMBINED)
def test_every_implementation_has_torch_s_bits(name: str, tmp_path: Path) -> None:
    forms: tuple[tuple[Form, int | None], ...] = (("exact", None), ("bank", 8))
    for form, size in forms:
        out = tmp_path / form / "1"
        report = export_network(delayed(name), out=out, labels=["a", "b", "c"], bank_size=size, form=form)
        for difference in report.differences:
            assert (difference.labels, difference.spikes, difference.readout) == (0, 0, 0.0), difference
