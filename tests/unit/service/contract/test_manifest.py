from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.contract.manifest import OLDER_VERSIONS, Manifest, content_hash, parse_manifest
from service.errors import ArtifactError
from tests.support.artifacts.artifact import write_artifact

Json = dict[str, Any]


@pytest.fixture
def written(tmp_path: Path) -> Json:
    """The manifest of an artifact, as JSON."""
    manifest: Json = json.loads((write_artifact(tmp_path) / "manifest.json").read_text())
    return manifest


def network(manifest: Json) -> Json:
    found: Json = manifest["network"]
    return found


def words(count: int) -> Json:
    return {"name": "decision.score_low", "shape": [count], "dtype": "float32", "initial": 0.0}


def with_two_words(manifest: Json, count: int) -> Json:
    """Give a manifest so many low words of a score."""
    network(manifest)["state"].insert(1, words(count))
    network(manifest)["state_bytes"] += 4 * count
    return manifest


def of_older_format(manifest: Json, version: int) -> Json:
    """Give a manifest two forms, as before format 6; a session ran on the exact one by default."""
    exact = network(manifest) if version == 5 else without(network(manifest), "exactness")
    forms = {form: without(exact, "form") for form in ("bank", "exact")}
    forms["bank"] |= {"kernel_error": {"out": 0.001}}
    older = {"format_version": version, "default_form": "exact", "forms": forms}
    return without(manifest, "network") | older


def without(fields: Json, name: str) -> Json:
    return {field: value for field, value in fields.items() if field != name}


def parsed(manifest: Json) -> Manifest:
    return parse_manifest(json.dumps(manifest), Path("manifest.json"))


def test_a_score_may_have_two_words(written: Json) -> None:
    one = parsed(written).network
    two = parsed(with_two_words(written, 3)).network
    assert (one.has_score_low, one.score_words, one.words) == (False, 3, 6)
    assert (two.has_score_low, two.score_words, two.words) == (True, 6, 9)


@pytest.mark.parametrize("version", OLDER_VERSIONS)
def test_a_manifest_of_an_older_format_serves_its_default_form(written: Json, version: int) -> None:
    older = of_older_format(written, version)
    manifest = parsed(older)
    assert (manifest.network.form, manifest.network.kernel_error) == ("exact", {"out": 0.0})
    assert manifest.network.exactness == "B"
    assert manifest.model_dump() == parsed(written).model_dump()
    assert parsed(older | {"default_form": "bank"}).network.kernel_error == {"out": 0.001}
    # sessions that are stored go on
    fields = json.dumps(older, sort_keys=True, separators=(",", ":"))
    assert content_hash(manifest) == hashlib.sha256(fields.encode()).digest()


@pytest.mark.parametrize("change", [{"default_form": "other"}, {"default_form": []}, {"forms": []}, {"forms": {}}])
def test_a_manifest_of_an_older_format_without_its_default_form_is_refused(written: Json, change: Json) -> None:
    with pytest.raises(ArtifactError, match=r"default_form .* is not among the forms: export the model again"):
        parsed(of_older_format(written, 4) | change)


