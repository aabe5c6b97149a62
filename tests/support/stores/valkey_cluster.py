"""A Valkey Cluster on the loopback, for benchmarks and tests: three primaries with a replica each, unless told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.support.servers.server_process import free_port
from tests.support.stores.valkey import ValkeyServer

SLOTS = 16_384
FORM_TIMEOUT_S = 90.0
POLL_S = 0.02
KEYS_AT_ONCE = 10
MIGRATE_TIMEOUT_MS = 5_000


class ValkeyCluster:
    """A context in which the cluster runs. Every command is on the disk of its primary before it is answered.

    If a primary is down, the others still serve their slots (``cluster-require-full-coverage no``).

    Args:
        options: of every node's command line.
        primaries: number of primaries.
        replicas: of each primary.
        node_timeout_ms: after which a node that does not answer counts as failed.

    Attributes:
        nodes: the primaries as they are at first, then their replicas, round by round.
    """

    def __init__(
        self, folder: Path, *options: str, primaries: int = 3, replicas: int = 1, node_timeout_ms: int = 1_000
    ) -> None:
        self._count = primaries
        self.nodes: list[ValkeyServer] = []
        for index in range(primaries * (1 + replicas)):
            own = folder / f"node-{index}"
            own.mkdir()
            cluster = (
                "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-config-file", "nodes.conf",
                "--cluster-node-timeout", str(node_timeout_ms), "--cluster-allow-replica-migration", "no",
                "--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0",
                "--repl-diskless-sync-delay", "0", "--loglevel", "warning", "--logfile", str(own / "log"),
            )  # fmt: skip
            self.nodes.append(ValkeyServer(own, *cluster, *options))
        self._bus = {node.port: int(_option(node, "--cluster-port")) for node in self.nodes}

    @property
    def url(self) -> str:
        return "valkey-cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes) + "/"

    def __enter__(self) -> ValkeyCluster:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.__exit__(kind, error, trace)

    def start(self) -> None:
        """Start the nodes and make a cluster of them."""
        for node in self.nodes:
            node.start()
        first, primaries = self.nodes[0], self.nodes[: self._count]
        bounds = [SLOTS * index // self._count for index in range(self._count + 1)]
        for index, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            if index < self._count:
                self.ask(node, "CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
            if index:
                self.ask(node, "CLUSTER", "MEET", "127.0.0.1", first.port, self._bus[first.port])
        self._until(
            "the nodes know each other", lambda: all(len(self.known(node)) == len(self.nodes) for node in self.nodes)
        )
        for index, node in enumerate(self.nodes[self._count :]):
            self.ask(node, "CLUSTER", "REPLICATE", self.id_of(primaries[index % self._count]))
        self.settle()

    def settle(self) -> None:
        """Wait until every slot has a primary that all nodes agree on, and every replica has its primary's data."""
        self._until("the cluster is whole", self.is_whole)

    def mend(self) -> None:
        """Start and continue every node, and settle."""
        for node in self.nodes:
            node.resume()
            if not node.is_running:
                node.start()
        self.settle()

    def is_whole(self) -> bool:
        """Whether all nodes run and agree, and every replica is linked to its primary, which sends it what comes."""
        views = set()
        for node in self.nodes:
            try:
                if self.ask(node, "CLUSTER", "INFO").get("cluster_state") != "ok":
                    return False
                replication = self.ask(node, "INFO", "replication")
                slots = self.ask(node, "CLUSTER", "SLOTS")
            except (RedisError, OSError):
                return False
            ranges = sorted((slot[0], slot[1], slot[2][1], *sorted(one[1] for one in slot[3:])) for slot in slots)
            views.add(str(ranges))
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
            # a replica says so up to a second before its primary counts its confirmations
            if any(one["state"] != "online" for one in _replicas(replication)):
                return False
        # a node leaves out replicas that it takes for failed
        listed = {port for _, _, *ports in ranges for port in ports}
        return len(views) == 1 and len(listed) == len(self.nodes)

    def ask(self, node: ValkeyServer, *words: Any) -> Any:
        """The answer of a node to a command.

        Raises:
            RedisError: it answers with an error.
            OSError: it does not answer.
        """
        with _client(node) as client:
            answer = client.execute_command(*words)
        if words[:2] == ("CLUSTER", "INFO"):
            return dict(line.split(":", 1) for line in answer.decode().split())
        return answer

    def id_of(self, node: ValkeyServer) -> str:
        return str(self.ask(node, "CLUSTER", "MYID").decode())

    def known(self, node: ValkeyServer) -> list[str]:
        """The lines of CLUSTER NODES, without the nodes that are still being met."""
        lines = self.ask(node, "CLUSTER", "NODES").decode().splitlines()
        return [line for line in lines if "handshake" not in line and "noaddr" not in line]

    def primaries(self) -> list[ValkeyServer]:
        """The nodes that have slots, as the nodes that run see it."""
        ports = {slot[2][1] for slot in self.map()}
        return [node for node in self.nodes if node.port in ports]

    def map(self) -> list[Any]:
        """First and last slot, primary and replicas, of each range."""
        for node in self.nodes:
            try:
                found: list[Any] = self.ask(node, "CLUSTER", "SLOTS")
            except (RedisError, OSError):
                continue
            return found
        raise RuntimeError("no node of the cluster answers")

    def primary_of(self, slot: int) -> ValkeyServer:
        (port,) = [one[2][1] for one in self.map() if one[0] <= slot <= one[1]]
        return self._at(port)

    def replica_of(self, primary: ValkeyServer) -> ValkeyServer:
        return self._at(next(one[3][1] for one in self.map() if one[2][1] == primary.port and len(one) > 3))

    def is_replicated(self, primary: ValkeyServer) -> bool:
        """Whether all replicas of a primary have what it has."""
        replication = self.ask(primary, "INFO", "replication")
        replicas = _replicas(replication)
        return bool(replicas) and all(one["offset"] == replication["master_repl_offset"] for one in replicas)

    def cut_off(self, primary: ValkeyServer) -> ValkeyServer:
        """Pause the replica of a primary and end its connection: it gets nothing any more. The replica."""
        replica = self.replica_of(primary)
        replica.pause()
        self.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
        return replica

    def fail_over(self, primary: ValkeyServer) -> None:
        """Kill a primary without warning, and wait until its replica has taken over."""
        primary.kill()
        self.taken_over(primary)

    def taken_over(self, primary: ValkeyServer) -> None:
        """Wait until another node has the slots of a primary that does not answer, as a node that runs sees it."""
        others = [node for node in self.nodes if node is not primary]

        def is_replaced() -> bool:
            maps = [self._map_of(node) for node in others]
            seen = [found for found in maps if found is not None]
            return any(all(slot[2][1] != primary.port for slot in found) for found in seen)

        self._until("a replica has taken over", is_replaced)

    def hand_over(self, primary: ValkeyServer) -> None:
        """Make the replica of a primary the primary, without a loss, and wait for it."""
        replica = self.replica_of(primary)
        self.ask(replica, "CLUSTER", "FAILOVER")
        self._until("a replica has taken over", lambda: self.ask(replica, "ROLE")[0] == b"master")

    def moving(self, slot: int, target: ValkeyServer) -> Iterator[str]:
        """Move a slot to another primary, step by step: ``begun``, ``moved`` after each few keys, ``done``."""
        source = self.primary_of(slot)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        yield "begun"
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, KEYS_AT_ONCE):
            self.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, MIGRATE_TIMEOUT_MS, "KEYS", *keys)
            yield "moved"
        for node in (target, source):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))
        yield "done"

    def move(self, slots: Sequence[int], target: ValkeyServer) -> None:
        for slot in slots:
            for _ in self.moving(slot, target):
                pass

    def _at(self, port: int) -> ValkeyServer:
        (node,) = [node for node in self.nodes if node.port == port]
        return node

    def _map_of(self, node: ValkeyServer) -> list[Any] | None:
        try:
            found: list[Any] = self.ask(node, "CLUSTER", "SLOTS")
        except (RedisError, OSError):
            return None
        return found

    def _until(self, what: str, holds: Any) -> None:
        deadline_s = time.monotonic() + FORM_TIMEOUT_S
        while not holds():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"within {FORM_TIMEOUT_S:g} s it did not come about that {what}")
            time.sleep(POLL_S)


@contextmanager
def _client(node: ValkeyServer) -> Iterator[Any]:
    client = Redis("127.0.0.1", node.port, socket_timeout=10, socket_connect_timeout=1)
    client.set_response_callback("CLUSTER", lambda answer, **_: answer)
    try:
        yield client
    finally:
        client.close()


def _replicas(replication: dict[str, Any]) -> list[dict[str, Any]]:
    """What a primary says of each of its replicas."""
    return [value for name, value in replication.items() if name.startswith("slave") and name[5:].isdecimal()]


def _option(node: ValkeyServer, name: str) -> str:
    return node.options[node.options.index(name) + 1]
