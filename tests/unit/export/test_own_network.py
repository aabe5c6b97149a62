"""A network of one's own: what is written, what is the default, and a sentence for what does not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import export
from export.evaluation import Evaluation
from export.folder import ExportError
from export.own_network import load_network
from export.parity import Streams
from hetsyn import app
from hetsyn_model import DecisionSpec, Network, NetworkSpec, NeuronSpec
from hetsyn_model.spec import Rule
from hetsyn_model.training.checkpoint import Checkpoint
from service.contract.artifact import Artifact
from tests.support.networks.networks import neuron_of, set_own

LABELS = ["left", "right"]


def network(neuron: NeuronSpec | None = None, rule: Rule = "sum_softmax") -> Network:
    spec = NetworkSpec(6, (5,), 2, neuron=neuron or NeuronSpec(), decision=DecisionSpec(rule))
    return Network(spec, seed=0)


def spikes(count: int = 3, steps: int = 12, channels: int = 6) -> torch.Tensor:
    return (torch.rand(count, steps, channels, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_an_artifact_says_what_it_is(tmp_path: Path) -> None:
    made = network()
    report = export.export_network(
        made,
        out=tmp_path / "side/2",
        labels=LABELS,
        examples=(spikes(), [0, 1, 1]),
        description="which side",
        input_description="three electrodes a side",
        tail_steps=4,
        provenance={"subject": 7},
    )
    manifest = Artifact.open(tmp_path / "side/2").manifest
    assert (manifest.name, manifest.version, manifest.labels) == ("side", "2", ("left", "right"))
    assert (manifest.description, manifest.input.description) == ("which side", "three electrodes a side")
    assert manifest.decision.tail_steps == 4
    assert manifest.provenance["subject"] == 7
    assert report.form == manifest.network.form
    assert report.accuracy in (0.0, 1 / 3, 2 / 3, 1.0)
    assert not made.banks


def test_labels_that_answer_null(tmp_path: Path) -> None:
    export.export_network(network(), out=tmp_path / "side/1", labels=LABELS, rejected_labels=["right"], form="exact")
    assert Artifact.open(tmp_path / "side/1").manifest.rejected_labels == ("right",)
    for rejected, sentence in (
        (["up"], "rejected label 'up': there is no such label, give some of left, right"),
        (LABELS[::-1], "every label is rejected"),
        ("right", "labels are one text, 'right'"),
    ):
        with pytest.raises(ExportError, match=sentence):
            export.export_network(network(), out=tmp_path / "side/2", labels=LABELS, rejected_labels=rejected)


def test_later_steps_can_count_more_without_another_training(tmp_path: Path) -> None:
    torch.save(network().save(), tmp_path / "net.pt")
    np.savez(tmp_path / "spikes.npz", spikes=spikes(steps=40).numpy())
    common = [str(tmp_path / "net.pt"), "--labels", "left,right", "--examples", str(tmp_path / "spikes.npz")]
    for version, options in (("1", ["--form", "exact"]), ("2", ["--form", "exact", "--decision", "late_softmax"])):
        done = CliRunner().invoke(app, ["export", *common, "--out", str(tmp_path / "side" / version), *options])
        assert done.exit_code == 0, done.output
    even, late = (Artifact.open(tmp_path / "side" / version).manifest for version in "12")
    assert (even.decision.rule, late.decision.rule) == ("sum_softmax", "late_softmax")
    assert late.network.state == even.network.state
    with np.load(tmp_path / "side/1/golden.npz") as before, np.load(tmp_path / "side/2/golden.npz") as after:
        shares = torch.softmax(torch.from_numpy(before["exact.readout"]).double(), -1).numpy()
        cubes = np.arange(1.0, shares.shape[1] + 1) ** 3
        np.testing.assert_allclose(before["exact.probabilities"], shares.mean(1), atol=1e-6)
        np.testing.assert_allclose(after["exact.probabilities"], cubes @ shares / cubes.sum(), atol=1e-6)


def test_a_rule_that_needs_another_training_is_refused(tmp_path: Path) -> None:
    torch.save(network(rule="last").save(), tmp_path / "net.pt")
    options = ["--labels", "left,right", "--decision", "late_softmax", "--out", str(tmp_path / "side/1")]
    done = CliRunner().invoke(app, ["export", str(tmp_path / "net.pt"), *options], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert "the network was trained with last" in done.output
    assert "leave out --decision" in done.output
    assert not (tmp_path / "side").exists()


@pytest.mark.parametrize(
    ("file", "options", "sentence"),
    [
        ("net.pt", ["--form", "exact", "--bank-size", "4"], "the exact form has no bank: leave out --bank-size and"),
        ("net.pt", ["--bank-size", "4", "--error-bound", "0.1"], "--bank-size takes the place of --error-bound"),
        ("net.pt", ["--bank-size", "8,x"], "8,x is neither a number of decays, nor one a layer as 8,8,5"),
        ("net.pt", ["--labels", "a,b", "--data", "sounds"], "--data is for a training run: give --examples FILE.npz"),
        ("best.pt", ["--labels", "a,b", "--description", "mine"], "of its own: leave out --labels, --description"),
        ("best.pt", ["--examples", "a.npz"], "of its own: leave out --examples"),
        ("shd-size", ["--data", "sounds", "--rejected", "a"], "of its own: leave out --rejected, --data"),
    ],
)
def test_an_option_without_a_use_is_refused(tmp_path: Path, file: str, options: list[str], sentence: str) -> None:
    torch.save(network().save(), tmp_path / "net.pt")
    (tmp_path / "best.pt").write_bytes(Checkpoint(network(), None, 0, None).to_bytes())
    source = file if file == "shd-size" else str(tmp_path / file)
    done = CliRunner().invoke(app, ["export", source, *options, "--out", str(tmp_path / "side/1")])
    assert done.exit_code == 2, done.output
    assert sentence in " ".join(done.output.split())
    assert not (tmp_path / "side").exists()


def test_an_evaluation_without_streams_is_refused() -> None:
    with pytest.raises(ExportError, match="no stream verifies the network: give one example or more"):
        Evaluation(Streams(torch.zeros(0, 5, 3), torch.zeros(0, dtype=torch.int64)))


def test_torchscript_can_be_left_out(tmp_path: Path) -> None:
    report = export.export_network(network(), out=tmp_path / "mine/1", labels=LABELS, form="bank", torchscript=False)
    assert all("TorchScript" not in item.implementation for item in report.differences)
    assert Artifact.open(tmp_path / "mine/1").manifest.network.torchscript is None
    assert not (tmp_path / "mine/1/bank.pt").exists()


@pytest.mark.parametrize("form", ["exact", "bank"])
def test_the_form_can_be_chosen(tmp_path: Path, form: Any) -> None:
    report = export.export_network(network(), out=str(tmp_path / "side/1"), labels=LABELS, form=form)
    manifest = Artifact.open(tmp_path / "side/1").manifest
    assert (manifest.network.form, report.form) == (form, form)
    assert (report.spike_mismatch is None) == (form == "exact")
    assert {path.name for path in (tmp_path / "side/1").glob("*.onnx")} == {f"{form}.onnx"}


@pytest.mark.parametrize(
    ("kind", "expected"), [("hetsyn", "bank"), ("hetneu", "exact"), ("homneu", "bank"), ("cubalif-zero", "bank")]
)
def test_the_smaller_state_is_the_default(tmp_path: Path, kind: str, expected: str) -> None:
    made = network(neuron_of(kind))
    set_own(made, kind)
    report = export.export_network(made, out=tmp_path / "m/1", labels=LABELS, examples=spikes(), torchscript=False)
    other = export.export_network(
        made, out=tmp_path / "m/2", labels=LABELS, form="bank" if expected == "exact" else "exact", torchscript=False
    )
    assert report.form == expected
    assert report.state_bytes <= other.state_bytes


@pytest.mark.parametrize("kind", ["lif", "lif-zero-own"])
def test_a_bank_without_an_error_is_the_default_though_larger(tmp_path: Path, kind: str) -> None:
    made = network(neuron_of(kind))
    set_own(made, kind)
    bank = export.export_network(made, out=tmp_path / "m/1", labels=LABELS, examples=spikes(), torchscript=False)
    exact = export.export_network(made, out=tmp_path / "m/2", labels=LABELS, form="exact", torchscript=False)
    assert bank.form == "bank"
    assert exact.state_bytes < bank.state_bytes
    assert bank.spike_mismatch is not None
    assert bank.spike_mismatch <= 1e-3


def test_a_plain_lif_keeps_membrane_and_spikes_alone(tmp_path: Path) -> None:
    export.export_network(network(neuron_of("lif-zero")), out=tmp_path / "m/1", labels=LABELS, form="exact")
    state = Artifact.open(tmp_path / "m/1").manifest.network.state
    assert [(tensor.name, tensor.shape) for tensor in state] == [
        ("hidden1.membrane", (5,)), ("hidden1.spikes", (5,)), ("readout.membrane", (2,)),
        ("decision.score_low", (2,)), ("decision.score", (2,)), ("decision.step", ()),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "examples",
    [
        spikes().numpy().astype(np.uint8),
        {"spikes": spikes().numpy(), "labels": np.array([0, 1, 0]), "steps": np.array([12, 3, 5])},
        Evaluation(Streams(spikes(), torch.tensor([12, 12, 2]))),
        spikes().bool(),
    ],
)
def test_examples_come_in_several_shapes(tmp_path: Path, examples: object) -> None:
    export.export_network(network(), out=tmp_path / "m/1", labels=LABELS, examples=examples, form="exact")
    golden = np.load(tmp_path / "m/1/golden.npz")
    assert np.array_equal(golden["spikes"], spikes().numpy()[:, : golden["spikes"].shape[1]])


def with_value(parameter: str, value: float) -> Network:
    made = network()
    with torch.no_grad():
        getattr(made.layer("hidden1"), parameter)[0] = value
    return made


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"labels": ["a"]}, "1 label for 2 outputs: give one label an output"),
        ({"labels": ["a", "b", "c"]}, "3 labels for 2 outputs"),
        ({"labels": "ab"}, "labels are one text, 'ab': give a list of names"),
        ({"labels": ["a", "a"]}, "label 'a' stands for two outputs"),
        ({"labels": ["a", " "]}, "a label is empty"),
        ({"form": "dense"}, "form 'dense': give exact or bank, or leave it out"),
        ({"examples": spikes(channels=7)}, r"spikes of shape \(3, 12, 7\): give .* 6 channels"),
        ({"examples": spikes()[0]}, r"spikes of shape \(12, 6\): give spikes \[stream, step, channel\]"),
        ({"examples": spikes() * 0.5}, "other values than 0 and 1"),
        ({"examples": spikes() * float("nan")}, "other values than 0 and 1"),
        ({"examples": (spikes(), [[0], [1, 2]])}, "labels are of different lengths: give one whole number a stream, 3"),
        ({"tail_steps": -1}, "tail_steps is -1: give 0 to 20000"),
        ({"labels": None}, "labels are texts: give one text an output"),
        ({"examples": (spikes(), [0, 1])}, r"labels of shape \(2,\), int64: give one whole number a stream, 3"),
        ({"examples": (spikes(), [0, 1, 2])}, "labels are from 0 to 2: give numbers from 0 to 1"),
        ({"examples": {"spikes": spikes(), "steps": np.array([0, 1, 2])}}, "steps are from 0 to 2: give .* 1 to 12"),
        ({"examples": {"x": 1}}, "examples have x: name the array spikes"),
        ({"examples": "data.npz"}, "spikes are no array of numbers"),
        ({"form": "exact", "bank_size": 4}, "the exact form has no bank: leave out bank_size"),
        ({"network": with_value("w_in", float("nan"))}, "hidden1.w_in has values that are not finite"),
        ({"network": with_value("r_in", 1.5)}, r"hidden1.r_in has decays outside \[0, 1\]: call network.clamp_decays_"),
        ({"network": with_value("kappa", -0.5)}, r"hidden1.kappa has decays outside \[0, 1\]"),
        ({"network": nn.Linear(6, 2)}, "a Linear is no hetsyn Network: export_step takes any torch module"),
        ({"out": "my model/1"}, "name 'my model': write to a folder NAME/VERSION"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(tmp_path: Path, arguments: dict[str, Any], sentence: str) -> None:
    given: dict[str, Any] = {"network": network(), "labels": LABELS} | arguments
    out = tmp_path / given.pop("out", "m/1")
    with pytest.raises(ExportError, match=sentence) as raised:
        export.export_network(given.pop("network"), out=out, **given)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.rglob("*")) == []


def test_a_trace_needs_no_labels(tmp_path: Path) -> None:
    export.export_network(network(rule="trace"), out=tmp_path / "m/1", labels=[], form="exact")
    assert Artifact.open(tmp_path / "m/1").manifest.labels == ()


def test_a_saved_network_is_read(tmp_path: Path) -> None:
    made = network(neuron_of("lif-own"))
    set_own(made, "lif-own")
    torch.save(made.save(), tmp_path / "net.pt")
    loaded = load_network(tmp_path / "net.pt")
    assert loaded is not None
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    (tmp_path / "best.pt").write_bytes(Checkpoint(made, None, 0, None).to_bytes())
    assert load_network(tmp_path / "best.pt") is None


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        (lambda: network(), "a whole object, which would run code .* torch.save\\(network.save\\(\\), FILE\\)"),
        (lambda: nn.Linear(2, 2), "any other torch module through export.export_step"),
        (lambda: network().state_dict(), "tensors alone, without the network's description"),
        (lambda: [1, 2], "a list, not a network: save it by"),
        (lambda: {"spec": 1, "banks": {}, "tensors": {}}, r"not a result of Network.save\(\)"),
        (lambda: {**network().save(), "tensors": {}}, r"not a result of Network.save\(\)"),
        (lambda: {**network().save(), "spec": {"channels": 1}}, r"not a result of Network.save\(\)"),
    ],
)
def test_another_file_gets_one_sentence(tmp_path: Path, saved: Any, sentence: str) -> None:
    torch.save(saved(), tmp_path / "net.pt")
    with pytest.raises(ExportError, match=sentence) as raised:
        load_network(tmp_path / "net.pt")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_none_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"no network")
    for path, sentence in (
        (tmp_path / "net.pt", "not a file of torch.save"),
        (tmp_path / "none.pt", "cannot be read (No such file or directory)"),
        (tmp_path, "is a folder: give a file"),
    ):
        with pytest.raises(ExportError, match=re.escape(sentence)):
            load_network(path)


def of_values() -> Network:
    spec = NetworkSpec(6, (5,), 2, decision=DecisionSpec("spike_count"), input_kind="values")
    return Network(spec, seed=0)


def test_a_network_of_values_is_exported_as_one(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 12, 6)).astype(np.float32)
    report = export.export_network(of_values(), out=tmp_path / "m/1", labels=LABELS, examples=(values, [0, 1, 1]))
    artifact = Artifact.open(tmp_path / "m/1")
    assert artifact.manifest.input.kind == "values"
    assert artifact.manifest.inputs == ("values", "events", "dense")
    assert report.accuracy in (0.0, 1 / 3, 2 / 3, 1.0)
    with np.load(tmp_path / "m/1/golden.npz") as golden:
        assert np.array_equal(golden["values"], values)
    torch.save(of_values().save(), tmp_path / "m.pt")
    loaded = load_network(tmp_path / "m.pt")
    assert loaded is not None
    assert loaded.spec.takes_values


@pytest.mark.parametrize(
    ("examples", "sentence"),
    [
        ({"spikes": np.zeros((1, 4, 6))}, "examples have spikes: name the array values"),
        (np.zeros((1, 4, 5)), "values of shape .* with the network's 6 channels"),
        (
            np.full((1, 4, 6), np.nan),
            "values have numbers that are not finite, or beyond float32: take these streams out",
        ),
        ([[[0.5], [0.5, 1.0]]], "values are no array of numbers"),
        (np.ones((1, 4, 6), np.complex64), "values are no array of numbers"),
        (np.full((1, 4, 6), 1e39), "not finite, or beyond float32"),
        (torch.full((1, 4, 6), 1e39, dtype=torch.float64), "not finite, or beyond float32"),
    ],
)
def test_examples_of_values_that_do_not_fit_get_one_sentence(tmp_path: Path, examples: Any, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        export.export_network(of_values(), out=tmp_path / "m/1", labels=LABELS, examples=examples)
    assert not (tmp_path / "m").exists()
