"""Further versions of the shipped model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.support.paths import SPEECH


def put(models: Path, version: str, described: str) -> Path:
    """The shipped model as a version of another description, and so of another content."""
    folder = models / "speech-digits" / version
    shutil.copytree(SPEECH, folder)
    describe(folder, version, described)
    return folder


def describe(folder: Path, version: str, described: str) -> None:
    """Change a version's description."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": version, "description": described}))
