"""Plant defects, one at a time, and see that level 1 of the tests catches each: ``python -m tests.mutants``.

The defects are small mistakes in the syntax tree of the last commit (``syntax.PATTERNS``), chosen by ``--seed``. Level
1 first runs once without a defect, and notes which tests run each line. Then, for each defect, the tests that run its
line come first, and after them all of level 1. What no test catches is equivalent, or needs a test.
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
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, zip_longest
from pathlib import Path

from coverage import CoverageData

from tests.mutants.syntax import PRODUCT, Mutant, spread
from tests.support.paths import ROOT
from tests.support.seed import SEED

MINUTES = 15  # for one run of pytest
MOST_FIRST = 200  # tests that run first
FAILURE = re.compile(r"^(?:FAILED|ERROR) (tests/.*)$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", default=PRODUCT, help="of the product; all by default")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=SEED, help="chooses them; by default the day's")
    parser.add_argument("--list", action="store_true", help="name them, and do nothing")
    arguments = parser.parse_args()
    mutants = spread(arguments.paths, arguments.seed, arguments.count)
    if arguments.list:
        print("\n".join(mutant.name for mutant in mutants))
        return 0
    with work_tree() as tree:
        notes = run_lines(tree)
        missed = []
        for mutant in mutants:
            begun_s = time.monotonic()
            caught = catching(tree, mutant, notes)
            missed += [mutant] * (caught is None)
            print(f"{mutant.name:<70} {time.monotonic() - begun_s:5.0f} s  {caught or 'NOT CAUGHT'}", flush=True)
    print(f"{len(mutants) - len(missed)} of {len(mutants)} mutants were caught")
    for mutant in missed:
        print(mutant.patch())
    return int(bool(missed))


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


def run_lines(tree: Path) -> CoverageData:
    """Run level 1 without a defect. Returns which tests run which lines.

    Raises:
        SystemExit: a test fails anyway, so it would catch nothing.
    """
    run = [sys.executable, "-m", "coverage"]
    ran = _run(tree, [*run, "run", "-m", "pytest", "-q", "-p", "tests.mutants.contexts", "tests"])
    if ran is None or ran.returncode:
        sys.exit(f"without a defect the tests have to pass: {'no end' if ran is None else ran.stdout[-600:]}")
    subprocess.run([*run, "combine", "--quiet"], cwd=tree, check=True)
    notes = CoverageData(str(tree / ".coverage"))
    notes.read()
    return notes


def catching(tree: Path, mutant: Mutant, notes: CoverageData) -> str | None:
    """Run the tests with a defect; the first that fails, or None."""
    file = tree / mutant.path
    before = file.read_text()
    file.write_text(mutant.source())
    try:
        return _first_failure(tree, mutant, notes)
    finally:
        file.write_text(before)


def _first_failure(tree: Path, mutant: Mutant, notes: CoverageData) -> str | None:
    contexts = notes.contexts_by_lineno(str(tree / mutant.path))
    likely = [name for name in contexts.get(mutant.line, ()) if name.startswith("tests/")]
    for tests in ([_mixed(likely)] if likely else []) + [["tests"]]:
        ran = _run(tree, [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *tests])
        if ran is None:
            return f"no end after {MINUTES} minutes"
        if ran.returncode not in (0, 5):  # 5: no test of this level
            failed = FAILURE.search(ran.stdout)
            return failed[1][:150] if failed else f"pytest ended with {ran.returncode}: {ran.stdout[-200:]}"
    return None


def _mixed(tests: Sequence[str]) -> list[str]:
    """Choose tests of as many files as possible: those of one file tend to see the same."""
    by_file = defaultdict(list)
    for test in sorted(tests):
        by_file[test.partition("::")[0]].append(test)
    return [test for test in chain(*zip_longest(*by_file.values())) if test is not None][:MOST_FIRST]


def _run(tree: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    """Run a command in a work tree; None if it does not end."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    try:
        return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        return None


if __name__ == "__main__":
    sys.exit(main())
