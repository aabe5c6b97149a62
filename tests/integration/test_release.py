"""A release without the C++ libraries: two builds are equal, have what they ought to have, and the wheel serves."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from build_support.release import tracked_files
from build_support.release.changelog import version_of
from build_support.release.errors import ReleaseError, run
from build_support.release.packages import TOOLS, build, check, require_equal, tool, try_environment
from build_support.shipped_models import shipped_files
from tests.support.paths import MODELS, ROOT
from tests.support.tools import NO_RELEASE_TOOLS

pytestmark = pytest.mark.process

if find_spec("check_wheel_contents") is None or find_spec("uv") is None:
    pytest.skip(NO_RELEASE_TOOLS, allow_module_level=True)
if not (ROOT / ".git").exists() or shutil.which("git") is None:
    pytest.skip("no git checkout: a release is made from one", allow_module_level=True)

PYPROJECT = (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Source distribution and wheel, built in two folders, with the setuptools of this environment."""
    epoch_s, made = tracked_files.read(ROOT).epoch_s, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_NO_BUILD_ISOLATION", "1")
        patch.setenv("UV_OFFLINE", "1")
        for name in ("here", "elsewhere"):
            folder = tmp_path_factory.mktemp(name)
            tracked_files.copy(ROOT, folder / "checkout")
            made.append(build(folder / "checkout", folder, (None,), epoch_s))
    return made


def test_two_builds_are_equal_byte_for_byte(builds: list[list[Path]]) -> None:
    for first, second in zip(*builds, strict=True):
        require_equal(first, second)
    with pytest.raises(ReleaseError, match=r"two builds of hetsyn-.* differ"):
        require_equal(*builds[0])


def test_packages_have_what_is_released_and_nothing_else(builds: list[list[Path]]) -> None:
    sdist, wheel = builds[0]
    for package in (sdist, wheel):
        check(package, sdist.parent / "checkout")
    shipped = shipped_files()
    with tarfile.open(sdist) as archive:
        assert {name.partition("/")[2] for name in archive.getnames()} >= {*shipped.values()}
    with zipfile.ZipFile(wheel) as packed:
        assert {name for name in packed.namelist() if "/shipped_models/" in name} == {*shipped}
        for name, original in shipped.items():
            assert packed.read(name) == (ROOT / original).read_bytes()


def changed(wheel: Path, folder: Path, *, without: str = "", added: str = "") -> Path:
    """A copy of a wheel that lacks a file, or has one more."""
    copy = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/RECORD"):
                lines = [line for line in content.decode().splitlines() if line.partition(",")[0] != without]
                content = "\n".join([*lines, *([f"{added},,"] if added else [])]).encode()
            if name != without:
                new.writestr(name, content)
        if added:
            new.writestr(added, "")
    return copy


@pytest.mark.parametrize("name", ["hetsyn.py", "export/inspection/energy.py", "service/page/recordings/seven.wav"])
def test_a_wheel_that_lacks_a_file_is_refused(name: str, builds: list[list[Path]], tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=f"too many or too few(?s:.*){name}"):
        check(changed(builds[0][1], tmp_path, without=name), builds[0][1].parent / "checkout")


@pytest.mark.parametrize(
    "name", ["tests/unit/test_a.py", "research/claims.py", "benchmarks/engine.py", "models/default"]
)
def test_a_wheel_with_what_is_not_released_is_refused(name: str, builds: list[list[Path]], tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=f"too many or too few(?s:.*){name.partition('/')[0]}"):
        check(changed(builds[0][1], tmp_path, added=name), builds[0][1].parent / "checkout")


def test_a_source_distribution_with_a_folder_too_many_is_refused(builds: list[list[Path]], tmp_path: Path) -> None:
    sdist = tmp_path / builds[0][0].name
    with tarfile.open(builds[0][0]) as old, tarfile.open(sdist, "w:gz") as new:
        for member in old:
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
        new.addfile(tarfile.TarInfo("hetsyn/tests/test_a.py"))
    with pytest.raises(ReleaseError, match=r"has, or lacks, tests: correct pyproject\.toml"):
        check(sdist, builds[0][1].parent / "checkout")


def test_without_a_tool_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in TOOLS:
        with pytest.raises(ReleaseError, match=f"a release needs {name}: pip install auditwheel"):
            tool(name)


@pytest.fixture(scope="module")
def python(builds: list[list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and this environment's packages without their ``.pth`` files."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin/python"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, builds[0][1]], "the wheel is refused")
    (packages,) = environment.glob("lib/python*/site-packages")
    installed_here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(installed_here) + "\n")
    return python


def test_the_wheel_serves_outside_the_checkout(python: Path) -> None:
    """In an environment of its own, but for the dependencies, which are this environment's: the model comes with it."""
    version = version_of(PYPROJECT)
    said = try_environment(python, version, operators="off")
    default = (MODELS / "default").read_text().strip()
    assert f"models: {default} on the CPU, from the installation" in said
    assert f"hetsyn {version}: golden streams of {default} " in said
    with pytest.raises(ReleaseError, match=r"is installed, and 9\.9 was to be"):
        try_environment(python, "9.9", operators="off")


@pytest.mark.parametrize("theirs", ["service/__init__.py", "service.py", "export/__init__.py", "export.py"])
def test_what_hides_a_package_of_ours_is_named(theirs: str, python: Path, tmp_path: Path) -> None:
    (tmp_path / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / theirs).write_text("raise SystemExit('the code of the user ran')\n")
    hiding = tmp_path / theirs.removesuffix("/__init__.py")
    advice = f"{hiding} hides hetsyn's package {hiding.stem!r}: rename it, or start in another folder"

    def ended(*command: str | Path, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stderr

    command, words = python.with_name("hetsyn"), ["serve" if hiding.stem == "service" else "inspect", "--help"]
    assert ended(python, "-m", "hetsyn", *words) == (1, f"hetsyn: {advice}\n")
    assert ended(command, *words, PYTHONPATH=".") == (1, f"hetsyn: {advice}\n")
    for name in ("export_step", "export_network"):  # export needs service
        raised = f"import hetsyn\ntry: hetsyn.{name}\nexcept ImportError as error: raise SystemExit(str(error))"
        assert ended(python, "-c", raised) == (1, f"{advice}\n")
    assert ended(command, *words) == (0, ""), "nothing is hidden that is not on Python's path"
