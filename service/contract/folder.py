"""Finds artifacts, their order and the default model in a folder of models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from service.contract.artifact import Artifact, read_file
from service.contract.manifest import MANIFEST, is_name
from service.errors import ArtifactError, listing

MODELS = Path("models")
SHIPPED = Path(__file__).parents[1] / "shipped_models"  # the default model; in a checkout, a link to models/
DEFAULT = "default"
MAX_DEFAULT_BYTES = 1_024


def usual_folder() -> Path:
    """Choose the folder if nobody names one: ``models`` if it has a model, else the installation's."""
    has_models = any(next(MODELS.glob(pattern), None) for pattern in (f"*/{MANIFEST}", f"*/*/{MANIFEST}"))
    return MODELS if has_models or not SHIPPED.is_dir() else SHIPPED


def find_artifacts(models: Path) -> list[Path]:
    """List the folders ``models/NAME/VERSION`` with a manifest, sorted. Raises ArtifactError if there is no folder."""
    if not models.is_dir():
        raise ArtifactError(f"{models}: no such folder of models: name yours, as in --models DIR")
    folders = (path.parent for path in models.glob(f"*/*/{MANIFEST}"))
    return sorted(folder for folder in folders if is_name(folder.parent.name, folder.name))


def find_versions(model: Path) -> list[Path]:
    """List the folders ``model/VERSION`` that contain a manifest, sorted."""
    return sorted(path.parent for path in model.glob(f"*/{MANIFEST}") if is_name(path.parent.name))


def read_default(models: Path) -> str | None:
    """Read the name in the file ``models/default``; None without a file. Raises ArtifactError if it has no name."""
    path = models / DEFAULT
    if not path.is_file():  # a model may be named "default"
        return None
    try:
        name = read_file(path, MAX_DEFAULT_BYTES).decode().strip()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: cannot be read as text ({error}): write the name of a model into it") from error
    if not is_name(name):
        raise ArtifactError(f"{path}: does not contain the name of a model: write one into it, or delete it")
    return name


def default_of_folder(folder: Path, names: Sequence[str]) -> str | None:
    """Choose the default model of a folder: the one that its file ``default`` names, else the only one, else None.

    Raises:
        ArtifactError: the file does not name one of the models.
    """
    name = read_default(folder)
    if name is None:
        return names[0] if len(names) == 1 else None
    if name not in names:
        raise ArtifactError(
            f"{folder / DEFAULT}: names {name!r}, but the folder has {listing(names)}: "
            "write one of these into it, or delete it"
        )
    return name


def no_models_error(folder: Path) -> ArtifactError:
    unversioned = next(folder.glob(f"*/{MANIFEST}"), None)
    if unversioned is not None:
        return ArtifactError(
            f"{folder}: contains no model, but {unversioned.parent} is an artifact without a version: export it again, "
            f"to {unversioned.parent / '1'}"
        )
    return ArtifactError(f"{folder}: contains no model (NAME/VERSION/{MANIFEST}): export one into it")


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Make a sort key that puts '9' before '10' and '1.9' before '1.10'."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def newest_artifact(path: Path) -> Artifact:
    """Open the artifact in a folder, or the newest of a model's versions in it. Raises ArtifactError without one."""
    if (path / MANIFEST).is_file():
        return Artifact.open(path)
    versions = sorted(find_versions(path), key=lambda folder: natural_key(folder.name))
    if not versions:
        raise ArtifactError(f"{path} is neither an artifact ({MANIFEST}) nor a folder with versions of a model")
    return Artifact.open(versions[-1])


def find_model(model: Path, *models: Path) -> Path | None:
    """Find the folder of an artifact or of a model's versions: ``model`` itself, or that of its name in ``models``."""
    folders = (model, *(each / model for each in models))
    return next((folder for folder in folders if (folder / MANIFEST).is_file() or find_versions(folder)), None)


def model_names(*models: Path) -> list[str]:
    """List the names of the models in folders, sorted."""
    return sorted({path.name for each in models for path in each.glob("*/") if find_versions(path)})


def named_artifact(model: Path, *models: Path) -> Artifact:
    """Open an artifact by its folder, by the folder of its model's versions (the newest), or by a name in ``models``.

    A folder of that name without a model, as the one with its recordings, is ignored.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    if (folder := find_model(model, *models)) is not None:
        return newest_artifact(folder)
    if model.exists():
        return newest_artifact(model)  # says what is missing in it
    there = f"{' and '.join(map(str, models))}: {', '.join(model_names(*models)) or 'no models'}"
    raise ArtifactError(f"{model}: there is no such model: name the folder of an artifact, or a model ({there})")
