"""Simulation and measurement beside each other: what servers here did, and what the simulation says of it."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.capacity.arrangements import ARRANGEMENTS, Arrangement, closed, staged
from benchmarks.capacity.calibration import CALIBRATED, CALIBRATING, LIGHT, as_sent, known_system, system_of
from benchmarks.capacity.measurement import (
    Observed,
    bytes_of_a_record,
    engine_s,
    observe,
    store_costs,
    typical,
    typical_costs,
)
from benchmarks.capacity.processor import undisturbed
from benchmarks.capacity.simulation import simulate
from benchmarks.capacity.stores import FULL
from benchmarks.capacity.system import Load, NodeCosts, System

COMMAND = "python -m benchmarks capacity"
AGREEMENT = 0.2  # largest difference between simulation and measurement, of what was measured


@dataclass(frozen=True)
class Measured:
    """What servers, stores and the engine of a machine did.

    Attributes:
        loads: to predict, by arrangement, each with its share of the most that was done.
        seen: what the server did, by arrangement and load; also under the loads that set costs.
        nodes: costs of the stores alone, their files in memory, by store.
        valkey_disk: costs of Valkey on a disk; None where there is no Valkey.
        engine_s: time of the engine alone for a chunk in a full batch.
        priority: how the processes ran.
        cores: that they had together.
    """

    loads: dict[Arrangement, list[tuple[Load, float]]]
    seen: dict[tuple[Arrangement, Load], Observed]
    nodes: dict[str, NodeCosts]
    valkey_disk: NodeCosts | None
    engine_s: float
    priority: str
    cores: int


def kept(path: Path) -> Measured:
    """What earlier results measured.

    Raises:
        SystemExit: the file has none.
    """
    try:
        results = json.loads(path.read_text())
        by_name = {arrangement.name: arrangement for arrangement in ARRANGEMENTS}
        loads: dict[Arrangement, list[tuple[Load, float]]] = {}
        seen = {}
        for row in (*results["calibration"], *results["comparison"]):
            one, load = by_name[row["arrangement"]], Load(row["sessions"], row["period_s"])
            seen[one, load] = Observed(**row["measured"])
            if load not in CALIBRATING:
                loads.setdefault(one, []).append((load, row["share"]))
        costs = {name: cost["value"] for name, cost in results["costs"].items()}
        nodes = {store: NodeCosts(**costs[f"{store}_node"]) for store in ("file", "valkey") if f"{store}_node" in costs}
        disk = NodeCosts(**costs["valkey_disk"]) if "valkey_disk" in costs else None
        lacking = [load for one in loads for load in CALIBRATING if (one, load) not in seen]
        if lacking or not loads:
            raise ValueError(f"without {lacking or 'any load'}")
        return Measured(loads, seen, nodes, disk, costs["engine_s"], results["priority"], results["cores"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(
            f"--measured {path}: no results of this benchmark as it is now ({error!r}): "
            f"measure with {COMMAND} --json {path}"
        )


def measure(disk: Path, real_disk: Path, seconds: float, rounds: int) -> Measured:
    """Measure servers and stores.

    Every round has all arrangements, with the loads that set costs and those that are predicted in turn: a machine that
    becomes slower meanwhile does so for both.
    """
    console = Console(stderr=True)
    there = [arrangement for arrangement in ARRANGEMENTS if arrangement.missing is None]
    for absent in (arrangement for arrangement in ARRANGEMENTS if arrangement.missing is not None):
        console.print(f"without {absent.name}: {absent.missing}", highlight=False)
    with ExitStack() as running, undisturbed(()) as priority:
        stages = {arrangement: running.enter_context(staged(arrangement, disk)) for arrangement in there}
        loads = {}
        for one, stage in stages.items():
            most_per_s = [observe(stage, closed(FULL), seconds, seed=turn).answered_per_s for turn in range(3)]
            every = one.loads(statistics.median(most_per_s))
            loads[one] = [(load, share) for load, share in every if load not in CALIBRATING]
        size = bytes_of_a_record(stages[there[0]])
        seen: dict[tuple[Arrangement, Load], list[Observed]] = {}
        nodes: dict[str, list[NodeCosts]] = {}
        on_disk, engine = [], []
        for turn in range(rounds):
            engine.append(engine_s(seconds))
            for one, stage in stages.items():
                console.print(f"round {turn + 1} of {rounds}: {one.name}", highlight=False)
                mixed = [*CALIBRATING, *(load for load, _ in loads[one])]
                random.Random(turn).shuffle(mixed)
                for load in mixed:
                    seen.setdefault((one, load), []).append(observe(stage, load, seconds, seed=turn))
                if one.store != "memory":
                    nodes.setdefault(one.store, []).append(store_costs(one.store, disk, size, seconds / 2))
                if one.store == "valkey":
                    on_disk.append(store_costs(one.store, real_disk, size, seconds / 2))
    return Measured(
        loads,
        {key: typical(runs) for key, runs in seen.items()},
        {store: typical_costs(runs) for store, runs in nodes.items()},
        typical_costs(on_disk) if on_disk else None,
        statistics.median(engine),
        priority,
        len(os.sched_getaffinity(0)),
    )


def compared(measured: Measured) -> dict[str, Any]:
    """Costs, and simulation and measurement beside each other."""
    seen = measured.seen

    def calibrated(arrangement: Arrangement) -> list[Observed]:
        return [seen[arrangement, closed(sessions)] for sessions in CALIBRATED]

    bare = next(iter(measured.loads))
    known = known_system(calibrated(bare), seen[bare, LIGHT], measured.engine_s, measured.cores)
    costs = {"engine_s": _cost(measured.engine_s, "CPU of the engine for a chunk of 100 ms in a batch of 64")}
    rows, calibration = [], []
    for one, loads in measured.loads.items():
        system = system_of(one, calibrated(one), seen[one, LIGHT], known, measured.nodes.get(one.store))
        costs |= _costs(one, system)
        for load, share in loads:
            rows.append(_row(one, system, as_sent(load, seen[bare, LIGHT]), share, seen[one, load]))
        for load in CALIBRATING:
            calibration.append(_row(one, system, as_sent(load, seen[bare, LIGHT]), 1.0, seen[one, load]))
        if one.store == "valkey" and system.node is not None and measured.valkey_disk is not None:
            on_disk = replace(measured.valkey_disk, cold_s=system.node.cold_s)
            costs["valkey_disk"] = _cost(asdict(on_disk), "Valkey alone, appendfsync always, on a disk")
    agreement = {"within": sum(map(is_within, rows)), "of": len(rows), "limit": AGREEMENT}
    return {
        "costs": costs,
        "calibration": calibration,
        "comparison": rows,
        "agreement": agreement,
        "priority": measured.priority,
        "cores": measured.cores,
    }


def is_within(row: dict[str, Any]) -> bool:
    """Whether throughput and median latency of a row agree."""
    return all(abs(row[ratio] - 1) <= AGREEMENT for ratio in ("throughput", "median"))


def _cost(value: object, what: str) -> dict[str, Any]:
    return {"value": value, "what": what, "command": COMMAND}


def _costs(arrangement: Arrangement, system: System) -> dict[str, Any]:
    name = arrangement.store
    if arrangement.has_proxy:
        return {
            "proxy_s": _cost(system.proxy_s, "CPU of HAProxy, one thread, for a chunk"),
            "proxy_wake_s": _cost(system.proxy_wake_s, "what it takes more after a rest"),
        }
    if arrangement.workers > 1:
        return {"workers_loop": _cost(asdict(system.loop), f"an event loop of {arrangement.workers} workers")}
    found = {f"{name}_loop": _cost(asdict(system.loop), f"an event loop with the store {name}, s")}
    if system.node is not None:
        found[f"{name}_node"] = _cost(asdict(system.node), f"the store {name} alone, files in memory, s")
    else:
        found["wire_s"] = _cost(system.wire_s, "a chunk's time in which nobody works")
        found["spread"] = _cost(system.spread, "of the time that the same work takes: deviation of its logarithm")
        found["client_s"] = _cost(system.client_s, "CPU of the load generator for a chunk")
        found["client_wake_s"] = _cost(system.client_wake_s, "CPU of the load generator for a chunk after a rest, more")
    return found


def _row(arrangement: Arrangement, system: System, load: Load, share: float, seen: Observed) -> dict[str, Any]:
    simulated = simulate(system, load, seconds=2.0, warmup_s=max(0.5, 1.1 * load.period_s))
    return {
        "arrangement": arrangement.name,
        "sessions": load.sessions,
        "period_s": load.period_s,
        "share": share,
        "measured": asdict(seen),
        "simulated": asdict(simulated),
        "throughput": simulated.answered_per_s / seen.answered_per_s,
        "median": simulated.p50_ms / seen.p50_ms,
    }
