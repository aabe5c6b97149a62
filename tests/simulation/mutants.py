"""Plant defects, one at a time, and see that a seed finds each: ``python -m tests.simulation.mutants [NAME...]``.

The patches are those of ``simulated``, ``unseen``, ``fresh`` and ``history`` in ``tests/mutants``. One that no longer
applies has to be renewed. ``--syntax COUNT`` makes defects of the syntax tree in their place, chosen by ``--seed``.
Worlds run from seed 0 until one fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys

from tests.mutants.__main__ import work_tree
from tests.mutants.syntax import SIMULATED, chosen
from tests.support.paths import ROOT
from tests.support.seed import SEED

FOLDERS = ("simulated", "unseen", "fresh", "history")
MINUTES = 3


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("patches", metavar="NAME", nargs="*", help="all by default")
    parser.add_argument("--worlds", type=int, default=80, help="limit for each")
    parser.add_argument("--syntax", metavar="COUNT", type=int, help="make as many defects of the syntax tree")
    parser.add_argument("--seed", type=int, default=SEED, help="chooses them; by default the day's")
    arguments = parser.parse_args()
    if arguments.syntax:
        defects = {mutant.name: mutant.patch() for mutant in chosen(SIMULATED, arguments.seed, arguments.syntax)}
    else:
        files = [file for folder in FOLDERS for file in sorted((ROOT / "tests/mutants" / folder).glob("*.patch"))]
        defects = {f"{file.parent.name}/{file.stem}": file.read_text() for file in files}
    names = [name for name in defects if not arguments.patches or name.rpartition("/")[2] in arguments.patches]
    found = [found_by(name, defects[name], arguments.worlds) for name in names]
    for name, by in zip(names, found, strict=True):
        print(f"| {name} | {by} |")
    print(f"{sum(by.startswith('seed') for by in found)} of {len(found)} were found")
    return int(not all(by.startswith("seed") for by in found))


def found_by(name: str, patch: str, worlds: int) -> str:
    """Run worlds with a defect. Returns which seed found it, and how."""
    with work_tree() as tree:
        applied = subprocess.run(["git", "apply"], cwd=tree, input=patch, capture_output=True, text=True)
        if applied.returncode:
            return "the patch does not apply"
        command = [sys.executable, "-m", "tests.simulation", "--seed", "0", "--worlds", str(worlds), "--stop"]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        try:
            ran = subprocess.run(
                command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60 * MINUTES
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: NOT FOUND within {MINUTES} minutes", file=sys.stderr, flush=True)
            return f"NOT FOUND within {MINUTES} minutes"
        failed = re.search(r"^world (\d+): (.*)$", ran.stdout, re.MULTILINE)
        result = f"seed {failed[1]}: {failed[2][:120]}" if failed else "NOT FOUND" if not ran.returncode else ran.stderr
    print(f"{name}: {result}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
