"""From measured costs to a service of any size: how many sessions it holds, and which part gives way first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any

from benchmarks.capacity.simulation import simulate
from benchmarks.capacity.system import Load, LoopCosts, NodeCosts, System, capacities

REPLICAS = (1, 10, 100)
SESSIONS = (1_000, 10_000, 25_000, 100_000, 1_000_000)
PROXIES = 8  # threads of one HAProxy
LOOPS_A_PROXY = 40  # then another HAProxy is added
NODES = (1, 3, 10, 30)  # primaries of the store
CHUNKS = 100_000  # of one simulation; as many again warm it up
SECONDS = (0.1, 1.0)  # the least and the most simulated time
SIMULATED = (0.2, 1.0)  # how much of the capacity a load takes that is simulated: for others, the laws say enough


@dataclass(frozen=True)
class Basis:
    """The costs that a sizing begins with.

    Attributes:
        loop: of an event loop without a store.
        workers: event loops of a replica.
        proxy_s: of a proxy's thread for a chunk; 0 if none was measured.
        proxy_wake_s: what it takes more after a rest.
        stored: of an event loop with a store; None if none was measured.
        node: of the store.
    """

    loop: LoopCosts
    workers: int
    proxy_s: float = 0.0
    proxy_wake_s: float = 0.0
    stored: LoopCosts | None = None
    node: NodeCosts | None = None

    def systems(self, replicas: int) -> Iterator[tuple[str, System]]:
        """Services of so many replicas, by what keeps their sessions. Each part has processors of its own."""
        loops = replicas * self.workers
        system = System(
            self.loop,
            loops,
            self.workers,
            proxy_s=self.proxy_s,
            proxy_wake_s=self.proxy_wake_s,
            proxies=PROXIES * ceil(loops / LOOPS_A_PROXY) if self.proxy_s else 0,
            max_waiting=System.max_waiting // self.workers,
        )
        yield "memory", system
        if self.stored is not None and self.node is not None:
            for nodes in (nodes for nodes in NODES if nodes <= loops):
                name = "one Valkey" if nodes == 1 else f"{nodes} primaries"
                yield name, replace(system, loop=self.stored, node=self.node, nodes=nodes)


def sizing(basis: Basis, period_s: float, *, is_quick: bool) -> list[dict[str, Any]]:
    """Every number of replicas and sessions, with every store.

    Args:
        basis: the costs.
        period_s: a session sends a chunk so often.
        is_quick: simulate a tenth of the time.

    Returns:
        For each cell: what it needs and has, which part is the smallest, and what the simulation says of it, if its
        load is within these bounds.
    """
    rows = []
    for replicas in REPLICAS:
        for store, system in basis.systems(replicas):
            most = capacities(system)
            part = min(most, key=most.__getitem__)
            for sessions in SESSIONS:
                load = Load(sessions, period_s)
                needed = load.offered_per_s / most[part]
                row: dict[str, Any] = {
                    "store": store,
                    "replicas": replicas,
                    "workers": basis.workers,
                    "sessions": sessions,
                    "period_s": period_s,
                    "offered_per_s": load.offered_per_s,
                    "capacities_per_s": most,
                    "smallest": part,
                    "needed": needed,
                    "record_bytes_per_s": load.offered_per_s * system.node.record_bytes if system.node else 0.0,
                    "simulated": None,
                }
                if SIMULATED[0] <= needed <= SIMULATED[1]:
                    seconds = min(SECONDS[1], max(SECONDS[0], CHUNKS / load.offered_per_s)) / (10 if is_quick else 1)
                    row["simulated"] = asdict(simulate(system, load, seconds, warmup_s=seconds))
                rows.append(row)
    return rows
