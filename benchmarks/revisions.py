"""Takes code and models of a git revision out of the repository, into folders that go at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT

BUILD_TIMEOUT_S = 300.0
SERVED = ("shd-size", "speech-digits")  # the models that the benchmarks serve
FIXTURES = "890ab00"  # its models are served where two checkouts, or figures of two days, are compared
_LEFT_OUT = (":(exclude)models", ":(exclude)tests", ":(exclude)docs")  # most bytes, and no code of the server
_BUILD = (
    "from build_support.compiling import OPERATORS, ROOT, choose_compiler, compile_library as make;"
    "make(OPERATORS, choose_compiler(), ROOT / OPERATORS.output)"
)
_EARLIER_BUILD = "from setuptools import setup; setup()"


@contextmanager
def checkout_of(name: str) -> Iterator[Path]:
    """Give a folder with the code that a name means: a checkout as it is, or a revision with its operator built.

    Args:
        name: a folder, or a git revision.

    Raises:
        SystemExit: the name is neither.
    """
    if Path(name).is_dir():
        yield Path(name).resolve()
        return
    with _extracted(name, ".", *_LEFT_OUT) as root:
        print(f"building the operator of {name}", file=sys.stderr)
        _build_operator(root)
        if not has_operator(root):
            print(f"{name} runs without its operator, which cannot be built here", file=sys.stderr)
        yield root


@contextmanager
def models_of(name: str) -> Iterator[Path]:
    """Give a folder with models to serve.

    Args:
        name: a folder, or a git revision; then the folder has its models ``SERVED``.

    Raises:
        SystemExit: the name is neither.
    """
    if Path(name).is_dir():
        yield Path(name).resolve()
        return
    with _extracted(name, *(f"models/{model}" for model in SERVED)) as root:
        yield root / "models"


def commit_of(root: Path, name: str = "HEAD") -> str | None:
    """Find the commit that a revision means in a repository; None if it is none."""
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def has_operator(root: Path) -> bool:
    """Say whether the compiled operator of ONNX Runtime is in a checkout."""
    return any((root / "service").rglob("_network.*so"))


@contextmanager
def _extracted(revision: str, *paths: str) -> Iterator[Path]:
    """Write files of a revision into a temporary folder."""
    commit = commit_of(ROOT, revision)
    if commit is None:
        raise SystemExit(
            f"{revision} is no folder, and no revision that this repository has: "
            "check the name, or fetch the history ('git fetch --unshallow')"
        )
    command = ["git", "-C", str(ROOT), "archive", commit, "--", *paths]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        raise SystemExit(f"git archive {revision}: {archive.stderr.decode(errors='replace').strip()}")
    with tempfile.TemporaryDirectory(prefix="hetsyn-revision-") as folder:
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield Path(folder).resolve()


def _build_operator(root: Path) -> None:
    if (root / "build_support").is_dir():
        command = [sys.executable, "-c", _BUILD]
    else:
        command = [sys.executable, "-c", _EARLIER_BUILD, "build_ext", "--inplace"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    built = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    if built.returncode:
        print(built.stderr.strip()[-800:], file=sys.stderr)
