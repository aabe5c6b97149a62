"""The source distribution and the wheels: built by uv, checked, and tried in environments of their own."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tarfile
import tomllib
from pathlib import Path

from build_support.compiling import MODE, TARGET
from build_support.release.errors import ReleaseError, environment, run

MACHINES = ("x86_64", "aarch64")
TOOLS = ("auditwheel", "check-wheel-contents", "uv")
# of a source distribution, beside the packages
_OTHERS = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "build_support", "hetsyn.egg-info", "models"}
_OTHERS |= {"pyproject.toml", "setup.cfg"}
_PIP = ("--quiet", "--disable-pip-version-check")
_SMOKE = Path(__file__).with_name("smoke.py")


def tool(name: str) -> str:
    """Find the program of a tool, in this Python's environment or on the machine.

    Raises:
        ReleaseError: it is not installed.
    """
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which(name, path=folders)
    if program is None:
        raise ReleaseError(f"a release needs {name}: pip install {' '.join(TOOLS)}")
    return program


def build(checkout: Path, output: Path, machines: tuple[str | None, ...], epoch_s: int) -> list[Path]:
    """Build the source distribution of a copy of the checkout, and wheels from it, as everybody else would.

    Args:
        checkout: the copy; the build leaves files in it.
        output: folder of the packages.
        machines: processors of the wheels; zig compiles their C++ libraries for any Linux with glibc 2.17. None for a
            wheel without libraries.
        epoch_s: the time of all files.

    Raises:
        ReleaseError: a build fails.
    """
    # setuptools writes its version into a wheel: with another one, the bytes are others
    command = [tool("uv"), "build", "--no-create-gitignore", "--python", sys.executable, "--out-dir", output]
    command += ["--build-constraints", checkout / "requirements.lock"]
    dated = {"SOURCE_DATE_EPOCH": str(epoch_s)}
    run([*command, "--sdist", checkout], "the source distribution cannot be built", variables=environment(**dated))
    (sdist,) = output.glob("hetsyn-*.tar.gz")
    packages = [sdist]
    for machine in machines:
        steering = {MODE: "off"} if machine is None else {MODE: "require", TARGET: machine}
        run(
            [*command, "--wheel", sdist],
            f"the wheel for {machine or 'any processor'} cannot be built",
            variables=environment(**dated, **steering),
        )
        packages += output.glob(f"hetsyn-*_{machine}.whl" if machine else "hetsyn-*-any.whl")
    return packages


def check(package: Path, checkout: Path) -> None:
    """Check what a package contains, and which Linux a wheel needs. pyproject.toml says what belongs into a wheel.

    Raises:
        ReleaseError: it is not so.
    """
    pyproject = checkout / "pyproject.toml"
    if package.suffix == ".gz":
        with tarfile.open(package) as archive:
            found = {name.split("/")[1] for name in archive.getnames() if "/" in name}
        expected = set(tomllib.loads(pyproject.read_text())["tool"]["check-wheel-contents"]["toplevel"]) | _OTHERS
        if found != expected:
            differing = ", ".join(sorted(found ^ expected))
            raise ReleaseError(f"{package.name} has, or lacks, {differing}: correct pyproject.toml, or MANIFEST.in")
        return
    run(
        [tool("check-wheel-contents"), "--config", pyproject, package],
        f"{package.name} has a file too many or too few: correct [tool.setuptools] in pyproject.toml",
    )
    tag = package.stem.rpartition("-")[2]
    if tag != "any":
        shown = run([tool("auditwheel"), "show", package], f"{package.name} is no wheel for Linux")
        if f'"{tag}"' not in " ".join(shown.split()):
            raise ReleaseError(f"{package.name} needs a newer Linux than its name says:\n{shown}")


def try_package(package: Path, folder: Path, version: str) -> str:
    """Install a package into an empty environment and try its server. Returns what it says.

    Args:
        package: a wheel for this machine, or a source distribution, which is compiled here.

    Raises:
        ReleaseError: it cannot be installed, or does not work.
    """
    python = folder / "bin/python"
    run([sys.executable, "-m", "venv", folder], "no environment can be made: apt-get install python3-venv")
    # without the operator the server would be ten times as slow: that is no release
    run(
        [python, "-m", "pip", "install", *_PIP, f"{package}[cpu]"],
        f"{package.name} cannot be installed",
        variables=environment(**{MODE: "require"}),
    )
    return try_environment(python, version)


def try_environment(python: Path, version: str, operators: str = "require") -> str:
    """Try the commands of an environment on the model that was installed. Returns what the server says.

    Args:
        operators: ``require``, or ``off`` for a wheel without the C++ libraries.

    Raises:
        ReleaseError: it does not work.
    """
    command = [python, "-I", _SMOKE, version]
    return run(command, "the installed server does not work", variables=environment(**{MODE: operators}))


def fits_here(wheel: Path) -> bool:
    """Return whether this machine can run a wheel's libraries."""
    return sys.platform == "linux" and wheel.stem.endswith("_" + platform.machine())


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_equal(first: Path, second: Path) -> None:
    """
    Raises:
        ReleaseError: two builds of a package differ.
    """
    if digest(first) != digest(second):
        raise ReleaseError(
            f"two builds of {first.name} differ: compare them with diffoscope '{first}' '{second}', which are kept"
        )
