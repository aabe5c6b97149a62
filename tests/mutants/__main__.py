"""Plant defects, one at a time, and see that level 1 of the tests catches each.

``python -m tests.mutants [NAME...]``: each ``tests/mutants/*.patch`` is planted in a work tree of its own, of the last
commit. First run the tests that its prose names, then those beside the changed file, then all of level 1, until one
fails. A mutant that no test catches ends the run with 1, and so does a patch that no longer applies: renew it where the
code has moved. The named tests run without a mutant first. If one of them fails then, the run ends with 2.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT

PATCHES = Path(__file__).parent
MINUTES = 15  # for one run of pytest
LEVEL_1 = ["tests"]
# a test that fails, or a module of tests that cannot be imported
FAILURE = re.compile(r"^(?:FAILED tests/\S+::|ERROR tests/[\w/]+\.py(?: - |$)).*$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="mutants to plant; all by default")
    names = parser.parse_args().names
    patches = [PATCHES / f"{name}.patch" for name in names] or sorted(PATCHES.glob("*.patch"))
    if missing := [patch.name for patch in patches if not patch.exists()]:
        print(f"no such mutant: {', '.join(missing)}; there are: {', '.join(p.stem for p in PATCHES.glob('*.patch'))}")
        return 2
    if not _are_green(sorted({name for patch in patches for name in _named(patch.read_text())})):
        return 2
    missed = 0
    for patch in patches:
        begun_s = time.monotonic()
        caught = _plant(patch)
        missed += caught is None
        print(f"{patch.stem:<40} {time.monotonic() - begun_s:5.0f} s  {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(patches) - missed} of {len(patches)} mutants were caught")
    return int(missed > 0)


def _are_green(tests: list[str]) -> bool:
    """Run tests without a mutant: one that fails anyway catches nothing."""
    with work_tree() as tree:
        ran = _pytest(tree, tests)
    if ran is not None and ran.returncode == 0:
        return True
    print(f"without a mutant these tests have to pass: {' '.join(tests)}")
    print(f"no end after {MINUTES} minutes" if ran is None else _last_words(ran))
    return False


def _plant(patch: Path) -> str | None:
    """Run the tests on a mutant; what caught it, or None."""
    with work_tree() as tree:
        applied = subprocess.run(["git", "apply", patch], cwd=tree, capture_output=True, text=True)
        if applied.returncode:
            print(f"{patch.name} does not apply: renew it: {applied.stderr.strip()}")
            return None
        return next((caught for tests in _stages(patch.read_text(), tree) if (caught := _failure(tree, tests))), None)


@contextmanager
def work_tree() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree], cwd=ROOT, check=True)
        try:
            for library in ("service/runtime/operators", "hetsyn_model/native"):  # they are built, not tracked
                for built in (ROOT / library).glob("*.so"):
                    shutil.copy(built, tree / library)
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def _stages(patch: str, tree: Path) -> Iterator[list[str]]:
    """The tests to run one after the other: those that are likely to catch the mutant, then all."""
    changed = re.findall(r"^\+\+\+ b/(\S+)", patch, re.MULTILINE)
    for likely in (_named(patch), [f"tests/unit/{Path(name).parent}" for name in changed]):
        if found := sorted(name for name in set(likely) if (tree / name).exists()):
            yield found
    yield LEVEL_1


def _named(patch: str) -> list[str]:
    """The tests that the prose of a patch names."""
    return re.findall(r"tests/[\w/]+\.py", patch.partition("\ndiff --git ")[0])


def _failure(tree: Path, tests: list[str]) -> str | None:
    """Run tests on a mutant; the first that fails, or None."""
    ran = _pytest(tree, tests)
    if ran is None:  # all of level 1 may take so long on a busy machine
        return None if tests == LEVEL_1 else f"no end after {MINUTES} minutes"
    if ran.returncode in (1, 2) and (failed := FAILURE.search(ran.stdout)):  # 2: xdist, which stops at a failure
        return failed.group()[:150]
    if ran.returncode not in (0, 5):  # 5: no tests of this level
        print(f"pytest ended with {ran.returncode}, without a test that failed: {_last_words(ran)}")
    return None


def _pytest(tree: Path, tests: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Run tests in a work tree until one fails; None if they do not end."""
    processes = 0 if len(tests) == 1 and tests[0].endswith(".py") else (os.cpu_count() or 1) + 1
    command = [sys.executable, "-m", "pytest", "-qx", "--numprocesses", str(processes), "--dist", "loadfile", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    try:
        return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        return None


def _last_words(ran: subprocess.CompletedProcess[str]) -> str:
    return f"{ran.stdout[-600:]}{ran.stderr[-300:]}"


if __name__ == "__main__":
    sys.exit(main())
