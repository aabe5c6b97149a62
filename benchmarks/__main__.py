"""``python -m benchmarks NAME [--quick] [--json PATH]``: run one benchmark, print its table, keep its JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import (
    agreement,
    compare,
    digit_strings,
    durability,
    engine,
    fairness,
    false_alarms,
    families,
    gpu,
    in_process,
    latency,
    libraries,
    open_inference,
    peers,
    request_path,
    scaling,
    service,
    silero,
    slow_senders,
    soak,
    store_batches,
    strangers,
    training,
    way_in,
)
from tests.support.results import write_results

BENCHMARKS = {
    "agreement": agreement,
    "compare": compare,
    "digit_strings": digit_strings,
    "durability": durability,
    "engine": engine,
    "fairness": fairness,
    "false_alarms": false_alarms,
    "families": families,
    "gpu": gpu,
    "in_process": in_process,
    "latency": latency,
    "libraries": libraries,
    "open_inference": open_inference,
    "peers": peers,
    "request_path": request_path,
    "scaling": scaling,
    "service": service,
    "silero": silero,
    "slow_senders": slow_senders,
    "soak": soak,
    "store_batches": store_batches,
    "strangers": strangers,
    "training": training,
    "way_in": way_in,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0].replace("%", "%%"))
        command.add_argument("--quick", action="store_true", help="smaller, in under a minute")
        command.add_argument("--json", type=Path, help="where the results go")
        module.add_arguments(command)
    arguments = parser.parse_args()
    results = BENCHMARKS[arguments.name].run(arguments)
    if arguments.json is not None:
        write_results(results, arguments.json)
    if results.get("passed") is False:
        sys.exit(1)


if __name__ == "__main__":
    main()
