"""Which faults happen, in which order, to which replica, for how long. Pure, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A kind of fault. It lasts for ``Fault.lasts_s`` and is then undone."""

    kill_replica = "kill a replica"  # SIGKILL, started again after that time
    pause_replica = "pause a replica"  # SIGSTOP, SIGCONT
    kill_store = "kill the store"  # SIGKILL of Valkey, started again on the same data
    pause_store = "pause the store"
    kill_all = "kill all at once"  # replicas and store
    cut_connections = "cut connections"  # of all clients to a replica, also with requests under way
    lose_answers = "lose the store's answers"  # and cut the replicas' connections to it, time and again
    full_store = "full store"  # the disk of a file; the memory of Valkey
    damaged_file = "damaged file"  # while all replicas are down
    # of a cluster; each is over when the cluster is whole again
    kill_primary = "kill a primary"  # SIGKILL; its replica takes over, and it comes back as a replica
    kill_lagging = "kill a primary whose replica lags"  # cut off for that time, then takes over
    restart_primary = "restart a primary"  # SIGKILL, started again after that time, before its replica takes over
    pause_primary = "pause a primary"  # SIGSTOP, SIGCONT; a long pause makes its replica take over
    kill_backup = "kill the replica of a primary"
    hand_over = "planned failover"  # CLUSTER FAILOVER
    move_slots = "move slots"  # with sessions, to another primary


# shortest and longest; some last longer than the timeouts of servers (2 s) and clients (1 s)
LASTS_S: Mapping[Kind, tuple[float, float]] = {
    Kind.kill_replica: (0.0, 0.5),
    Kind.pause_replica: (0.1, 2.5),
    Kind.kill_store: (0.0, 0.5),
    Kind.pause_store: (0.1, 2.5),
    Kind.kill_all: (0.0, 0.2),
    Kind.cut_connections: (0.0, 0.0),
    Kind.lose_answers: (0.3, 1.0),
    Kind.full_store: (0.5, 1.5),
    Kind.damaged_file: (0.0, 0.0),
    Kind.kill_primary: (0.0, 0.0),
    Kind.kill_lagging: (0.1, 0.3),
    Kind.restart_primary: (0.0, 0.3),
    Kind.pause_primary: (0.1, 2.5),
    Kind.kill_backup: (0.0, 1.0),
    Kind.hand_over: (0.0, 0.0),
    Kind.move_slots: (0.0, 0.0),
}

OF_A_CLUSTER = (
    Kind.kill_primary, Kind.kill_lagging, Kind.restart_primary, Kind.pause_primary, Kind.kill_backup, Kind.hand_over,
    Kind.move_slots,
)  # fmt: skip

# the possible faults of each store, with their shares
MIXES: Mapping[str, Mapping[Kind, int]] = {
    "valkey": {
        Kind.kill_replica: 7, Kind.pause_replica: 5, Kind.kill_store: 5, Kind.pause_store: 4, Kind.kill_all: 2,
        Kind.cut_connections: 4, Kind.lose_answers: 4, Kind.full_store: 3,
    },
    "valkey-cluster": {
        Kind.kill_replica: 6, Kind.pause_replica: 2, Kind.kill_primary: 6, Kind.kill_lagging: 6,
        Kind.restart_primary: 3, Kind.pause_primary: 4, Kind.kill_backup: 2, Kind.hand_over: 6, Kind.move_slots: 12,
        Kind.kill_all: 1, Kind.cut_connections: 3,
    },
    "file": {
        Kind.kill_replica: 8, Kind.pause_replica: 5, Kind.kill_all: 2, Kind.cut_connections: 4, Kind.full_store: 5,
        Kind.damaged_file: 3,
    },
    "memory": {Kind.kill_replica: 8, Kind.pause_replica: 5, Kind.kill_all: 2, Kind.cut_connections: 4},
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        replica: index of the affected replica; without meaning if the store or all replicas are affected.
        wait_s: pause after the recovery from the fault before.
        lasts_s: duration.
    """

    kind: Kind
    replica: int
    wait_s: float
    lasts_s: float


def schedule(store: str, count: int, replicas: int, seed: int, quiet_s: float = 0.6) -> list[Fault]:
    """``count`` faults in random order, in the shares of ``MIXES``; every kind at least once if the count suffices.

    Args:
        quiet_s: mean pause between a recovery and the next fault.
    """
    mix = MIXES[store]
    rng = random.Random(seed)
    whole = sum(mix.values())
    kinds = [kind for kind in mix for _ in range(max(1, count * mix[kind] // whole))]
    while len(kinds) < count:
        kinds.append(rng.choices(list(mix), list(mix.values()))[0])
    rng.shuffle(kinds)
    return [
        Fault(kind, rng.randrange(replicas), rng.uniform(0.5, 1.5) * quiet_s, rng.uniform(*LASTS_S[kind]))
        for kind in kinds[:count]
    ]
