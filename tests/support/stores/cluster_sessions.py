"""Sessions in a Valkey Cluster, by the node that has them."""

from __future__ import annotations

from service.store.base import StateStore
from service.store.redis.cluster import slot_of
from service.store.url import open_store
from tests.support.stores.valkey import ValkeyServer
from tests.support.stores.valkey_cluster import ValkeyCluster


class ClusterSessions:
    """Sessions under a prefix of their own.

    Args:
        cluster: where they are.
    """

    def __init__(self, cluster: ValkeyCluster, prefix: str) -> None:
        self.cluster = cluster
        self.prefix = prefix

    def store(self, *, replicas: int = 0, timeout_s: float = 5.0) -> StateStore:
        store = open_store(f"{self.cluster.url}?prefix={self.prefix}&replicas={replicas}", timeout_s)
        assert store is not None
        return store

    def slot(self, session: str) -> int:
        return slot_of(self.prefix + session)

    def on(self, node: ValkeyServer, count: int) -> list[str]:
        """Ids of sessions on a node."""
        ranges = [(first, last) for first, last, primary, *_ in self.cluster.map() if primary[1] == node.port]
        found: list[str] = []
        number = 0
        while len(found) < count:
            slot = self.slot(f"s{number}")
            if any(first <= slot <= last for first, last in ranges):
                found.append(f"s{number}")
            number += 1
        return found

    def in_slot(self, slot: int, count: int) -> list[str]:
        """Ids of sessions in one slot: too rare to be found by chance, so they share what is hashed with a tag."""
        tag = next(f"{n}" for n in range(10**6) if slot_of(f"{{{n}}}") == slot)
        return [f"{{{tag}}}{n}" for n in range(count)]