def test_a_manifest_is_read(written: Json) -> None:
    manifest = parsed(written)
    assert manifest.model_dump(mode="json", exclude_unset=True) == written
    assert parsed(json.loads(manifest.to_json())).model_dump() == manifest.model_dump()
    assert manifest.network.words == 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda manifest: network(manifest).update(state_bytes=33),
            "state_bytes is 33, the state tensors add up to 32",
        ),
        (
            lambda manifest: network(manifest)["state"][2].update(name="step"),
            "not float32 tensors and, last, decision.st",
        ),
        (lambda manifest: network(manifest)["state"][0].update(dtype="int64", shape=[1]), "state_bytes is 32"),
        (
            lambda manifest: (
                network(manifest)["state"][0].update(dtype="float64") or network(manifest).update(state_bytes=44)
            ),
            "not float32 tensors",
        ),
        (lambda manifest: network(manifest)["state"][1].update(name="other"), "tensors is not decision.score"),
        (lambda manifest: network(manifest).update(kind="new"), "network.kind: Extra inputs are not permitted"),
        (lambda manifest: manifest["labels"].pop(), "2 labels for 3 outputs"),
        (lambda manifest: network(manifest).update(form="other"), "network.form: "),
        (lambda manifest: manifest.pop("network"), "network: Field required"),
        (lambda manifest: network(manifest).update(exactness="C"), "exactness is C, but tolerance 0"),
        (lambda manifest: network(manifest).update(tolerance=1e-5), "exactness is B, but tolerance 1e-05"),
        (lambda manifest: network(manifest).update(exactness="D"), "network.exactness: "),
        (lambda manifest: network(manifest).update(lookahead_steps=-1), "network.lookahead_steps: "),
        (lambda manifest: manifest["files"].pop("exact.onnx"), "file 'exact.onnx' is used but not listed"),
        (lambda manifest: manifest["files"].pop("encoder.onnx"), "file 'encoder.onnx' is used but not listed"),
        (
            lambda manifest: manifest["files"].update({"../up": {"bytes": 0, "sha256": "0" * 64}}),
            "'../up' is not a plain name",
        ),
        (lambda manifest: manifest["files"]["exact.onnx"].update(sha256="short"), "files.exact.onnx.sha256: "),
        (lambda manifest: manifest.update(name="a name"), "manifest.json: name: "),
        (lambda manifest: manifest["decision"].update(rule="guess"), "decision.rule: "),
        (
            lambda manifest: with_two_words(manifest, 3) and manifest["decision"].update(rule="last"),
            "with rule last, a state does not have decision.score_low",
        ),
        (lambda manifest: with_two_words(manifest, 2), "the score does not have the 3 outputs"),
        (lambda manifest: manifest["input"].update(step_s=5e-324), "input.step_s: "),
        (lambda manifest: manifest["input"].update(step_s=1e300), "input.step_s: "),
        (lambda manifest: network(manifest).update(state=[{}] * 10_000), "has more than 10,000 values"),
        (lambda manifest: manifest.update({str(n): 0 for n in range(10_000)}), "has more than 10,000 values"),
        (lambda manifest: manifest.update(format_version=1), "manifest format 1, but this server reads 2 to 6: "),
        (lambda manifest: manifest.pop("format_version"), "manifest format None, but this server reads 2 to 6: "),
        (lambda manifest: network(manifest)["state"][0].update(shape=[-3, -1]), "network.state.0.shape.0: "),
        (lambda manifest: network(manifest)["state"][0].update(shape=[2**62]), "network.state.0.shape.0: "),
        (lambda manifest: network(manifest)["state"][0].update(shape=[1] * 9), "network.state.0.shape: "),
        (
            lambda manifest: network(manifest)["state"][0].update(shape=[2**20, 2**20]),
            "network: Value error, the state tensors have more than 268,435,456 bytes",
        ),
        (
            lambda manifest: manifest["encoder"]["state"][0].update(shape=[2**30]),
            "encoder: Value error, the state tensors have more than 268,435,456 bytes",
        ),
        (
            lambda manifest: manifest["encoder"]["state"].append(manifest["encoder"]["state"][0]),
            "encoder: Value error, two state tensors have the same name",
        ),
        (
            lambda manifest: network(manifest)["state"][0].update(initial=1e300),
            "initial is 1e+300, which float32 cannot",
        ),
        (
            lambda manifest: manifest["encoder"]["state"][0].update(dtype="int64", initial=0.5),
            "initial is 0.5, which int64 cannot hold",
        ),
        (lambda manifest: network(manifest)["state"][0].update(initial=math.nan), "network.state.0.initial: "),
        (lambda manifest: manifest["input"].update(step_s=math.inf), "input.step_s: "),
        (lambda manifest: manifest["input"].update(channels=10**15), "input.channels: "),
        (lambda manifest: manifest["encoder"].update(sample_rate_hz=10**9), "encoder.sample_rate_hz: "),
        (lambda manifest: manifest["encoder"].update(samples_per_step=10**9), "encoder.samples_per_step: "),
        (lambda manifest: manifest["decision"].update(tail_steps=10**12), "decision.tail_steps: "),
        (lambda manifest: manifest["decision"].update(skip_steps=10**12), "decision.skip_steps: "),
        (lambda manifest: manifest["hidden"].append(0), "hidden.1: "),
        (lambda manifest: manifest["files"]["exact.onnx"].update(bytes=10**30), "files.exact.onnx.bytes: "),
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
        parsed(written)
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
    assert parsed(written).labels == ()


def test_a_network_of_values_may_take_samples_as_they_are(written: Json) -> None:
    written["decision"]["rule"] = "last"
    written["input"] |= {"kind": "values", "channels": written["encoder"]["samples_per_step"]}
    written["encoder"] |= {"file": None, "state": []}
    network(written).update(torchscript=None, tolerance=1e-5, exactness="C")
    manifest = parsed(written)
    assert manifest.encoder is not None
    assert manifest.encoder.file is None
    assert manifest.network.tolerance == 1e-5


@pytest.mark.parametrize(
    ("encoder", "input", "sentence"),
    [
        ({"kind": "values"}, {}, "rows of values are one a step"),
        ({"channels": 2}, {}, "audio has one channel"),
        ({"file": None}, {}, "without a graph there is no state"),
        ({"file": None, "state": []}, {}, "samples go straight to the network"),
        ({}, {"kind": "values"}, "an encoder makes spikes, but the network takes values"),
    ],
)
def test_encoder_and_network_fit_each_other(written: Json, encoder: Json, input: Json, sentence: str) -> None:
    written["encoder"] |= encoder
    written["input"] |= input
    with pytest.raises(ArtifactError, match=sentence):
        parsed(written)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["four"], r"rejected_labels are \('four',\), which are not some of the labels"),
        (["one", "two", "three"], "which are not some of the labels"),
    ],
)
def test_rejected_labels_are_some_of_the_labels(written: Json, labels: list[str], sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        parsed(written | {"rejected_labels": labels})


@pytest.mark.parametrize("labels", [[], ["two"]])
def test_rejected_labels_are_written_where_there_are_some(written: Json, labels: list[str]) -> None:
    manifest = parsed(written | {"rejected_labels": labels})
    assert manifest.rejected_labels == tuple(labels)
    assert ("rejected_labels" in json.loads(manifest.to_json())) == bool(labels)
