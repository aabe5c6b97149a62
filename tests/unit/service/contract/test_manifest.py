from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.contract.manifest import parse_manifest
from service.errors import ArtifactError
from tests.support.artifact import write_artifact

Json = dict[str, Any]


@pytest.fixture
def written(tmp_path: Path) -> Json:
    """The manifest of an artifact, as JSON."""
    manifest: Json = json.loads((write_artifact(tmp_path) / "manifest.json").read_text())
    return manifest


def bank(manifest: Json) -> Json:
    form: Json = manifest["forms"]["bank"]
    return form


def words(count: int) -> Json:
    return {"name": "decision.score_low", "shape": [count], "dtype": "float32", "initial": 0.0}


def with_two_words(manifest: Json, count: int) -> Json:
    """The manifest in format 3, with so many low words of a score."""
    manifest["format_version"] = 3
    for form in manifest["forms"].values():
        form["state"].insert(1, words(count))
        form["state_bytes"] += 4 * count
    return manifest


def test_a_score_of_two_words_is_described(written: Json) -> None:
    old = parse_manifest(json.dumps(written), Path("manifest.json")).forms["bank"]
    new = parse_manifest(json.dumps(with_two_words(written, 3)), Path("manifest.json")).forms["bank"]
    assert (old.has_score_low, old.score_words, old.words) == (False, 3, 6)
    assert (new.has_score_low, new.score_words, new.words) == (True, 6, 9)


def test_a_score_that_does_not_add_up_has_one_word_in_every_format(written: Json) -> None:
    written["decision"]["rule"] = "last"
    written["format_version"] = 3
    assert parse_manifest(json.dumps(written), Path("manifest.json")).forms["bank"].score_words == 3


