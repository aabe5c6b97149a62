"""A Valkey Cluster with its possible faults, and the choice of a store by its name."""

from __future__ import annotations

import random
import time
from pathlib import Path

from service.store.redis.cluster import slot_of
from tests.long.faults.schedule import Kind
from tests.long.faults.stage import FileOnDisk, NoStore, Store, ValkeyStore
from tests.support.servers.server_process import ServerError
from tests.support.stores.valkey import MISSING, ValkeyServer
from tests.support.stores.valkey_cluster import SLOTS, ValkeyCluster

SLOTS_WITH_SESSIONS = 8  # of those that are moved at a time
SLOTS_AT_RANDOM = 8
STEP_S = 0.01  # between the steps of a move, so that requests come in between


class ClusterOnStage(NoStore):
    """Three primaries with a replica each, on the loopback.

    Args:
        appendfsync: of every node.
        replicas: that must have a chunk before it is answered.

    Raises:
        ServerError: no such program on this machine.
    """

    def __init__(self, folder: Path, appendfsync: str, replicas: int, seed: int) -> None:
        self._cluster = ValkeyCluster(folder, "--appendfsync", appendfsync)
        self._rng = random.Random(seed)
        self._is_formed = False
        self.url = f"{self._cluster.url}?replicas={replicas}"
        self.described = f"Valkey Cluster, appendfsync {appendfsync}, replicas={replicas}"

    def start(self) -> None:
        try:
            if self._is_formed:
                self._cluster.mend()
            else:
                self._cluster.start()
        except FileNotFoundError as error:
            raise ServerError(MISSING) from error
        self._is_formed = True

    def close(self) -> None:
        self._cluster.__exit__(None, None, None)

    def kill(self) -> None:
        for node in self._cluster.nodes:
            node.kill()

    def disturb(self, kind: Kind, lasts_s: float) -> str:
        cluster, primary, remark = self._cluster, self._rng.choice(self._cluster.primaries()), ""
        match kind:
            case Kind.kill_primary:
                cluster.fail_over(primary)
            case Kind.kill_lagging:
                replica = cluster.cut_off(primary)
                time.sleep(lasts_s)
                primary.kill()
                replica.resume()
                cluster.taken_over(primary)
            case Kind.restart_primary:
                primary.kill()
                time.sleep(lasts_s)
            case Kind.pause_primary:
                primary.pause()
                time.sleep(lasts_s)
            case Kind.kill_backup:
                cluster.replica_of(primary).kill()
                time.sleep(lasts_s)
            case Kind.hand_over:
                cluster.hand_over(primary)
            case Kind.move_slots:
                remark = self._move(primary)
        cluster.mend()
        return remark

    def _move(self, source: ValkeyServer) -> str:
        """Move slots with and without sessions from one primary to another."""
        target = self._rng.choice([node for node in self._cluster.primaries() if node is not source])
        keys = self._cluster.ask(source, "KEYS", "*")
        of_sessions = sorted({slot_of(key.decode()) for key in keys})
        chosen = self._rng.sample(of_sessions, min(SLOTS_WITH_SESSIONS, len(of_sessions)))
        owned = [first + n for first, last, one, *_ in self._cluster.map() if one[1] == source.port
                 for n in range(last - first + 1)]  # fmt: skip
        chosen += self._rng.sample(owned, min(SLOTS_AT_RANDOM, len(owned)))
        for slot in dict.fromkeys(chosen):
            for _ in self._cluster.moving(slot, target):
                time.sleep(STEP_S)
        return f"{len(set(chosen))} of {SLOTS} slots, with {len(keys)} sessions on the node"


def open_stage_store(name: str, folder: Path, appendfsync: str, replicas: int, seed: int) -> Store:
    if name == "valkey":
        return ValkeyStore(folder, appendfsync)
    if name == "valkey-cluster":
        return ClusterOnStage(folder, appendfsync, replicas, seed)
    return FileOnDisk(folder) if name == "file" else NoStore()
