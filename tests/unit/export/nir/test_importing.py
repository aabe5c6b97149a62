"""A NIR graph becomes an artifact that fires as the float64 reference of the graph; or one says how far it is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.support.tools import NO_NIR, needs_onnxscript

pytest.importorskip("nir", reason=NO_NIR)

import nir

from export import export_network, export_nir, import_nir
from export.nir.convention import Convention, Reset, convention
from export.nir.dynamics import program_of
from export.nir.importing import Imported
from export.nir.reading import from_nir
from export.parity import chunk_feed
from hetsyn import app
from hetsyn_model import DecisionSpec, Network, NetworkSpec, NeuronSpec
from service.contract.artifact import Artifact
from service.contract.graph_io import NEXT_STATE, NEXT_STEP, SCORES, STATE, STEP, STEPS, VALUES
from service.models.model import Model
from service.runtime.onnx import load_graph
from tests.support.networks import nir_graphs as graphs
from tests.support.networks.nir_reference import run_reference

pytestmark = needs_onnxscript

MS: dict[str, Any] = {"dt": 1e-3, "rule": "euler", "reset": "zero"}


def scores(imported: Imported, values: Any, cut: int) -> Any:
    """Scores [stream, outputs] of streams that go through the artifact in two chunks, cut at a step."""
    model = Model(Artifact.open(imported.folder), load_graph)
    state = np.tile(model.initial_row, (len(values), 1))
    found: dict[str, Any] = {NEXT_STATE: state, NEXT_STEP: np.zeros(len(values), np.int64)}
    for part in (values[:, :cut], values[:, cut:]):
        steps = np.full(len(part), part.shape[1], np.int64)
        taken = chunk_feed(part, steps)
        if model.manifest.input.kind == "values":
            taken = {VALUES: part.astype(np.float32), STEPS: steps}
        feed = taken | {STATE: found[NEXT_STATE], STEP: found[NEXT_STEP]}
        found = model.network.run(feed, [NEXT_STATE, NEXT_STEP, SCORES])
    return found[SCORES]


def layers(neurons: Any, end: Any, *, bias: bool = True) -> Any:
    make = graphs.affine if bias else graphs.linear
    return graphs.chain(make(8, 6, 1), neurons(8), make(5, 8, 2), neurons(5), make(4, 5, 3), end)


RESETS: tuple[Reset, ...] = ("zero", "subtract-at-once", "subtract-next")
OURS: dict[str, tuple[Any, str]] = {
    "LIF": (layers(graphs.lif, graphs.lif(4)), "spike_count"),
    "IF": (layers(graphs.if_, graphs.if_(4), bias=False), "spike_count"),
    "CubaLIF": (layers(graphs.cuba_lif, graphs.cuba_lif(4)), "spike_count"),
    "LIF and a readout": (
        layers(graphs.lif, nir.LI(*(graphs.full(4, v) for v in (0.02, 2.0, 0.0)))),
        "sum_softmax",
    ),
    "CubaLIF and weights": (
        graphs.chain(graphs.linear(8, 6, 1), graphs.cuba_lif(8), graphs.affine(4, 8, 2)),
        "sum_softmax",
    ),
    "recurrent": (
        graphs.chain(
            graphs.linear(8, 6, 1),
            graphs.recurrent(graphs.lif(8), graphs.affine(8, 8, 2, 0.2), 8, source="w_rec"),
            graphs.affine(4, 8, 3),
            graphs.lif(4),
        ),
        "spike_count",
    ),
    "one of two is recurrent": (
        graphs.chain(
            graphs.linear(8, 6, 1),
            graphs.cuba_lif(8),
            graphs.linear(5, 8, 2),
            graphs.recurrent(graphs.cuba_lif(5), graphs.linear(5, 5, 3, 0.3), 5),
            graphs.linear(4, 5, 4),
            graphs.cuba_lif(4),
        ),
        "spike_count",
    ),
}


@pytest.mark.parametrize(
    ("name", "reset"),
    [(name, RESETS[index % 3]) for index, name in enumerate(OURS)] + [("LIF", reset) for reset in RESETS[1:]],
)
def test_a_network_of_ours_runs_on_the_operator(name: str, reset: Reset, tmp_path: Path) -> None:
    graph, rule = OURS[name]
    imported = import_nir(graph, out=tmp_path / "m" / "1", **MS | {"reset": reset})
    manifest = Artifact.open(imported.folder).manifest
    assert (imported.runs_as, imported.fidelity.verdict) == ("operator", "faithful"), imported.fidelity.sentence()
    assert imported.fidelity.spikes > 100
    assert (manifest.decision.rule, manifest.network.tolerance, manifest.network.form) == (rule, 0.0, "exact")
    if rule == "spike_count":
        values = (graphs.rng(5).random((4, 40, 6)) < 0.3).astype(np.float64)
        truth = run_reference(program_of(from_nir(graph), Convention(1e-3, "euler", reset)), values)["out"].sum(1)
        np.testing.assert_array_equal(scores(imported, values, 13), truth)


@pytest.mark.process
@pytest.mark.parametrize(("name", "kind"), [*((name, "spikes") for name in graphs.NETWORKS), ("delayed", "values")])
def test_any_other_graph_runs_as_a_cell(name: str, kind: Any, tmp_path: Path) -> None:
    graph = graphs.NETWORKS[name]()
    imported = import_nir(graph, out=tmp_path / "m" / "1", input_kind=kind, decision="last", **MS)
    manifest = Artifact.open(imported.folder).manifest
    assert (imported.runs_as, imported.fidelity.verdict) == ("cell", "faithful"), imported.fidelity.sentence()
    assert (manifest.input.kind, manifest.provenance["nir.spikes_that_differ"]) == (kind, 0)
    values = (graphs.rng(5).random((3, 30, manifest.input.channels)) < 0.3).astype(np.float64)
    truth = run_reference(program_of(from_nir(graph), Convention(1e-3, "euler", "zero")), values)["out"][:, -1]
    np.testing.assert_allclose(scores(imported, values, 11), truth.reshape(3, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("graph", "reset"),
    [
        (layers(graphs.lif, graphs.lif(4)), "subtract-next"),  # gains of 1, as snnTorch writes them
        (layers(lambda n: graphs.lif(n, r=9.0), graphs.lif(4, r=9.0)), "subtract-at-once"),
        (layers(graphs.if_, graphs.if_(4)), "subtract-at-once"),
    ],
)
def test_the_kind_of_subtraction_is_found_and_said(graph: Any, reset: str, tmp_path: Path) -> None:
    imported = import_nir(graph, out=tmp_path / "m" / "1", **MS | {"reset": "subtract"})
    assert (imported.convention.reset, imported.notes) == (reset, ())
    assert Artifact.open(imported.folder).manifest.provenance["nir.reset"] == reset


@pytest.mark.process
def test_several_spikes_in_a_step_are_counted_by_the_cell(tmp_path: Path) -> None:
    graph = graphs.chain(nir.Linear(np.abs(graphs.rng().normal(size=(4, 6)))), graphs.if_(4, r=2.0))
    imported = import_nir(graph, out=tmp_path / "m" / "1", producer="sinabs")
    assert (imported.runs_as, Artifact.open(imported.folder).manifest.decision.rule) == ("cell", "last")
    values = (graphs.rng(5).random((3, 30, 6)) < 0.5).astype(np.float64)
    truth = run_reference(program_of(from_nir(graph), convention(producer="sinabs")), values)["out"]
    assert truth.max() > 2
    assert imported.notes == ("the file does not say how long a step is, so 1 ms are assumed: give --step-s",)
    np.testing.assert_array_equal(scores(imported, values, 11), truth.sum(1))


@pytest.mark.process
def test_our_own_file_needs_no_options(tmp_path: Path) -> None:
    decision = DecisionSpec("late_softmax", skip_steps=2)
    spec = NetworkSpec(6, (8,), 3, neuron=NeuronSpec(decay_range=(0.0, 0.99)), decision=decision)
    export_nir(
        Network(spec, seed=1), out=tmp_path / "network.nir", labels=("left", "right", "none"), rejected_labels=("none",)
    )
    imported = import_nir(tmp_path / "network.nir", out=tmp_path / "m" / "1")
    manifest = Artifact.open(imported.folder).manifest
    assert manifest.labels == ("left", "right", "none")
    assert (manifest.decision.rule, manifest.decision.skip_steps) == ("late_softmax", 2)
    assert manifest.rejected_labels == ("none",)
    assert (imported.convention.rule, manifest.input.step_s, imported.notes) == ("exponential", 1e-3, ())
    assert imported.fidelity.verdict == "faithful"


def test_rejected_labels_stay_so_unless_others_are_given(tmp_path: Path) -> None:
    neuron = NeuronSpec(potential="membrane", decays="neuron", decay_range=(0.0, 0.0), reset="zero")
    made, labels = Network(NetworkSpec(6, (8,), 3, neuron=neuron), seed=1), ["a", "b", "none"]
    export_network(made, out=tmp_path / "m/2", labels=labels, rejected_labels=["none"], torchscript=False)
    export_nir(tmp_path / "m/2", out=tmp_path / "again.nir", as_lif=True)
    for version, others, rejects, rejected in (
        ("3", None, None, ("none",)),
        ("4", ["a", "b", "c"], None, ()),
        ("5", None, ["a"], ("a",)),
    ):
        out = tmp_path / "m" / version
        again = import_nir(tmp_path / "again.nir", out=out, labels=others, rejected_labels=rejects)
        assert Artifact.open(again.folder).manifest.rejected_labels == rejected


def test_what_is_given_goes_before_the_producer_s_default() -> None:
    found = convention(producer="sinabs", dt=2.0, reset="zero", spikes="single")
    assert found == Convention(2.0, "exponential", "zero", ("I", "IF", "LI", "LIF"), reached=True)
    assert convention(producer="snntorch", reset="subtract").reset == "subtract-next"
    assert convention(producer="norse", reset="subtract").reset == "subtract-at-once"


@pytest.mark.process
def test_a_probe_of_one_s_own(tmp_path: Path) -> None:
    silent = import_nir(graphs.feedback_network(), out=tmp_path / "m" / "1", probe=np.zeros((3, 9, 6)), **MS)
    assert (silent.fidelity.streams, silent.fidelity.steps, silent.fidelity.spikes) == (3, 9, 0)
    assert "no neuron fired on a probe of 3 streams of 9 steps" in silent.fidelity.sentence()


@pytest.mark.process
def test_outputs_that_float32_does_not_hold_are_no_faithful_import(tmp_path: Path) -> None:
    """The difference of two large sums of the same spikes, of which one has a little more."""
    sums = nir.Linear(np.array([[1e7] * 4, [1e7 + 1] * 4]))
    graph = graphs.chain(
        graphs.linear(4, 6, size=3.0),
        graphs.lif(4),
        sums,
        nir.I(graphs.full(2, 1e3)),
        nir.Linear(np.array([[-1.0, 1.0]])),
        outputs=1,
    )
    found = import_nir(graph, out=tmp_path / "m" / "1", **MS).fidelity
    assert found.spikes > 100
    assert found.different == 0
    assert found.verdict == "approximate"
    assert "outputs by up to" in found.sentence()


def test_the_commands_say_what_they_found(tmp_path: Path) -> None:
    file = tmp_path / "network.nir"

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments)

    nir.write(file, layers(graphs.lif, graphs.lif(4)))
    given = ["import-nir", str(file), "--out", str(tmp_path / "m" / "1"), "--dt", "1e-3", "--rule", "euler"]
    refused = run(*given)
    assert refused.exit_code == 2
    assert "node 'n1' is reset at a spike, and NIR does not say how: give --reset zero or --reset" in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["network.nir"]
    done = run(*given, "--reset", "subtract", "--labels", "a,b,c,d", "--rejected", "d")
    assert done.exit_code == 0, done.output
    verdict, by, written, serving = done.output.strip().splitlines()
    assert verdict.startswith("faithful: 0 of ")
    assert by == "by dt 0.001, rule euler, reset subtract-next"
    assert written == f"{tmp_path / 'm' / '1'}: written, runs as operator"
    assert serving == f"model m, version 1: hetsyn serve --models {tmp_path}"
    manifest = json.loads((tmp_path / "m" / "1" / "manifest.json").read_text())
    assert manifest["labels"] == ["a", "b", "c", "d"]
    assert manifest["rejected_labels"] == ["d"]
    back = run("export-nir", str(tmp_path / "m" / "1"), "--out", str(tmp_path / "back.nir"), "--as", "lif")
    assert back.exit_code == 0, back.output
    assert back.output.strip() == f"{tmp_path / 'back.nir'}: lif, exact form, 8 nodes, rule exponential"
    again = run("import-nir", str(tmp_path / "back.nir"), "--out", str(tmp_path / "m" / "2"))
    assert again.output.startswith("faithful: 0 of "), again.output


def test_unsupported_is_a_verdict(tmp_path: Path) -> None:
    nir.write(tmp_path / "network.nir", graphs.chain(graphs.linear(4, 6), graphs.lif(5)))
    given = ["import-nir", str(tmp_path / "network.nir"), "--out", str(tmp_path / "m" / "1"), "--producer", "norse"]
    refused = CliRunner().invoke(app, given)
    assert (refused.exit_code, refused.output.startswith("hetsyn: unsupported: node 'n1' gets shape [4]")) == (2, True)
