"""Run the attacks, print their table, keep their JSON. With ``--against`` attack another checkout's server, too."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.long import hostile
from tests.long.hostile.case import Case, Measured, measure
from tests.long.hostile.cases import CASES
from tests.long.hostile.report import print_results, summary, write_markdown
from tests.long.hostile.stage import Checkout
from tests.support.paths import ROOT
from tests.support.results import write_results
from tests.support.servers.termination import nothing_stays

AT_A_TIME = 3  # cases of the quick form that need not run alone
THIS, OTHER = "after", "before"  # the sides, by their column in the table


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.long.hostile", description=hostile.__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller attacks, several at a time")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--against", type=Path, metavar="DIR", help="attack the server of this checkout too")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="cases whose names contain one of these")
    parser.add_argument("--before", type=Path, help="results of an earlier run, whose column 'before' is kept")
    parser.add_argument("--markdown", type=Path, help="where the table goes, Markdown")
    return parser


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if sys.platform != "linux":
        raise SystemExit("the attacks read what a server takes from /proc: run them on Linux")
    cases = chosen(CASES, arguments.only)
    checkouts = {THIS: Checkout(ROOT, Path(sys.executable))}
    if arguments.against is not None:
        checkouts[OTHER] = Checkout.at(arguments.against)
    kept = json.loads(arguments.before.read_text()) if arguments.before is not None else None
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    measured: dict[str, dict[str, Measured]] = {side: {} for side in checkouts}
    with tempfile.TemporaryDirectory(prefix="hetsyn-hostile-") as folder:
        scratch = Path(folder)

        def attack(side: str, case: Case) -> None:
            place = scratch / f"{case.name}-{side}"
            place.mkdir()
            one = measured[side][case.name] = measure(case, checkouts[side], place, is_quick=arguments.quick)
            console.print(
                f"{case.name}, {side}: {one.verdict} in {one.seconds:.1f} s {dict(one.figures)}", markup=False
            )

        timed = [case for case in cases if case.is_timed or not arguments.quick]
        with ThreadPoolExecutor(AT_A_TIME) as attacks:
            running = [attacks.submit(attack, s, case) for case in cases if case not in timed for s in checkouts]
            try:
                for attacked in running:
                    attacked.result()
            except BaseException:
                attacks.shutdown(wait=False, cancel_futures=True)  # ended: no further attack begins
                raise
        for case in timed:
            for side in checkouts:
                attack(side, case)
    results = summary(cases, {side: checkout.commit for side, checkout in checkouts.items()}, measured, kept)
    print_results(results)
    if arguments.markdown is not None:
        write_markdown(results, arguments.markdown)
    return results


def chosen(cases: Sequence[Case], names: Sequence[str]) -> list[Case]:
    """The cases whose names contain one of ``names``; all without names.

    Raises:
        SystemExit: a name is that of no case.
    """
    for name in names:
        if not any(name in case.name for case in cases):
            raise SystemExit(f"no case is called {name}: {', '.join(case.name for case in cases)}")
    return [case for case in cases if not names or any(name in case.name for name in names)]


def main() -> None:
    arguments = make_parser().parse_args()
    results = run(arguments)
    if arguments.json is not None:
        write_results(results, arguments.json)
    sys.exit(not results["passed"])


if __name__ == "__main__":
    with nothing_stays():
        main()
