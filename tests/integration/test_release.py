"""A release without the C++ libraries: two builds are equal, have what they ought to have, and the wheel serves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from build_support.release import source
from build_support.release.changelog import version_of
from build_support.release.contents import check_sdist, check_wheel
from build_support.release.errors import ReleaseError, run
from build_support.release.packages import build_sdist, build_wheel, require_equal, try_environment
from build_support.release.source import Source
from build_support.shipped_models import shipped_files
from tests.support.paths import MODELS, ROOT
from tests.support.tools import NO_BUILD

pytestmark = pytest.mark.process

if find_spec("build") is None:
    pytest.skip(NO_BUILD, allow_module_level=True)
if not (ROOT / ".git").exists() or shutil.which("git") is None:
    pytest.skip("no git checkout: a release is made from one", allow_module_level=True)

PYPROJECT = (ROOT / "pyproject.toml").read_text()
PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def found() -> Source:
    return source.read(ROOT)


@pytest.fixture(scope="module")
def builds(found: Source, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Source distribution and wheel, built in two folders."""
    checkout = tmp_path_factory.mktemp("tracked") / "checkout"
    source.copy(ROOT, found, checkout)
    made = []
    for name in ("here", "elsewhere"):
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(checkout, folder / "checkout", symlinks=True)
        sdist = build_sdist(PYTHON, folder / "checkout", folder, found.epoch_s)
        made.append((sdist, build_wheel(PYTHON, sdist, folder / "unpacked", folder, None, found.epoch_s)))
    return made


def test_two_builds_are_equal_byte_for_byte(builds: list[tuple[Path, Path]]) -> None:
    for first, second in zip(*builds, strict=True):
        require_equal(first, second)
    with pytest.raises(ReleaseError, match=r"two builds of hetsyn-.* differ"):
        require_equal(*builds[0])


def test_packages_have_what_is_released_and_nothing_else(found: Source, builds: list[tuple[Path, Path]]) -> None:
    sdist, wheel = builds[0]
    assert check_sdist(sdist, found.files, PYPROJECT, shipped_files()) > 100
    assert check_wheel(wheel, found.files, PYPROJECT, shipped_files(), has_libraries=False) > 100


def test_the_wheel_serves_outside_the_checkout(builds: list[tuple[Path, Path]], tmp_path: Path) -> None:
    """In an environment of its own, but for the dependencies, which are this environment's: the model comes with it."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin/python"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, builds[0][1]], "the wheel is refused")
    (packages,) = environment.glob("lib/python*/site-packages")
    installed_here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(installed_here) + "\n")
    version = version_of(PYPROJECT)
    said = try_environment(python, version, operators="off")
    default = (MODELS / "default").read_text().strip()
    assert f"models: {default} on the CPU, from the installation" in said
    assert f"hetsyn {version}: golden streams of {default} " in said
    with pytest.raises(ReleaseError, match=r"is installed, and 9\.9 was to be"):
        try_environment(python, "9.9", operators="off")
