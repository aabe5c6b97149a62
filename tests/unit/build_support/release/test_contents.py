"""A package with a file too many or too few is no release."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from build_support.release.contents import check_sdist, check_wheel, installed
from build_support.release.errors import ReleaseError

pytestmark = pytest.mark.long

PYPROJECT = """
[tool.setuptools]
py-modules = ["hetsyn"]
[tool.setuptools.packages.find]
include = ["service*"]
[tool.setuptools.package-data]
"*" = ["py.typed"]
service = ["page/*", "page/recordings/*"]
"""
INSTALLED = {
    "hetsyn.py",
    "service/__init__.py",
    "service/py.typed",
    "service/page/app.js",
    "service/page/recordings/one.wav",
    "service/api/routes.py",
}
SHIPPED = {"service/shipped_models/a/2/bank.onnx": "models/a/2/bank.onnx"}
SOURCES = {"build_support/backend.py", "service/runtime/operators/kernels.cpp", "pyproject.toml", "LICENSE"}
OTHERS = {"tests/unit/test_a.py", "models/a/1/bank.onnx", "examples/recordings/abduction.csv", "service/notes.md"}
TRACKED = INSTALLED | SOURCES | OTHERS | {"MANIFEST.in", "README.md"}
ABOUT = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
IN_WHEEL = INSTALLED | {*SHIPPED} | {f"hetsyn-1.0.dist-info/{name}" for name in ABOUT}
IN_SDIST = (
    INSTALLED
    | SOURCES
    | {*SHIPPED.values()}
    | {"MANIFEST.in", "README.md", "PKG-INFO", "setup.cfg", "hetsyn.egg-info/SOURCES.txt"}
)


def wheel(folder: Path, names: Iterable[str]) -> Path:
    path = folder / "hetsyn-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return path


def sdist(folder: Path, names: Iterable[str]) -> Path:
    path = folder / "hetsyn-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"hetsyn-1.0/{name}"))
    return path


def test_an_installation_gets_modules_and_their_data() -> None:
    assert installed(TRACKED, PYPROJECT) == INSTALLED


def test_whole_packages_pass(tmp_path: Path) -> None:
    assert check_wheel(wheel(tmp_path, IN_WHEEL), TRACKED, PYPROJECT, SHIPPED, has_libraries=False) == len(IN_WHEEL)
    assert check_sdist(sdist(tmp_path, IN_SDIST), TRACKED, PYPROJECT, SHIPPED) == len(IN_SDIST)


@pytest.mark.parametrize("name", sorted(IN_WHEEL))
def test_a_wheel_that_lacks_a_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=f"lacks {name}: correct"):
        check_wheel(wheel(tmp_path, IN_WHEEL - {name}), TRACKED, PYPROJECT, SHIPPED, has_libraries=False)


def test_a_wheel_for_a_processor_has_the_libraries(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"lacks hetsyn_model/native/_rollout\.so, service/.*_network\.so"):
        check_wheel(wheel(tmp_path, IN_WHEEL), TRACKED, PYPROJECT, SHIPPED)


@pytest.mark.parametrize("name", [*sorted(OTHERS), "service/page/recordings/stranger.wav", "service/left_over.py"])
def test_a_file_that_nobody_wanted_to_release_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=f"has, and should not, {name}: correct"):
        check_wheel(wheel(tmp_path, IN_WHEEL | {name}), TRACKED, PYPROJECT, SHIPPED, has_libraries=False)
    with pytest.raises(ReleaseError, match=f"has, and should not, {name}: correct"):
        check_sdist(sdist(tmp_path, IN_SDIST | {name}), TRACKED, PYPROJECT, SHIPPED)


@pytest.mark.parametrize("name", sorted(INSTALLED | SOURCES))
def test_a_source_distribution_that_lacks_a_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=f"lacks {name}: correct"):
        check_sdist(sdist(tmp_path, IN_SDIST - {name}), TRACKED, PYPROJECT, SHIPPED)
