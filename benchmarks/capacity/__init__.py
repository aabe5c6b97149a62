"""How many sessions do so many replicas hold, and what gives way first: event loops, proxy or store?

A simulation, from costs that are measured on this machine. First it must say what a server here does: with memory, file
and Valkey, two workers, and a proxy in front. The costs come from closed loops of 1, 4 and 64 sessions and from a light
open loop; all other loads are simulated from these, and measured. After that it goes where this machine cannot: to 100
replicas and a million sessions. With ``--measured`` nothing is measured: it simulates again from kept results.

The stores of the comparison write to a folder in memory (``--disk``), because a shared disk takes another time each
second. For the sizing, the stores' costs are measured with their files in ``--real-disk``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.capacity.comparison import compared, kept, measure
from benchmarks.capacity.report import plot, show
from benchmarks.capacity.sizing import Basis, sizing
from benchmarks.capacity.system import LoopCosts, NodeCosts

IN_MEMORY = Path("/dev/shm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=0.6, help="of each load in a round")
    parser.add_argument("--rounds", type=int, default=9, help="each has all loads; medians are reported")
    parser.add_argument(
        "--measured", type=Path, help="results of this benchmark: simulate again from what they measured"
    )
    parser.add_argument("--disk", type=Path, help="folder of the stores in the comparison; by default one in memory")
    parser.add_argument("--real-disk", type=Path, help="folder on the disk that the sizing is for; by default /tmp's")
    parser.add_argument("--period-s", type=float, default=1.0, help="of the sizing: a session sends a chunk so often")
    parser.add_argument("--workers", type=int, default=4, help="of the sizing: event loops of a replica")
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.workers < 1 or arguments.rounds < 1 or not (arguments.period_s > 0 and arguments.seconds > 0):
        sys.exit("--workers and --rounds have to be 1 or more, --period-s and --seconds more than 0")
    for folder in (arguments.disk, arguments.real_disk):
        if folder is not None and not folder.is_dir():
            sys.exit(f"{folder} is no folder: make it, or name another")
    seconds, rounds = (0.3, 1) if arguments.quick else (arguments.seconds, arguments.rounds)
    if arguments.measured is not None:
        results = compared(kept(arguments.measured))
    else:
        disk = arguments.disk or (IN_MEMORY if IN_MEMORY.is_dir() else Path(tempfile.gettempdir()))
        results = compared(measure(disk, arguments.real_disk or Path(tempfile.gettempdir()), seconds, rounds))
    basis = basis_of(results["costs"], arguments.workers)
    results["sizing"] = sizing(basis, arguments.period_s, is_quick=arguments.quick)
    show(results)
    if arguments.plot is not None:
        plot(results, arguments.plot)
    return results


def basis_of(costs: dict[str, Any], workers: int) -> Basis:
    """What a sizing begins with. Workers pass requests on to each other, as two of them did in the comparison."""
    pass_s = loop_of(costs, "workers").pass_s if workers > 1 else 0.0
    basis = Basis(replace(loop_of(costs, "memory"), pass_s=pass_s), workers)
    if "proxy_s" in costs:
        basis = replace(basis, proxy_s=costs["proxy_s"]["value"], proxy_wake_s=costs["proxy_wake_s"]["value"])
    if "valkey_disk" in costs:
        stored = replace(loop_of(costs, "valkey"), pass_s=pass_s)
        basis = replace(basis, stored=stored, node=NodeCosts(**costs["valkey_disk"]["value"]))
    return basis


def loop_of(costs: dict[str, Any], name: str) -> LoopCosts:
    """The costs of an event loop from results."""
    value = costs[f"{name}_loop"]["value"]
    curves = {key: tuple((n, s) for n, s in value[key]) for key in ("batches", "commits")}
    return LoopCosts(**(value | curves))