def test_a_manifest_is_read(written: Json) -> None:
    manifest = parse_manifest(json.dumps(written), Path("manifest.json"))
    assert manifest.model_dump(mode="json", exclude_unset=True) == written
    assert manifest.forms["bank"].words == 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda manifest: bank(manifest).update(state_bytes=33), "state_bytes is 33, the state tensors add up to 32"),
        (lambda manifest: bank(manifest)["state"][2].update(name="step"), "not float32 tensors and, last, decision.st"),
        (lambda manifest: bank(manifest)["state"][0].update(dtype="int64", shape=[1]), "state_bytes is 32"),
        (
            lambda manifest: (
                bank(manifest)["state"][0].update(dtype="float64") or bank(manifest).update(state_bytes=44)
            ),
            "not float32 tensors",
        ),
        (lambda manifest: bank(manifest)["state"][1].update(name="other"), "tensors is not decision.score"),
        (lambda manifest: bank(manifest).update(kind="new"), "forms.bank.kind: Extra inputs are not permitted"),
        (lambda manifest: manifest["labels"].pop(), "2 labels for 3 outputs"),
        (lambda manifest: manifest["forms"].pop("exact"), "default_form 'exact' is not among the forms"),
        (lambda manifest: manifest["files"].pop("bank.onnx"), "file 'bank.onnx' is used but not listed"),
        (lambda manifest: manifest["files"].pop("encoder.onnx"), "file 'encoder.onnx' is used but not listed"),
        (
            lambda manifest: manifest["files"].update({"../up": {"bytes": 0, "sha256": "0" * 64}}),
            "'../up' is not a plain name",
        ),
        (lambda manifest: manifest["files"]["bank.onnx"].update(sha256="short"), "files.bank.onnx.sha256: "),
        (lambda manifest: manifest.update(name="a name"), "manifest.json: name: "),
        (lambda manifest: manifest["decision"].update(rule="guess"), "decision.rule: "),
        (
            lambda manifest: manifest.update(format_version=3),
            "in format 3 and with rule sum_softmax, a state has decision.score_low before decision.score",
        ),
        (
            lambda manifest: bank(manifest)["state"].insert(1, words(3)) or bank(manifest).update(state_bytes=44),
            "in format 2 and with rule sum_softmax, a state does not have decision.score_low",
        ),
        (
            lambda manifest: with_two_words(manifest, 3) and manifest["decision"].update(rule="last"),
            "in format 3 and with rule last, a state does not have decision.score_low",
        ),
        (lambda manifest: with_two_words(manifest, 2), "the score does not have the 3 outputs"),
        (lambda manifest: manifest["input"].update(step_s=5e-324), "input.step_s: "),
        (lambda manifest: manifest["input"].update(step_s=1e300), "input.step_s: "),
        (lambda manifest: bank(manifest).update(state=[{}] * 10_000), "has more than 10,000 values"),
        (lambda manifest: manifest.update({str(n): 0 for n in range(10_000)}), "has more than 10,000 values"),
        (lambda manifest: manifest.update(format_version=1), "manifest format 1, but this server reads 2 to 5: "),
        (lambda manifest: manifest.pop("format_version"), "manifest format None, but this server reads 2 to 5: "),
        (lambda manifest: bank(manifest)["state"][0].update(shape=[-3, -1]), "forms.bank.state.0.shape.0: "),
        (lambda manifest: bank(manifest)["state"][0].update(shape=[2**62]), "forms.bank.state.0.shape.0: "),
        (lambda manifest: bank(manifest)["state"][0].update(shape=[1] * 9), "forms.bank.state.0.shape: "),
        (
            lambda manifest: bank(manifest)["state"][0].update(shape=[2**20, 2**20]),
            "forms.bank: Value error, the state tensors have more than 268,435,456 bytes",
        ),
        (
            lambda manifest: manifest["encoder"]["state"][0].update(shape=[2**30]),
            "encoder: Value error, the state tensors have more than 268,435,456 bytes",
        ),
        (
            lambda manifest: manifest["encoder"]["state"].append(manifest["encoder"]["state"][0]),
            "encoder: Value error, two state tensors have the same name",
        ),
        (lambda manifest: bank(manifest)["state"][0].update(initial=1e300), "initial is 1e+300, which float32 cannot"),
        (
            lambda manifest: manifest["encoder"]["state"][0].update(dtype="int64", initial=0.5),
            "initial is 0.5, which int64 cannot hold",
        ),
        (lambda manifest: bank(manifest)["state"][0].update(initial=math.nan), "forms.bank.state.0.initial: "),
        (lambda manifest: manifest["input"].update(step_s=math.inf), "input.step_s: "),
        (lambda manifest: manifest["input"].update(channels=10**15), "input.channels: "),
        (lambda manifest: manifest["encoder"].update(sample_rate_hz=10**9), "encoder.sample_rate_hz: "),
        (lambda manifest: manifest["encoder"].update(samples_per_step=10**9), "encoder.samples_per_step: "),
        (lambda manifest: manifest["decision"].update(tail_steps=10**12), "decision.tail_steps: "),
        (lambda manifest: manifest["decision"].update(skip_steps=10**12), "decision.skip_steps: "),
        (lambda manifest: manifest["hidden"].append(0), "hidden.1: "),
        (lambda manifest: manifest["files"]["bank.onnx"].update(bytes=10**30), "files.bank.onnx.bytes: "),
        (lambda manifest: manifest["provenance"].update(loss=math.nan), "provenance.loss"),
        (
            lambda manifest: manifest["files"].update({"a\0b": {"bytes": 0, "sha256": "0" * 64}}),
            "file 'a\\x00b' is not a plain name",
        ),
        (lambda manifest: manifest.update(format_version="x" * 10_000), "manifest format 'xxxx"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_field(
    written: Json, change: Callable[[Json], object], sentence: str
) -> None:
    change(written)
    with pytest.raises(ArtifactError) as caught:
        parse_manifest(json.dumps(written), Path("manifest.json"))
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 700
    assert ": export the model again" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not JSON"),
        ("[]", "manifest format None"),
        ("\xff", "not JSON"),
        ("[" * 1_000_000, "not JSON"),
        ("1" * 1_000_000, "not JSON"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        parse_manifest(text.encode("latin-1"), Path("manifest.json"))


def test_a_tracer_needs_no_labels(written: Json) -> None:
    written["decision"]["rule"] = "trace"
    written["labels"] = []
    assert parse_manifest(json.dumps(written), Path("manifest.json")).labels == ()


def test_a_network_of_values_may_take_samples_as_they_are(written: Json) -> None:
    written["format_version"] = 4
    written["decision"]["rule"] = "last"
    written["input"] |= {"kind": "values", "channels": written["encoder"]["samples_per_step"]}
    written["encoder"] |= {"file": None, "state": []}
    for form in written["forms"].values():
        form |= {"torchscript": None, "tolerance": 1e-5}
    manifest = parse_manifest(json.dumps(written), Path("manifest.json"))
    assert manifest.encoder is not None
    assert manifest.encoder.file is None
    assert manifest.forms["bank"].tolerance == 1e-5


@pytest.mark.parametrize(
    ("encoder", "network", "sentence"),
    [
        ({"kind": "values"}, {}, "rows of values are one a step"),
        ({"channels": 2}, {}, "audio has one channel"),
        ({"file": None}, {}, "without a graph there is no state"),
        ({"file": None, "state": []}, {}, "samples go straight to the network"),
        ({}, {"kind": "values"}, "an encoder makes spikes, but the network takes values"),
    ],
)
def test_encoder_and_network_fit_each_other(written: Json, encoder: Json, network: Json, sentence: str) -> None:
    written["encoder"] |= encoder
    written["input"] |= network
    with pytest.raises(ArtifactError, match=sentence):
        parse_manifest(json.dumps(written), Path("manifest.json"))


@pytest.mark.parametrize(
    ("version", "form", "sentence"),
    [
        (5, {}, "in format 5, exactness is None"),
        (4, {"exactness": "A"}, "in format 4, exactness is A"),
        (5, {"exactness": "C"}, "exactness is C, but tolerance 0"),
        (5, {"exactness": "B", "tolerance": 1e-5}, "exactness is B, but tolerance 1e-05"),
        (5, {"exactness": "D"}, "forms.exact.exactness"),
        (5, {"exactness": "B", "lookahead_steps": -1}, "forms.exact.lookahead_steps"),
    ],
)
def test_exactness_is_stated_from_format_5_on(written: Json, version: int, form: Json, sentence: str) -> None:
    with_two_words(written, 3)
    written["format_version"] = version
    for described in written["forms"].values():
        described |= form
    with pytest.raises(ArtifactError, match=sentence):
        parse_manifest(json.dumps(written), Path("manifest.json"))


def rejecting(written: Json, labels: list[str], version: int = 5) -> Json:
    with_two_words(written, 3)
    for form in written["forms"].values():
        form["exactness"] = "B" if version > 4 else None
    return written | {"format_version": version, "rejected_labels": labels}


def test_later_steps_may_count_more_from_format_5_on(written: Json) -> None:
    written["decision"]["rule"] = "late_softmax"
    newest = rejecting(written, [])
    manifest = parse_manifest(json.dumps(newest), Path("manifest.json"))
    assert (manifest.decision.rule, manifest.forms["bank"].has_score_low) == ("late_softmax", True)
    for form in newest["forms"].values():
        form["exactness"] = None
    with pytest.raises(ArtifactError, match=r"in format 4, decision\.rule is late_softmax"):
        parse_manifest(json.dumps(newest | {"format_version": 4}), Path("manifest.json"))


@pytest.mark.parametrize(
    ("labels", "version", "sentence"),
    [
        (["two"], 4, r"in format 4, rejected_labels are \('two',\)"),
        (["four"], 5, r"rejected_labels are \('four',\), which are not some of the labels"),
        (["one", "two", "three"], 5, "which are not some of the labels"),
    ],
)
def test_some_of_the_labels_may_be_rejected_from_format_5_on(
    written: Json, labels: list[str], version: int, sentence: str
) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        parse_manifest(json.dumps(rejecting(written, labels, version)), Path("manifest.json"))


@pytest.mark.parametrize("labels", [[], ["two"]])
def test_rejected_labels_are_written_where_there_are_some(written: Json, labels: list[str]) -> None:
    manifest = parse_manifest(json.dumps(rejecting(written, labels)), Path("manifest.json"))
    assert manifest.rejected_labels == tuple(labels)
    assert ("rejected_labels" in json.loads(manifest.to_json())) == bool(labels), "older servers read the others"
