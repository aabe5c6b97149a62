"""Writes an artifact folder, whole or not at all. All exporters use it."""

from __future__ import annotations

import io
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hetsyn_model.spec.errors import ModelError
from service.contract import manifest as contract
from service.contract.artifact import Artifact
from service.contract.folder import MODELS

GOLDEN = "golden.npz"

Provenance = Mapping[str, str | int | float | bool | None]


class ExportError(ModelError):
    """A model that cannot be exported; the message says what to do."""

    code = "not-exportable"


class ArtifactPathError(ExportError):
    """A path that is no folder NAME/VERSION for a server."""

    code = "bad-path"


class AlreadyExists(ExportError, FileExistsError):
    """There is something where a file or a folder would be written."""

    code = "already-exists"


def artifact_path(out: str | Path) -> Path:
    """Return the absolute path of an artifact's folder.

    Raises:
        ArtifactPathError: it has one name, so the model's name or the version is missing.
    """
    if len(Path(out).parts) < 2:
        raise ArtifactPathError(f"{str(out)!r} has no version: write to a folder NAME/VERSION, as models/digits/1")
    return Path(out).resolve()


def check_name(name: str, version: str) -> None:
    """Check the last two names of an artifact's path.

    Raises:
        ArtifactPathError: no server reads this name or version.
    """
    for what, text in (("name", name), ("version", version)):
        if not contract.is_name(text):
            raise ArtifactPathError(
                f"{what} {text!r}: write to a folder NAME/VERSION, each of letters, digits and . _ -, at most 64"
            )


def check_absent(out: Path) -> None:
    """Check that nothing is at the path, and that its neighbours do not contradict NAME/VERSION.

    Raises:
        AlreadyExists: there is something.
        ArtifactPathError: it lies in an artifact, or in a folder of models, so the version is missing.
    """
    if out.exists():
        raise AlreadyExists(f"{out} exists: artifacts are never overwritten, choose another version")
    if (out.parent / contract.MANIFEST).exists():
        raise ArtifactPathError(f"{out.parent} is an artifact itself: write to a folder NAME/VERSION outside of it")
    if out.parent.name == MODELS.name or next(out.parent.glob(f"*/*/{contract.MANIFEST}"), None):
        raise ArtifactPathError(f"{out.parent} has models: {out} has no version: write to {out / '1'}")


def serving(out: Path) -> str:
    """Write the last line of an export: the model's name, and the command that serves it."""
    folder = out.parent.parent
    if folder.is_relative_to(here := Path.cwd()):
        folder = folder.relative_to(here)
    return f"model {out.parent.name}, version {out.name}: hetsyn serve --models {shlex.quote(str(folder))}"


def names_of(labels: Sequence[str]) -> tuple[str, ...]:
    """Convert labels to a tuple.

    Raises:
        ExportError: they are one text, so that its letters would be the names, or no texts.
    """
    if isinstance(labels, str):
        raise ExportError(f"labels are one text, {labels!r}: give a list of names")
    if not isinstance(labels, Iterable) or any(not isinstance(label, str) for label in labels):
        raise ExportError("labels are texts: give one text an output, in their order")
    return tuple(labels)


def split_names(text: str) -> list[str]:
    """Split a text of names with commas; an empty text has none."""
    return [name.strip() for name in text.split(",")] if text else []


def check_labels(labels: tuple[str, ...], outputs: int, rule: str) -> None:
    """Check that each output has its own label; a trace may have others, or none.

    Raises:
        ExportError: labels are missing, equal or too many.
    """
    if rule != "trace" and len(labels) != outputs:
        count = "1 label" if len(labels) == 1 else f"{len(labels)} labels"
        raise ExportError(f"{count} for {outputs} outputs: give one label an output, in their order")
    if any(not label.strip() for label in labels):
        raise ExportError("a label is empty: give each output a name")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ExportError(f"label {twice[0]!r} stands for two outputs: give each output a label of its own")


def rejected_of(labels: tuple[str, ...], rejected: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that answer null, in the order of all labels.

    Raises:
        ExportError: one is no label, or all are rejected.
    """
    names = names_of(rejected)
    for name in names:
        if name not in labels:
            some = f"give some of {', '.join(labels)}" if labels else "the network has none"
            raise ExportError(f"rejected label {name!r}: there is no such label, {some}")
    if names and set(labels) <= set(names):
        raise ExportError("every label is rejected, so a server would name none: leave at least one")
    return tuple(label for label in labels if label in names)


def arrays_file(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Write arrays by name as the content of an ``.npz`` file, such as ``golden.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def write_folder(out: Path, manifest: contract.Manifest, files: Mapping[str, bytes]) -> None:
    """Write the artifact and open it as a server does. The folder appears complete or not at all.

    Args:
        out: folder NAME/VERSION.
        files: content of every other file, by name.

    Raises:
        ExportError: the folder cannot be written.
    """
    try:
        _write(out, manifest, files)
    except OSError as error:
        raise ExportError(
            f"{out} cannot be written ({error.strerror or error}): write where there is room and you may"
        ) from error
    Artifact.open(out)


def _write(out: Path, manifest: contract.Manifest, files: Mapping[str, bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        for name, content in files.items():
            (scratch / name).write_bytes(content)
        (scratch / contract.MANIFEST).write_bytes(manifest.to_json().encode())
        scratch.chmod(0o755)
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch)
        raise
