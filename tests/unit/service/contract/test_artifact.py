from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from service.contract.artifact import Artifact, read_file
from service.contract.manifest import MAX_MANIFEST_BYTES
from service.errors import ArtifactError
from tests.support.artifacts.artifact import write_artifact

needs_posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs, and links for few users")


def test_an_artifact_is_opened_and_its_files_are_read(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path)
    artifact = Artifact.open(folder)
    assert artifact.manifest.name == "digits"
    assert artifact.read("exact.onnx") == (folder / "exact.onnx").read_bytes()


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
        (folder / "exact.onnx").unlink()
    else:
        (folder / "exact.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read" if content is None else "copy the artifact again"):
        Artifact.open(folder)
    with pytest.raises(ArtifactError, match=r"exact\.onnx"):
        artifact.read("exact.onnx")


def in_volume(folder: Path) -> None:
    """As Kubernetes writes a volume: each file is a link into the folder that ..data links to."""
    (folder / "..2026_01_01").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / "..2026_01_01" / path.name)
        path.symlink_to(Path("..data") / path.name)
    (folder / "..data").symlink_to("..2026_01_01")


def behind_links(folder: Path) -> None:
    """The version's folder is a link out of the folder of models, which is one too."""
    folder.rename(folder.parents[2] / "elsewhere")
    folder.symlink_to(folder.parents[2] / "elsewhere")
    folder.parents[1].rename(folder.parents[2] / "disk")
    folder.parents[1].symlink_to("disk")


@needs_posix
@pytest.mark.parametrize("arrange", [in_volume, behind_links])
def test_links_that_operators_make_are_followed(tmp_path: Path, arrange: Callable[[Path], None]) -> None:
    folder = write_artifact(tmp_path / "models")
    arrange(folder)
    assert Artifact.open(folder).manifest.name == "digits"


def link_to_a_file(path: Path) -> None:
    outside = path.parents[1] / "outside"
    path.rename(outside)  # with the right content
    path.symlink_to(outside)


def link_to_a_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


@needs_posix
@pytest.mark.parametrize("name", ["exact.pt", "manifest.json"])
@pytest.mark.parametrize(
    ("replace", "sentence"),
    [
        (link_to_a_file, "is a link to .*outside, outside its folder: copy the file"),
        (link_to_a_device, "is a link to /dev/zero, outside its folder: copy the file"),
        (link_to_itself, "cannot be read .*: copy the artifact again"),
        (fifo, "is not a regular file: copy the artifact again"),
        (folder_in_its_place, "is not a regular file: copy the artifact again"),
    ],
)
def test_what_is_no_file_of_the_folder_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, replace: Callable[[Path], None], sentence: str
) -> None:
    folder = write_artifact(tmp_path)
    replace(folder / name)
    opened: list[str] = []
    real_open = os.open

    def noted(path: Path, flags: int) -> int:
        opened.append(path.name)
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", noted)
    with pytest.raises(ArtifactError, match=f"{name}: {sentence}"):
        Artifact.open(folder)
    assert name not in opened


@needs_posix
def test_a_fifo_that_takes_a_files_place_just_then_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    real_open = os.open

    def late(real: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return real_open(real, flags)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(ArtifactError, match="is not a regular file"):
        read_file(path, 100)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("exact.onnx", "differs from its size in the manifest: copy the artifact again"),
        ("manifest.json", f"is longer than {MAX_MANIFEST_BYTES:,} bytes: export the model again"),
    ],
)
def test_a_file_that_is_too_long_is_not_read(tmp_path: Path, name: str, sentence: str) -> None:
    folder = write_artifact(tmp_path)
    with (folder / name).open("r+b") as file:
        file.truncate(3 << 30)  # of which the disk keeps next to nothing
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=f"{name}: {sentence}"):
            Artifact.open(folder)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_name_that_no_file_can_have_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot be read .*embedded null"):  # Python 3.13 says more
        read_file(tmp_path / "a\0b", 100)
