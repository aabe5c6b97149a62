"""The source distribution and the wheels: built, built again, checked, and tried in an environment of their own."""

from __future__ import annotations

import hashlib
import platform
import sys
import tarfile
from pathlib import Path

from build_support.compiling import MODE, TARGET, ZIG
from build_support.release.errors import ReleaseError, environment, run

MACHINES = ("x86_64", "aarch64")
# setuptools writes its version into a wheel: with another one, the bytes are others
TOOLS = ("auditwheel==6.8.*", "build==1.6.*", "setuptools==84.2.*", "twine==7.0.*", ZIG)
_PIP = ("--quiet", "--disable-pip-version-check")
_NO_VENV = "no environment can be made: apt-get install python3-venv"
_SMOKE = Path(__file__).with_name("smoke.py")


def tools_python(folder: Path) -> Path:
    """The Python of an environment with the tools of a release; it is made, and kept for the next time.

    Raises:
        ReleaseError: they cannot be installed.
    """
    python, stamp = folder / "bin/python", folder / "installed"
    wanted = "\n".join((sys.version, *TOOLS))
    if not stamp.is_file() or stamp.read_text() != wanted:
        run(
            [sys.executable, "-m", "venv", "--clear", folder],
            _NO_VENV,
        )
        run(
            [python, "-m", "pip", "install", *_PIP, *TOOLS],
            "the tools of a release cannot be installed: connect to PyPI, or name a mirror in PIP_INDEX_URL",
        )
        stamp.write_text(wanted)
    return python


def build_sdist(python: Path, checkout: Path, output: Path, epoch_s: int) -> Path:
    """Build the source distribution of a copy of the checkout.

    Args:
        python: has the package build, and setuptools.
        checkout: the copy; the build leaves files in it.
        output: folder of the result.
        epoch_s: the time of all files.

    Raises:
        ReleaseError: the build fails.
    """
    command = [python, "-m", "build", "--no-isolation", "--sdist", "--outdir", output, checkout]
    run(command, "the source distribution cannot be built", variables=environment(SOURCE_DATE_EPOCH=str(epoch_s)))
    return _only(output, "*.tar.gz")


def build_wheel(python: Path, sdist: Path, scratch: Path, output: Path, machine: str | None, epoch_s: int) -> Path:
    """Build a wheel from the source distribution, as everybody else would.

    Args:
        python: has the package build, setuptools and zig.
        sdist: the source distribution.
        scratch: folder that does not exist yet, for its files.
        output: folder of the result.
        machine: processor of the C++ libraries, compiled by zig for any Linux with glibc 2.17; None for no libraries.
        epoch_s: the time of all files.

    Raises:
        ReleaseError: the build fails.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(scratch, filter="data")
    steering = {MODE: "off"} if machine is None else {MODE: "require", TARGET: machine}
    (unpacked,) = scratch.iterdir()
    run(
        [python, "-m", "build", "--no-isolation", "--wheel", "--outdir", output, unpacked],
        f"the wheel for {machine or 'any processor'} cannot be built",
        variables=environment(SOURCE_DATE_EPOCH=str(epoch_s), **steering),
    )
    return _only(output, f"*_{machine}.whl" if machine else "*-any.whl")


def check_metadata(python: Path, packages: list[Path]) -> None:
    """What an index and an older Linux would refuse.

    Raises:
        ReleaseError: a package has it; its tool says what.
    """
    run([python, "-m", "twine", "--no-color", "check", "--strict", *packages], "PyPI would refuse a package")
    for wheel in packages:
        if wheel.suffix == ".whl":
            shown = run([python, "-m", "auditwheel", "show", wheel], f"{wheel.name} is no wheel for Linux")
            tag = wheel.stem.rpartition("-")[2]
            if f'"{tag}"' not in " ".join(shown.split()):
                raise ReleaseError(f"{wheel.name} needs a newer Linux than its name says:\n{shown}")


def try_package(package: Path, folder: Path, version: str) -> str:
    """Install a package into an empty environment and try its server. Returns what it says.

    Args:
        package: a wheel for this machine, or a source distribution, which is compiled here.
        folder: of the environment.
        version: of the package.

    Raises:
        ReleaseError: it cannot be installed, or does not work.
    """
    python = folder / "bin/python"
    run([sys.executable, "-m", "venv", folder], _NO_VENV)
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
        python: of the environment.
        version: that is to be installed.
        operators: ``require``, or ``off`` for a wheel without the C++ libraries.

    Raises:
        ReleaseError: it does not work.
    """
    command = [python, "-I", _SMOKE, version]
    return run(command, "the installed server does not work", variables=environment(**{MODE: operators}))


def fits_here(wheel: Path) -> bool:
    """Whether this machine can run a wheel's libraries."""
    return sys.platform == "linux" and wheel.stem.endswith("_" + platform.machine())


def digest(path: Path) -> str:
    """SHA-256 in hexadecimal digits."""
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


def _only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found
