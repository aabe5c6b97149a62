"""The model of an installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from build_support.compiling import BuildError
from build_support.shipped_models import shipped_files


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for artifact in ("digits/2", "digits/10", "digits/.11.unfinished", "others/1"):
        folder = tmp_path / "models" / artifact
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
    return tmp_path / "models"


def test_the_newest_version_of_the_default_model_is_installed(models: Path) -> None:
    assert shipped_files(models.parent) == {}
    (models / "default").write_text("digits\n")
    assert shipped_files(models.parent) == {
        "service/shipped_models/default": "models/default",
        "service/shipped_models/digits/10/manifest.json": "models/digits/10/manifest.json",
    }


def test_a_default_model_that_is_not_there_ends_the_build(models: Path) -> None:
    (models / "default").write_text("digit")
    with pytest.raises(BuildError, match=r"default names digit, and .*digit has no version: export one"):
        shipped_files(models.parent)
