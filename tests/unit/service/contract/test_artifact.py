from __future__ import annotations

from pathlib import Path

import pytest

from service.contract.artifact import Artifact
from service.errors import ArtifactError
from tests.support.artifact import write_artifact


def test_an_artifact_is_opened_and_its_files_are_read(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path)
    artifact = Artifact.open(folder)
    assert artifact.manifest.name == "digits"
    assert artifact.read("bank.onnx") == (folder / "bank.onnx").read_bytes()


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json: cannot be read \(No such file"):
        Artifact.open(tmp_path)


def test_a_file_that_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path)
    (folder / "notes.txt").write_text("not ours")
    with pytest.raises(ArtifactError, match=r"lists no file 'notes\.txt'"):
        Artifact.open(folder).read("notes.txt")


@pytest.mark.parametrize("content", [None, b"", b"other"])
def test_a_file_that_is_missing_or_altered_is_reported(tmp_path: Path, content: bytes | None) -> None:
    folder = write_artifact(tmp_path)
    artifact = Artifact.open(folder)
    if content is None:
        (folder / "bank.onnx").unlink()
    else:
        (folder / "bank.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read" if content is None else "copy the artifact again"):
        Artifact.open(folder)
    with pytest.raises(ArtifactError, match=r"bank\.onnx"):
        artifact.read("bank.onnx")
