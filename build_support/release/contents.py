"""What the packages contain, by the tracked files: nothing less, and nothing that nobody wanted to release."""

from __future__ import annotations

import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from build_support.compiling import LIBRARIES
from build_support.release.errors import ReleaseError

_SOURCES = ("service/runtime/operators/*.[ch]pp", "service/runtime/operators/*.cu", "hetsyn_model/native/*.[ch]pp")
_PROJECT = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml")


def installed(files: Iterable[str], pyproject: str) -> set[str]:
    """The tracked files that an installation gets: modules, the page with its recordings, training configurations.

    Args:
        files: tracked ones.
        pyproject: text of pyproject.toml, which names packages and data.
    """
    tool = tomllib.loads(pyproject)["tool"]["setuptools"]
    data = [
        (PurePosixPath(*package.split(".")).as_posix() + "/" if package != "*" else "*/") + pattern
        for package, patterns in tool["package-data"].items()
        for pattern in patterns
    ]
    packages = tuple(pattern.removesuffix("*") for pattern in tool["packages"]["find"]["include"])
    modules = {f"{name}.py" for name in tool["py-modules"]}
    return {
        name
        for name in files
        if name in modules
        or (
            name.split("/")[0] in packages and (name.endswith(".py") or any(fnmatch(name, pattern) for pattern in data))
        )
    }


def check_wheel(
    wheel: Path, files: Iterable[str], pyproject: str, shipped: Mapping[str, str], *, has_libraries: bool = True
) -> int:
    """Compare a wheel with what it ought to have.

    Args:
        wheel: to check.
        files: tracked ones.
        pyproject: text of pyproject.toml.
        shipped: files of the default model, as of ``shipped_files``.
        has_libraries: whether it was built with the C++ libraries.

    Returns:
        how many files it has.

    Raises:
        ReleaseError: it has others; names some of them.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    about = "-".join(wheel.name.split("-")[:2]) + ".dist-info/"
    expected = installed(files, pyproject) | {*shipped}
    expected |= {library.output for library in LIBRARIES if has_libraries}
    expected |= {about + name for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt")}
    _compare(wheel, set(names), expected | {about + "licenses/LICENSE"})
    return len(names)


def check_sdist(sdist: Path, files: Iterable[str], pyproject: str, shipped: Mapping[str, str]) -> int:
    """Compare a source distribution with what it ought to have. Arguments, result and errors as of ``check_wheel``."""
    tracked = list(files)
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()}
    made = {name for name in names if name in ("PKG-INFO", "setup.cfg") or name.startswith("hetsyn.egg-info/")}
    expected = installed(tracked, pyproject) | {*_PROJECT, *made, *shipped.values()}
    expected |= {
        name
        for name in tracked
        if name.startswith("build_support/") or any(fnmatch(name, pattern) for pattern in _SOURCES)
    }
    _compare(sdist, names, expected)
    return len(names)


def _compare(package: Path, found: set[str], expected: set[str]) -> None:
    for which, names in (("lacks", expected - found), ("has, and should not,", found - expected)):
        if names:
            listed = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise ReleaseError(
                f"{package.name} {which} {listed}: correct [tool.setuptools] in pyproject.toml, or MANIFEST.in"
            )
