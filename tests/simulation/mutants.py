"""Plant defects, one at a time, and see that a seed finds each: ``python -m tests.simulation.mutants [NAME...]``.

The patches are those of ``simulated``, ``unseen`` and ``history`` in ``tests/mutants``. A patch that no longer applies
has to be renewed. Worlds run from seed 0 until one fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.mutants.__main__ import work_tree
from tests.support.paths import ROOT

FOLDERS = ("simulated", "unseen", "history")
MINUTES = 3


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("patches", metavar="NAME", nargs="*", help="all by default")
    parser.add_argument("--worlds", type=int, default=80, help="limit for each")
    arguments = parser.parse_args()
    patches = [patch for folder in FOLDERS for patch in sorted((ROOT / "tests/mutants" / folder).glob("*.patch"))]
    chosen = [patch for patch in patches if not arguments.patches or patch.stem in arguments.patches]
    found = [found_by(patch, arguments.worlds) for patch in chosen]
    for patch, by in zip(chosen, found, strict=True):
        print(f"| {patch.parent.name} | {patch.stem} | {by} |")
    print(f"{sum(by.startswith('seed') for by in found)} of {len(found)} were found")
    return int(not all(by.startswith("seed") for by in found))


def found_by(patch: Path, worlds: int) -> str:
    """Run worlds with a defect. Returns which seed found it, and how."""
    with work_tree() as tree:
        applied = subprocess.run(["git", "apply", patch], cwd=tree, capture_output=True, text=True)
        if applied.returncode:
            return "the patch does not apply"
        command = [sys.executable, "-m", "tests.simulation", "--seed", "0", "--worlds", str(worlds), "--stop"]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        try:
            ran = subprocess.run(
                command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60 * MINUTES
            )
        except subprocess.TimeoutExpired:
            print(f"{patch.stem}: NOT FOUND within {MINUTES} minutes", file=sys.stderr, flush=True)
            return f"NOT FOUND within {MINUTES} minutes"
        failed = re.search(r"^world (\d+): (.*)$", ran.stdout, re.MULTILINE)
        result = f"seed {failed[1]}: {failed[2][:120]}" if failed else "NOT FOUND" if not ran.returncode else ran.stderr
    print(f"{patch.stem}: {result}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
