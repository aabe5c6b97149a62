from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.errors import ArtifactError, NotFound, UnsupportedInput
from service.models.catalog import ModelCatalog
from service.models.describe import summary
from service.models.folder import natural_key, newest_artifact, read_default
from service.models.model import Model
from service.runtime.onnx import Graph
from tests.support.artifact import write_artifact
from tests.support.fake_graph import OUTPUTS, load_fake
from tests.support.paths import MODELS


def test_versions_are_in_natural_order_and_the_newest_is_the_default(tmp_path: Path) -> None:
    for version in ("9", "10", "1.10", "1.9"):
        write_artifact(tmp_path, version=version)
    catalog = ModelCatalog(tmp_path, load=load_fake)
    assert catalog.versions("digits") == ["1.9", "1.10", "9", "10"]
    assert catalog.get("digits").version == "10"
    assert catalog.get("digits", "1.9").version == "1.9"
    assert newest_artifact(tmp_path / "digits").manifest.version == "10"
    assert newest_artifact(tmp_path / "digits" / "9").manifest.version == "9"


def test_natural_key_takes_mixed_names() -> None:
    assert sorted(["v10", "v9", "10", "alpha", "v9-rc"], key=natural_key) == ["10", "alpha", "v9", "v9-rc", "v10"]


def test_the_default_is_the_only_model_or_the_configured_one(tmp_path: Path) -> None:
    write_artifact(tmp_path, "digits")
    assert ModelCatalog(tmp_path, load=load_fake).get().name == "digits"
    write_artifact(tmp_path, "words", rule="trace", hears=False)
    assert ModelCatalog(tmp_path, "words", load=load_fake).get().name == "words"
    undecided = ModelCatalog(tmp_path, load=load_fake)
    assert undecided.names == ["digits", "words"]
    with pytest.raises(NotFound, match="'digits', 'words'"):
        undecided.get()
    with pytest.raises(NotFound, match=r"no model 'nothing'.*'digits', 'words'"):
        ModelCatalog(tmp_path, "nothing", load=load_fake)


def test_the_folder_may_name_its_default(tmp_path: Path) -> None:
    for name in ("digits", "words"):
        write_artifact(tmp_path, name)
    (tmp_path / "default").write_text("words\n")
    assert ModelCatalog(tmp_path, load=load_fake).get().name == "words"
    assert ModelCatalog(tmp_path, "digits", load=load_fake).get().name == "digits"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"letters", "default: names 'letters', but the folder has 'digits': name one"),
        (b"", "default: does not hold the name"),
        (b"digits\nwords\n", "default: does not hold the name"),
        (b"../digits", "default: does not hold the name"),
        (b"\xff", "default: cannot be read as text"),
    ],
)
def test_a_folders_default_that_is_none_is_refused(models: Path, content: bytes, sentence: str) -> None:
    (models / "default").write_bytes(content)
    with pytest.raises(ArtifactError, match=sentence):
        ModelCatalog(models, load=load_fake)


def test_a_model_may_be_called_default(tmp_path: Path) -> None:
    write_artifact(tmp_path, "default")
    assert ModelCatalog(tmp_path, load=load_fake).get().name == "default"


def test_the_shipped_folder_has_a_default() -> None:
    assert read_default(MODELS) == "speech-digits"


@pytest.mark.parametrize(("name", "version"), [("digits", ".2-abcd"), (".digits", "2"), ("digits", "2~"), ("a b", "2")])
def test_folders_that_cannot_be_models_are_passed_over(models: Path, name: str, version: str) -> None:
    """As a killed export leaves them: perhaps whole, perhaps damaged."""
    left = models / name / version
    left.mkdir(parents=True)
    (left / "manifest.json").write_text("{")
    assert ModelCatalog(models, load=load_fake).versions("digits") == ["1"]
    assert newest_artifact(models / "digits").manifest.version == "1"


def test_what_is_not_there_is_named_with_what_is(catalog: ModelCatalog) -> None:
    with pytest.raises(NotFound, match="no model 'x': the server has 'digits'"):
        catalog.get("x")
    with pytest.raises(NotFound, match="no version '2', it has '1'"):
        catalog.get("digits", "2")


