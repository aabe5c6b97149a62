from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from service.contract.artifact import Artifact
from service.contract.folder import MODELS, SHIPPED, named_artifact, newest_artifact, read_default, usual_folder
from service.errors import ArtifactError, NotFound
from service.models.catalog import ModelCatalog
from service.runtime.onnx import Graph
from tests.support.artifacts.artifact import write_artifact
from tests.support.artifacts.default import with_default
from tests.support.artifacts.fake_graph import load_fake


def test_versions_are_in_natural_order_and_the_newest_is_the_default(tmp_path: Path) -> None:
    for version in ("9", "10", "1.10", "1.9"):
        write_artifact(tmp_path, version=version)
    catalog = ModelCatalog(tmp_path, load=load_fake)
    assert catalog.versions("digits") == ["1.9", "1.10", "9", "10"]
    assert catalog.get("digits").version == "10"
    assert catalog.get("digits", "1.9").version == "1.9"
    assert newest_artifact(tmp_path / "digits").manifest.version == "10"
    assert newest_artifact(tmp_path / "digits" / "9").manifest.version == "9"


def test_the_default_is_the_only_model_or_the_named_one(tmp_path: Path) -> None:
    write_artifact(tmp_path, "digits")
    only = ModelCatalog(tmp_path, load=load_fake)
    assert only.get().name == "digits"
    with pytest.raises(NotFound, match=r"model 'digits' has no version '9', it has '1'"):
        only.get(None, "9")
    write_artifact(tmp_path, "words", rule="trace", takes_audio=False)
    undecided = ModelCatalog(tmp_path, load=load_fake)
    assert undecided.names == ["digits", "words"]
    with pytest.raises(NotFound, match="'digits', 'words'"):
        undecided.get()
    assert ModelCatalog(with_default(tmp_path, "words\n"), load=load_fake).get().name == "words"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"letters", "default: names 'letters', but the folder has 'digits': write one"),
        (b"", "default: does not contain the name"),
        (b"digits\nwords\n", "default: does not contain the name"),
        (b"../digits", "default: does not contain the name"),
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


@pytest.mark.parametrize(("name", "version"), [("digits", ".2-abcd"), (".digits", "2"), ("digits", "2~"), ("a b", "2")])
def test_folders_that_cannot_be_models_are_passed_over(models: Path, name: str, version: str) -> None:
    """As a killed export leaves them: perhaps whole, perhaps damaged."""
    left = models / name / version
    left.mkdir(parents=True)
    (left / "manifest.json").write_text("{")
    assert ModelCatalog(models, load=load_fake).versions("digits") == ["1"]
    assert newest_artifact(models / "digits").manifest.version == "1"


def test_folders_without_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder of models: name yours, as in --models DIR"):
        ModelCatalog(tmp_path / "nowhere", load=load_fake)
    with pytest.raises(ArtifactError, match="contains no model"):
        ModelCatalog(tmp_path, load=load_fake)
    with pytest.raises(ArtifactError, match="neither an artifact"):
        newest_artifact(tmp_path)


def test_a_model_is_found_by_its_name_beside_a_folder_of_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    artifact = write_artifact(models)
    name = Path(artifact.parent.name)
    monkeypatch.chdir(tmp_path)
    for wanted in (name, Path("models") / name, artifact):
        assert named_artifact(wanted, models).manifest.name == str(name)
    name.mkdir()  # the recordings that the model was trained on
    assert named_artifact(name, models).manifest.name == str(name)
    Path("other").mkdir()
    with pytest.raises(ArtifactError, match="other is neither an artifact"):
        named_artifact(Path("other"), models)
    with pytest.raises(ArtifactError, match=rf"nowhere: there is no such model: .* \(.*models: {name}\)"):
        named_artifact(Path("nowhere"), models)
    with pytest.raises(ArtifactError, match="other: no models"):
        named_artifact(Path("nowhere"), Path("other"))


def test_where_there_are_no_models_those_of_the_installation_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    default = read_default(usual_folder())
    assert default is not None
    assert named_artifact(Path(default), usual_folder()).manifest.name == default
    folder = Path("models/mine")
    folder.mkdir(parents=True)  # of another program
    assert read_default(usual_folder()) == default
    write_artifact(Path("models"))
    assert usual_folder() == Path("models")
    assert named_artifact(Path(default), MODELS, SHIPPED).manifest.name == default
    shutil.move("models/digits/1/manifest.json", folder)  # without a version: the error says so
    assert usual_folder() == Path("models")


def test_a_model_that_is_too_large_is_not_read(models: Path) -> None:
    artifact = Artifact.describe(models / "digits" / "1")
    total_bytes = artifact.manifest.total_bytes
    assert total_bytes == sum(entry.bytes for entry in artifact.manifest.files.values()) + 32 + 8
    assert ModelCatalog(models, load=load_fake, max_model_bytes=total_bytes).names == ["digits"]
    (models / "digits/1/exact.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"digits/1: the files and states have .* bytes.*export a smaller model"):
        ModelCatalog(models, load=load_fake, max_model_bytes=total_bytes - 1)


def test_a_graph_that_does_not_load_names_its_file(models: Path) -> None:
    def broken(_: bytes) -> Graph:
        raise ArtifactError("cannot load")

    with pytest.raises(ArtifactError, match=r"digits/1/exact\.onnx: cannot load"):
        ModelCatalog(models, load=broken)


def test_an_artifact_without_a_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "gru").mkdir()
    (tmp_path / "gru" / "manifest.json").touch()
    with pytest.raises(ArtifactError, match=r"gru is an artifact without a version: export it again, to .*gru/1$"):
        ModelCatalog(tmp_path, load=load_fake)
