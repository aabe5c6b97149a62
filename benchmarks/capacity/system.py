"""A service as the simulation sees it: what each part costs, how many there are of it, and the load.

A *loop* is the event loop of one process: a replica has one for each worker. It decodes chunks, computes them in
batches, sends their records to the store and answers. A *node* is one primary of the store. In a turn it takes all
commands that wait, and waits for the disk once. A commit goes to each node that has a record of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

IDLE_S = 5e-4


@dataclass(frozen=True)
class LoopCosts:
    """Time of an event loop, in seconds.

    Attributes:
        chunk_s: of each chunk: request, session, reply.
        batches: (chunks, seconds) of batches; between them it is interpolated. The first chunks cost most, because
            they have code and weights brought into the caches.
        commit_s: of each commit: half before it is sent, half when it is answered.
        record_s: of each record in a commit.
        refuse_s: of each chunk that is refused.
        cold_s: of each turn after ``IDLE_S`` without work: the processor slept, or did other things.
    """

    chunk_s: float
    batches: tuple[tuple[int, float], ...]
    commit_s: float = 0.0
    record_s: float = 0.0
    refuse_s: float = 0.0
    cold_s: float = 0.0

    def batch_s(self, chunks: int) -> float:
        """Of a batch of so many chunks."""
        sizes, seconds = zip(*self.batches, strict=True)
        return float(np.interp(chunks, sizes, seconds))


@dataclass(frozen=True)
class NodeCosts:
    """Time of a store's node, in seconds.

    Attributes:
        turn_s: of each turn: the disk.
        command_s: of each command.
        record_s: of each record.
        record_bytes: of a record, with its key.
        shares_turns: whether a turn takes the commands of several loops; a file takes one at a time.
    """

    turn_s: float
    command_s: float
    record_s: float
    record_bytes: int
    shares_turns: bool = True


@dataclass(frozen=True)
class System:
    """A service.

    Attributes:
        loop: costs of an event loop.
        loops: event loops: replicas times workers.
        node: costs of a node of the store; None keeps sessions in memory.
        nodes: primaries of the store.
        proxy_s: time of a proxy for a chunk.
        proxies: proxies, each with one thread; 0 for none.
        client_s: time of the one load generator for a chunk; 0 for clients of their own.
        wire_s: time in which nobody works: sockets, and waking up.
        cores: that loops, proxies and load generator share; infinite where each has its own.
        max_batch: most chunks of a batch, and records of a commit.
        max_waiting: chunks in a loop; one more is refused (``--max-waiting``).
        store_timeout_s: a record that has waited for longer when a commit ends is refused (``--store-timeout-s``).
    """

    loop: LoopCosts
    loops: int = 1
    node: NodeCosts | None = None
    nodes: int = 1
    proxy_s: float = 0.0
    proxies: int = 0
    client_s: float = 0.0
    wire_s: float = 0.0
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
    most, loop = system.max_batch, system.loop
    batch_s = loop.batch_s(most) + most * loop.chunk_s
    if system.node is not None:
        batch_s += loop.commit_s + most * loop.record_s
    found = {"loop": system.loops * most / batch_s}
    if system.proxies:
        found["proxy"] = system.proxies / system.proxy_s
    if system.node is not None:
        node = system.node
        # a full commit of each loop, cut into a command for each node that has a record of it
        asked = system.nodes * (1 - (1 - 1 / system.nodes) ** most)  # nodes that a full commit goes to
        commands = system.loops * asked / system.nodes if node.shares_turns else 1
        records = system.loops * most / system.nodes if node.shares_turns else most
        turn_s = node.turn_s + commands * node.command_s + records * node.record_s
        found["store"] = system.nodes * records / turn_s
    return found
