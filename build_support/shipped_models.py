"""The model of an installation: the one that ``models/default`` names, in its newest version."""

from __future__ import annotations

from pathlib import Path

from build_support.compiling import ROOT, BuildError

FOLDER = "service/shipped_models"  # in a checkout, a link to models/


def shipped_files(root: Path = ROOT) -> dict[str, str]:
    """List the files of the default model: their places in an installation, and those in the tree.

    There are none where the tree has no ``models/default``, as in the build of an image, which has all models itself.

    Raises:
        BuildError: the named model has no version.
    """
    models = root / "models"
    if not (models / "default").is_file():
        return {}
    model = models / (models / "default").read_text().strip()
    versions = [folder for folder in model.glob("*/") if folder.name.isdecimal()]
    if not versions:
        raise BuildError(
            f"{models}/default names {model.name}, and {model} has no version: export one, or name another"
        )
    newest = max(versions, key=lambda folder: int(folder.name))
    names = [path.relative_to(models).as_posix() for path in (models / "default", *sorted(newest.iterdir()))]
    return {f"{FOLDER}/{name}": f"models/{name}" for name in names}
