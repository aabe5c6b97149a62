"""Plant defects, one at a time, and see that level 1 of the tests catches each.

``python -m tests.mutants [NAME...]``: each ``tests/mutants/*.patch`` is planted in a work tree of its own, of the last
commit. First run the tests that its prose names, then those beside the changed file, then all of level 1, until one
fails. A mutant that no test catches ends the run with 1, and so does a patch that no longer applies: renew it where the
code has moved.
"""

from __future__ import annotations

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
MINUTES = 15  # for one mutant; an endless loop is caught, too


def main(names: list[str]) -> int:
    patches = [PATCHES / f"{name}.patch" for name in names] or sorted(PATCHES.glob("*.patch"))
    if missing := [patch.name for patch in patches if not patch.exists()]:
        print(f"no such mutant: {', '.join(missing)}; there are: {', '.join(p.stem for p in PATCHES.glob('*.patch'))}")
        return 2
    missed = 0
    for patch in patches:
        begun_s = time.monotonic()
        caught = _plant(patch)
        missed += caught is None
        print(f"{patch.stem:<40} {time.monotonic() - begun_s:5.0f} s  {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(patches) - missed} of {len(patches)} mutants were caught")
    return int(missed > 0)


def _plant(patch: Path) -> str | None:
    """Run the tests on a mutant; what caught it, or None."""
    with _work_tree() as tree:
        applied = subprocess.run(["git", "apply", patch], cwd=tree, capture_output=True, text=True)
        if applied.returncode:
            print(f"{patch.name} does not apply: renew it: {applied.stderr.strip()}")
            return None
        return next((caught for tests in _stages(patch.read_text(), tree) if (caught := _failure(tree, tests))), None)


@contextmanager
def _work_tree() -> Iterator[Path]:
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
    prose, _, _ = patch.partition("\ndiff --git ")
    changed = re.findall(r"^\+\+\+ b/(\S+)", patch, re.MULTILINE)
    named = re.findall(r"tests/[\w/]+\.py", prose)
    for likely in (named, [f"tests/unit/{Path(name).parent}" for name in changed]):
        if found := sorted(name for name in set(likely) if (tree / name).exists()):
            yield found
    yield ["tests"]


def _failure(tree: Path, tests: list[str]) -> str | None:
    processes = 0 if len(tests) == 1 and tests[0].endswith(".py") else (os.cpu_count() or 1) + 1
    command = [sys.executable, "-m", "pytest", "-qx", "--numprocesses", str(processes), "--dist", "loadfile", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    try:
        ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        return f"no end after {MINUTES} minutes"
    if ran.returncode in (0, 5):  # 5: no tests of this level
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (tests/.+)$", ran.stdout, re.MULTILINE)
    return (
        failed.group(1)[:150]
        if failed
        else f"pytest ended with {ran.returncode}: {ran.stdout[-300:]}{ran.stderr[-300:]}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
