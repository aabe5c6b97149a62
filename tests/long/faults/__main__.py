"""Run the faults, print their table, keep their JSON."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from hetsyn_client.loadtest.run import run_loop
from tests.long import faults
from tests.long.faults.disturbed import TRANSPORTS, disturbed
from tests.long.faults.report import plot, print_results
from tests.long.faults.schedule import MIXES
from tests.support.results import write_results
from tests.support.servers.termination import nothing_stays

QUICK = {"faults": 9, "chunks": 2_000, "clients": 8}
SMOKE = {"faults": 2, "chunks": 100, "clients": 4}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.long.faults", description=faults.__doc__)
    parser.add_argument("--store", choices=list(MIXES), help="the store of the replicas: valkey, or memory for carried")
    parser.add_argument(
        "--transport", choices=TRANSPORTS, default="infer", help="how chunks go to the replicas; carried has no store"
    )
    parser.add_argument("--faults", type=int, default=54, help="number of faults")
    parser.add_argument("--chunks", type=int, default=10_000, help="the least number of acknowledged chunks")
    parser.add_argument("--clients", type=int, default=16, help="each with one session at a time")
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always", help="of Valkey")
    parser.add_argument(
        "--replicas", type=int, help="of a cluster's node that must have a chunk before it is answered; default: 1"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the faults, and of the clients")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="at most 9 faults, 2,000 chunks and 8 clients")
    size.add_argument("--smoke", action="store_true", help="at most 2 faults, 100 chunks and 4 clients")
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")
    return parser


def main() -> None:
    parser = make_parser()
    arguments = parser.parse_args()
    carries = arguments.transport == "carried"
    if carries and arguments.store not in (None, "memory"):
        parser.error("carried sessions have no store: leave --store out")
    store = arguments.store or ("memory" if carries else "valkey")
    if arguments.replicas is not None and store != "valkey-cluster":
        parser.error(f"store {store} has no replicas: leave --replicas out, or take --store valkey-cluster")
    sizes = {name: getattr(arguments, name) for name in QUICK}
    if arguments.quick or arguments.smoke:
        most = QUICK if arguments.quick else SMOKE
        sizes = {name: min(size, most[name]) for name, size in sizes.items()}
    with tempfile.TemporaryDirectory(prefix="hetsyn-faults-") as folder:
        results = run_loop(
            disturbed(
                store,
                Path(folder),
                **sizes,
                seed=arguments.seed,
                appendfsync=arguments.appendfsync,
                transport=arguments.transport,
                replicas=1 if arguments.replicas is None else arguments.replicas,
                quick=arguments.quick or arguments.smoke,
            )
        )
    print_results(results)
    if arguments.plot is not None:
        plot(results, arguments.plot)
    if arguments.json is not None:
        write_results(results, arguments.json)
    sys.exit(not results["passed"])


if __name__ == "__main__":
    with nothing_stays():
        main()
