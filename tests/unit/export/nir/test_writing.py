"""A HetSyn network as a NIR file, and back: the same spikes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.networks.delays import delayed_network
from tests.support.networks.networks import small_network
from tests.support.pairs import in_pairs
from tests.support.tools import NO_NIR

pytest.importorskip("nir", reason=NO_NIR)

import nir

from export import export_network, export_nir
from export.nir import NirError
from export.nir.cell import NirCell, run_cell
from export.nir.convention import Rule, convention
from export.nir.dynamics import program_of
from export.nir.probe import measure
from export.nir.reading import read_graph
from hetsyn_model import DecisionSpec, Network, NetworkSpec, NeuronSpec, variant
from hetsyn_model.training.checkpoint import Checkpoint

CUBA = NeuronSpec(potential="membrane", decays="neuron", reset="zero", tau_reset_steps=8.0)
LIF = replace(CUBA, decay_range=(0.0, 0.0))
NEURONS = {
    "hetsyn": replace(variant("hetsyn"), decay_range=(0.0, 0.99)),
    "hetneu": variant("hetneu"),
    "homneu": variant("homneu"),
    "alif": variant("alif"),
    "membrane of synapses": replace(CUBA, decays="synapse", decay_range=(0.0, 0.99)),
    "cuba": CUBA,
    "cuba, subtracts": replace(CUBA, reset="subtract"),
    "lif": LIF,
    "lif, subtracts": replace(LIF, reset="subtract"),
    "lif, subtracts at once": replace(LIF, reset="subtract_at_once"),
    "if": replace(LIF, tau_reset_steps=1e30),
}
WHOLE = {"hetneu", "homneu", "lif", "lif, subtracts", "lif, subtracts at once", "if", "cuba", "cuba, subtracts"}


def network(name: str, *, recurrent: bool = True, rule: Any = "sum_softmax", bias: bool = False) -> Network:
    """A network that fires, with thresholds by neuron."""
    spec = NetworkSpec(
        6, (8, 5), 3, recurrent=recurrent, bias=bias, neuron=NEURONS[name], decision=DecisionSpec(rule, 2)
    )
    made = Network(spec, seed=1)
    with torch.no_grad():
        for layer in made.named_layers().values():
            layer.w_in.mul_(4.0)
            if layer.b_in is not None:
                layer.b_in.add_(0.0217)
            if layer.threshold is not None:
                layer.threshold.mul_(torch.linspace(0.8, 1.2, layer.neurons, dtype=torch.float64))
            if layer.r_rec is not None and not layer.spec.neuron.per_synapse:
                layer.r_rec.copy_(layer.r_in)
    if made.spec.neuron.per_synapse:
        made.fit_banks()
    return made


def round_trip(made: Network, path: Path, **options: Any) -> tuple[int, int, float]:
    """Spikes of the network, those that differ after a round trip, and the largest difference of the readout."""
    written = export_nir(made, out=path, **options)
    graph = read_graph(path)
    program = program_of(graph, convention(metadata=graph.metadata))
    cell = NirCell(program)
    assert measure(program, partial(run_cell, cell)).different == 0
    values = (np.random.default_rng(0).random((8, 60, 6)) < 0.2).astype(np.float64)
    with torch.no_grad():
        expected = made.rollout(torch.from_numpy(values).float(), written.form)
    found = run_cell(cell, values)
    layers = {name.removesuffix(".lif"): trace for name, trace in found.items()}
    different = sum(
        int((layers[f"hidden{index + 1}"] != spikes.numpy()).sum())
        for index, spikes in enumerate(expected.hidden_spikes)
    )
    off = 0.0
    if made.spec.decision.rule != "spike_count":
        size = np.maximum(np.abs(expected.readout.numpy()), 1.0)
        off = float((np.abs(found["output"] - expected.readout.numpy()) / size).max())
    return sum(int(spikes.sum()) for spikes in expected.hidden_spikes), different, off


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("recurrent", [False, True], ids=["forward", "recurrent"])
def test_in_parts_it_is_the_same_network(name: str, recurrent: bool, tmp_path: Path) -> None:
    spikes, different, off = round_trip(network(name, recurrent=recurrent, bias=True), tmp_path / "network.nir")
    assert spikes > 100
    assert (different, off < 1e-4) == (0, True), off


@pytest.mark.parametrize(
    ("name", "rule", "decision"),
    in_pairs(product(sorted(WHOLE - {"if"}), ("euler", "exponential"), ("sum_softmax", "spike_count"))),
)
def test_as_lif_too_where_it_is_lif(name: str, rule: Rule, decision: str, tmp_path: Path) -> None:
    made = network(name, rule=decision)
    spikes, different, off = round_trip(made, tmp_path / "network.nir", as_lif=True, rule=rule)
    assert spikes > 100
    assert (different, off < 1e-4) == (0, True), off
    kinds = {type(node).__name__ for node in nir.read(tmp_path / "network.nir").nodes.values()}
    assert "Threshold" not in kinds
    assert kinds <= {"Input", "Output", "Linear", "Affine", "LIF", "CubaLIF", "LI", "CubaLI", "NIRGraph"}


@pytest.mark.parametrize("name", sorted(set(NEURONS) - WHOLE))
def test_what_is_not_lif_is_refused_as_lif(name: str, tmp_path: Path) -> None:
    with pytest.raises(NirError, match=r"the network is not LIF: .*; write it without --as lif"):
        export_nir(network(name), out=tmp_path / "network.nir", as_lif=True)
    assert not list(tmp_path.iterdir())


def test_the_file_says_what_nir_cannot(tmp_path: Path) -> None:
    made = network("hetsyn")
    written = export_nir(made, out=tmp_path / "network.nir", labels=("a", "b", "c"))
    metadata = nir.read(tmp_path / "network.nir").metadata
    assert (written.form, written.kind) == ("bank", "faithful")
    assert written.kernel_error == pytest.approx(max(made.kernel_errors().values()))
    assert metadata["hetsyn.kernel_error"] == written.kernel_error
    found = {name: metadata[f"hetsyn.{name}"] for name in ("dt", "delay_steps", "skip_steps")}
    assert found == {"dt": 1e-3, "delay_steps": 1, "skip_steps": 2}
    texts = {name: metadata[f"hetsyn.{name}"] for name in ("rule", "reset", "form", "decision", "labels")}
    assert texts == {
        "rule": "exponential",
        "reset": "subtract-next",
        "form": "bank",
        "decision": "sum_softmax",
        "labels": "a\nb\nc",
    }


def test_the_exact_form_of_synapses_has_no_nodes(tmp_path: Path) -> None:
    with pytest.raises(NirError, match="each synapse has a decay of its own, for which NIR has no node: use the bank"):
        export_nir(network("hetsyn"), out=tmp_path / "network.nir", form="exact")


def test_the_kernel_error_is_said_where_the_network_has_no_bank_yet(tmp_path: Path) -> None:
    made = Network(NetworkSpec(channels=6, hidden=(5,), outputs=3, neuron=NEURONS["hetsyn"]))
    written = export_nir(made, out=tmp_path / "network.nir")
    assert not made.banks
    assert written.kernel_error == max(made.fit_banks().values()) > 0


def test_of_a_folder_of_versions_one_is_asked_for(tmp_path: Path) -> None:
    export_network(network("lif"), out=tmp_path / "lif" / "1", labels=["a", "b", "c"])
    with pytest.raises(NirError, match=r"lif: the folder of a model: name a version of it, such as .*lif/1$"):
        export_nir(tmp_path / "lif", out=tmp_path / "lif.nir")


def test_a_checkpoint_and_a_saved_network_are_opened(tmp_path: Path) -> None:
    made = network("lif")
    (tmp_path / "best.pt").write_bytes(Checkpoint(made, None, 0, None).to_bytes())
    torch.save(made.save(), tmp_path / "saved.pt")
    nodes = {export_nir(tmp_path / name, out=tmp_path / f"{name}.nir").nodes for name in ("best.pt", "saved.pt")}
    assert len(nodes) == 1
    (tmp_path / "other.pt").write_bytes(b"no checkpoint")
    with pytest.raises(NirError, match=r"other\.pt: not a file of torch\.save: save the network by torch\.save"):
        export_nir(tmp_path / "other.pt", out=tmp_path / "other.nir")
    with pytest.raises(NirError, match=r"missing\.pt: cannot be read \(No such file or directory\)"):
        export_nir(tmp_path / "missing.pt", out=tmp_path / "other.nir")
    with pytest.raises(FileExistsError, match="files are never overwritten, choose another name"):
        export_nir(made, out=tmp_path / "best.pt.nir")


@pytest.mark.parametrize("as_lif", [False, True])
def test_resonance_is_refused(as_lif: bool, tmp_path: Path) -> None:
    made = small_network("se-adlif", "last")
    with pytest.raises(NirError, match="NIR has no neurons with resonance: export the network as an artifact"):
        export_nir(made, out=tmp_path / "network.nir", as_lif=as_lif)
    assert not list(tmp_path.iterdir())


def test_delays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NirError, match="delays of spikes are not written to NIR"):
        export_nir(delayed_network("recurrent"), out=tmp_path / "late.nir")
