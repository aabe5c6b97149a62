"""A service as the simulation sees it: what each part costs, how many there are of it, and the load.

A *loop* is the event loop of one process: a replica has one for each worker. It decodes chunks, computes them in
batches, sends their records to the store and answers. A *node* is one primary of the store. In a turn it takes all
commands that wait, and waits for the disk once. A loop has a commit for each node under way at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

IDLE_S = 2e-4  # Linux lets a virtual machine's processor sleep after so long without work (guest_halt_poll_ns)
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class LoopCosts:
    """Time of an event loop, in seconds.

    Attributes:
        chunk_s: of each chunk beside its batch: half when its request is read, half when its reply is written.
        batches: (chunks, seconds) of batches; in a line between them and beyond the last. The first chunks cost
            most, because they have code and weights brought into the caches.
        commits: (records, seconds) of commits, as ``batches``: half before it is sent, half when it is answered.
        refuse_s: of each chunk that is refused.
        pass_s: of each chunk that comes to another worker of its replica: there, half for request, half for reply.
        cold_s: of each turn after ``IDLE_S`` without work: the processor slept, or did other things.
        waking_s: how much later such a turn begins, without work: the processor wakes up.
    """

    chunk_s: float
    batches: Curve
    commits: Curve = ((1, 0.0),)
    refuse_s: float = 0.0
    pass_s: float = 0.0
    cold_s: float = 0.0
    waking_s: float = 0.0

    def batch_s(self, chunks: float) -> float:
        """Of a batch of so many chunks."""
        return float(_on(self.batches, [chunks])[0])

    def commit_s(self, records: Sequence[float]) -> list[float]:
        """Of commits of so many records."""
        return _on(self.commits, records)


def _on(curve: Curve, counts: Sequence[float]) -> list[float]:
    known, seconds = zip(*curve, strict=True)
    found = np.interp(counts, known, seconds)
    if len(curve) > 1:
        slope = (seconds[-1] - seconds[-2]) / (known[-1] - known[-2])
        found += slope * np.maximum(0.0, np.asarray(counts) - known[-1])
    as_list: list[float] = found.tolist()
    return as_list


@dataclass(frozen=True)
class NodeCosts:
    """Time of a store's node, in seconds.

    Attributes:
        turn_s: of each turn: the disk.
        command_s: of each command.
        record_s: of each record.
        record_bytes: of a record, with its key.
        shares_turns: whether a turn takes the commands of several loops; a file takes one at a time.
        cold_s: of a turn after ``IDLE_S`` without one, more.
    """

    turn_s: float
    command_s: float
    record_s: float
    record_bytes: int
    shares_turns: bool = True
    cold_s: float = 0.0


@dataclass(frozen=True)
class System:
    """A service.

    Attributes:
        loop: costs of an event loop.
        loops: event loops: replicas times workers.
        workers: of a replica. A chunk comes to each of them as often, and they pass it on to that of its session.
        node: costs of a node of the store; None keeps sessions in memory.
        nodes: primaries of the store.
        proxy_s: time of a proxy for a chunk: half for the request, half for the reply.
        proxy_wake_s: what it takes more after a rest.
        proxies: proxies, each with one thread; 0 for none.
        client_s: time of the one load generator for a chunk; 0 for clients of their own.
        client_wake_s: what it takes more after a rest.
        wire_s: time of a chunk in which nobody works: sockets, and waking up.
        spread: of the time that the same work takes: the standard deviation of its logarithm.
        cores: that loops, proxies and load generator share; infinite where each has its own.
        max_batch: most chunks of a batch, and records of a commit.
        max_waiting: chunks in a loop; one more is refused (``--max-waiting`` of a server, divided by its workers).
        store_timeout_s: a record that has waited for longer when a commit ends is refused (``--store-timeout-s``).
    """

    loop: LoopCosts
    loops: int = 1
    workers: int = 1
    node: NodeCosts | None = None
    nodes: int = 1
    proxy_s: float = 0.0
    proxy_wake_s: float = 0.0
    proxies: int = 0
    client_s: float = 0.0
    client_wake_s: float = 0.0
    wire_s: float = 0.0
    spread: float = 0.0
    cores: float = inf
    max_batch: int = 64
    max_waiting: int = 1_024
    store_timeout_s: float = 2.0


@dataclass(frozen=True)
class Load:
    """The chunks that clients send.

    Attributes:
        sessions: that send at the same time.
        period_s: a session has a chunk due so often; 0 sends the next chunk when the last is answered.
        tick_s: chunks that fall due within it are sent together, as the load generator does.
    """

    sessions: int
    period_s: float = 0.1
    tick_s: float = 0.0

    @property
    def offered_per_s(self) -> float:
        """Chunks that are due a second; infinite in a closed loop."""
        return self.sessions / self.period_s if self.period_s else inf


def capacities(system: System) -> dict[str, float]:
    """The most chunks a second of each part, when its batches are full.

    Returns:
        By part: ``loop``, ``proxy``, ``store``. The service does what the smallest one does.
    """
    most, loop, nodes = system.max_batch, system.loop, system.nodes
    passed_on = 1 - 1 / system.workers
    batch_s = loop.batch_s(most) + most * (loop.chunk_s + passed_on * loop.pass_s)
    if system.node is not None:
        # a loop is full before its nodes are: each is done with its commit of a batch before the next batch is
        asked = nodes * (1 - (1 - 1 / nodes) ** most)  # nodes that have a record of a full batch
        batch_s += asked * loop.commit_s([most / asked])[0]
    found = {"loop": system.loops * most / batch_s}
    if system.proxies:
        found["proxy"] = system.proxies / system.proxy_s
    if system.node is not None:
        node = system.node
        # full nodes: each loop has a commit of all records that have waited for this node under way
        waiting = min(most, system.max_waiting / nodes)
        commands = system.loops if node.shares_turns else 1
        turn_s = node.turn_s + commands * (node.command_s + waiting * node.record_s)
        found["store"] = nodes * commands * waiting / turn_s
    return found
