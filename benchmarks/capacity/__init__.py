"""How many sessions do so many replicas hold, and what gives way first: event loops, proxy or store?

A simulation, from costs that are measured on this machine. First it must say what a server here does: with memory, file
and Valkey, two workers, and a proxy in front. The costs come from closed loops of 1, 4 and 64 sessions and from a light
open loop; all other loads are simulated from these, and measured. After that it goes where this machine cannot: to 100
replicas and a million sessions. With ``--costs`` nothing is measured: the costs of kept results are used.

The stores of the comparison write to a folder in memory (``--disk``), because a shared disk takes another time each
second. For the sizing, the stores' costs are measured with their files in ``--real-disk``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.capacity.measurement import (
    ARRANGEMENTS,
    CALIBRATED,
    CORES,
    LIGHT,
    Arrangement,
    Observed,
    bare_loop,
    bytes_of_a_record,
    closed,
    cold_s,
    engine_s,
    staged,
    store_costs,
    system_of,
)
from benchmarks.capacity.report import plot, show
from benchmarks.capacity.simulation import simulate
from benchmarks.capacity.sizing import Basis, sizing
from benchmarks.capacity.system import Load, LoopCosts, NodeCosts, System

COMMAND = "python -m benchmarks capacity"
IN_MEMORY = Path("/dev/shm")
AGREEMENT = 0.2  # largest difference between simulation and measurement, of what was measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measured load")
    parser.add_argument("--repeats", type=int, default=3, help="of each measured load; medians are reported")
    parser.add_argument("--costs", type=Path, help="results of this benchmark, whose costs are used")
    parser.add_argument("--disk", type=Path, help="folder of the stores in the comparison; by default one in memory")
    parser.add_argument("--real-disk", type=Path, help="folder on the disk that the sizing is for; by default /tmp's")
    parser.add_argument("--period-s", type=float, default=1.0, help="of the sizing: a session sends a chunk so often")
    parser.add_argument("--workers", type=int, default=4, help="of the sizing: event loops of a replica")
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    seconds, repeats = (0.5, 1) if arguments.quick else (arguments.seconds, arguments.repeats)
    if arguments.costs is not None:
        results = kept(arguments.costs)
    else:
        disk = arguments.disk or (IN_MEMORY if IN_MEMORY.is_dir() else Path(tempfile.gettempdir()))
        results = compare(disk, arguments.real_disk or Path(tempfile.gettempdir()), seconds, repeats)
    basis = basis_of(results["costs"], arguments.workers)
    results["sizing"] = sizing(basis, arguments.workers, arguments.period_s, is_quick=arguments.quick)
    show(results)
    if arguments.plot is not None:
        plot(results, arguments.plot)
    return results


def kept(path: Path) -> dict[str, Any]:
    """Costs and comparison of earlier results.

    Raises:
        SystemExit: the file has none.
    """
    try:
        results = json.loads(path.read_text())
        return {key: results[key] for key in ("costs", "comparison", "agreement")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"--costs {path}: no results of this benchmark ({error!r}): write them with {COMMAND} --json {path}")


def basis_of(costs: dict[str, Any], workers: int) -> Basis:
    """What a sizing begins with. Workers pass requests on to each other, as two of them did in the comparison."""
    batches = loop_of(costs, "workers" if workers > 1 else "memory").batches
    basis = Basis(
        replace(loop_of(costs, "memory"), batches=batches),
        proxy_s=costs["proxy_s"]["value"] if "proxy_s" in costs else 0.0,
    )
    if "valkey_disk" in costs:
        stored = replace(loop_of(costs, "valkey"), batches=batches)
        basis = replace(basis, stored=stored, node=NodeCosts(**costs["valkey_disk"]["value"]))
    return basis


def loop_of(costs: dict[str, Any], name: str) -> LoopCosts:
    """The costs of an event loop from results."""
    value = costs[f"{name}_loop"]["value"]
    return LoopCosts(**(value | {"batches": tuple((n, s) for n, s in value["batches"])}))


def compare(disk: Path, real_disk: Path, seconds: float, repeats: int) -> dict[str, Any]:
    """Measure costs, and put simulation and measurement beside each other."""
    console = Console(stderr=True)
    compute_s = engine_s(seconds)
    costs = {"engine_s": _cost(compute_s, "CPU of the engine for a chunk of 100 ms in a batch of 64")}
    rows: list[dict[str, Any]] = []
    known: System | None = None
    size = 0
    for arrangement in ARRANGEMENTS:
        if arrangement.missing is not None:
            console.print(f"without {arrangement.name}: {arrangement.missing}", highlight=False)
            continue
        console.print(arrangement.name, highlight=False)
        with staged(arrangement, disk) as (stage, _):
            size = size or bytes_of_a_record(stage)
            node = store_costs(arrangement.store, disk, size, seconds / 2) if arrangement.store != "memory" else None
            seen = [stage.typical(closed(sessions), seconds / 2, repeats) for sessions in CALIBRATED]
            if known is None:
                known = System(bare_loop(seen, compute_s), client_s=seen[-1].client_s, cores=CORES)
                cold = cold_s(known, LIGHT, stage.typical(LIGHT, seconds, repeats))
                known = replace(known, loop=replace(known.loop, cold_s=cold))
            system = system_of(arrangement, seen, known, node)
            costs |= _costs(arrangement, system)
            for load in arrangement.loads:
                rows.append(_row(arrangement, system, load, stage.typical(load, seconds, repeats)))
                console.print(_line(rows[-1]), highlight=False)
        if arrangement.store == "valkey":
            on_disk = store_costs(arrangement.store, real_disk, size, seconds)
            costs["valkey_disk"] = _cost(asdict(on_disk), "Valkey alone, appendfsync always, on a disk")
    within = [row for row in rows if abs(row["throughput"] - 1) <= AGREEMENT and abs(row["median"] - 1) <= AGREEMENT]
    agreement = {"within": len(within), "of": len(rows), "limit": AGREEMENT}
    return {"costs": costs, "comparison": rows, "agreement": agreement}


def _cost(value: object, what: str) -> dict[str, Any]:
    return {"value": value, "what": what, "command": COMMAND}


def _costs(arrangement: Arrangement, system: System) -> dict[str, Any]:
    name = arrangement.store
    if arrangement.has_proxy:
        return {"proxy_s": _cost(system.proxy_s, "CPU of HAProxy, one thread, for a chunk")}
    if arrangement.workers > 1:
        return {"workers_loop": _cost(asdict(system.loop), f"an event loop of {arrangement.workers} workers")}
    found = {f"{name}_loop": _cost(asdict(system.loop), f"an event loop with the store {name}, s")}
    if system.node is not None:
        found[f"{name}_node"] = _cost(asdict(system.node), f"the store {name} alone, files in memory, s")
    return found


def _row(arrangement: Arrangement, system: System, load: Load, seen: Observed) -> dict[str, Any]:
    simulated = simulate(system, load, seconds=2.0, warmup_s=max(0.5, 1.1 * load.period_s))
    return {
        "arrangement": arrangement.name,
        "sessions": load.sessions,
        "period_s": load.period_s,
        "measured": {name: getattr(seen, name) for name in ("answered_per_s", "p50_ms", "p99_ms", "loop_s")},
        "simulated": asdict(simulated),
        "throughput": simulated.answered_per_s / seen.answered_per_s,
        "median": simulated.p50_ms / seen.p50_ms,
        "priority": seen.priority,
        "load_average": os.getloadavg()[0],
    }


def _line(row: dict[str, Any]) -> str:
    seen, simulated = row["measured"], row["simulated"]
    return (
        f"  {row['sessions']} sessions, period {row['period_s']:g} s: {seen['answered_per_s']:,.0f} chunks/s, "
        f"simulated {simulated['answered_per_s']:,.0f}; p50 {seen['p50_ms']:.2f} ms, simulated "
        f"{simulated['p50_ms']:.2f}"
    )