def test_a_form_is_the_default_or_one_that_is_there(tmp_path: Path) -> None:
    write_artifact(tmp_path, forms=["bank"])
    model = ModelCatalog(tmp_path, load=load_fake).get()
    assert model.choose_form(None) == "bank"
    with pytest.raises(NotFound, match="no form 'exact', it has 'bank'"):
        model.choose_form("exact")


@pytest.mark.parametrize("name", [None, "digits"])
def test_folders_without_models_are_refused(tmp_path: Path, name: str | None) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        ModelCatalog(tmp_path / "nowhere", name, load=load_fake)
    with pytest.raises(ArtifactError, match="holds no model"):
        ModelCatalog(tmp_path, name, load=load_fake)
    with pytest.raises(ArtifactError, match="neither an artifact"):
        newest_artifact(tmp_path)


def test_a_misplaced_artifact_is_refused(tmp_path: Path) -> None:
    write_artifact(tmp_path, change={"version": "3"})
    with pytest.raises(ArtifactError, match="version '3': move it to"):
        ModelCatalog(tmp_path, load=load_fake)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (write_artifact(tmp_path) / "bank.onnx").write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"bank\.onnx: differs"):
        ModelCatalog(tmp_path, load=load_fake)


def test_initial_states_are_the_manifests(model: Model) -> None:
    state = model.initial_state("bank")
    assert (state.shape, state.dtype.name) == ((2 * OUTPUTS,), "float32")
    assert not state.any()
    assert model.initial_encoder_state()["loudness"].dtype == np.float64


def test_each_graph_is_loaded_once_when_its_model_is_opened(models: Path) -> None:
    loaded: list[str] = []

    def load(content: bytes) -> Graph:
        loaded.append(json.loads(content)["graph"])
        return load_fake(content)

    model = ModelCatalog(models, load=load).get()
    assert sorted(loaded) == ["encoder", "network", "network"]
    assert model.network("bank") is model.network("bank")
    assert model.encoder_graph is model.encoder_graph
    assert len(loaded) == 3


def test_a_graph_that_is_not_what_the_manifest_promises_is_refused(models: Path) -> None:
    def swapped(content: bytes) -> Graph:
        other = "network" if b"encoder" in content else "encoder"
        return load_fake(json.dumps({"graph": other, "rule": "last", "scale": 1}).encode())

    with pytest.raises(ArtifactError, match=r"exact\.onnx: lacks input events\.row.*unknown input audio.*lacks output"):
        ModelCatalog(models, load=swapped)

    def without_encoder(content: bytes) -> Graph:
        return swapped(content) if b"encoder" in content else load_fake(content)

    with pytest.raises(ArtifactError, match=r"encoder\.onnx: lacks input audio"):
        ModelCatalog(models, load=without_encoder)


def test_a_graph_that_does_not_load_names_its_file(models: Path) -> None:
    def broken(_: bytes) -> Graph:
        raise ArtifactError("cannot load")

    with pytest.raises(ArtifactError, match=r"digits/1/exact\.onnx: cannot load"):
        ModelCatalog(models, load=broken)


def test_a_model_without_encoder_hears_nothing(tmp_path: Path) -> None:
    write_artifact(tmp_path, hears=False)
    model = ModelCatalog(tmp_path, load=load_fake).get()
    assert model.initial_encoder_state() == {}
    with pytest.raises(UnsupportedInput, match="takes spikes, not audio"):
        _ = model.encoder_graph


def test_the_summary_is_json_with_the_sizes(model: Model) -> None:
    described = json.loads(json.dumps(summary(model.manifest)))
    assert described["forms"]["exact"]["state_bytes"] == 8 * OUTPUTS + 8
    assert described["forms"]["bank"]["kernel_error"] == {"out": 0.001}
    assert described["encoder"]["state_bytes"] == 8
    assert described["total_bytes"] == sum(entry["bytes"] for entry in described["files"].values())
