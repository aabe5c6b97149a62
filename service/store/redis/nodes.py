"""The nodes of a cluster, and the map that says which of them has which slot."""

from __future__ import annotations

import asyncio
import logging
import random
from math import inf

from service.errors import StoreError, StoreUnavailable, StoreUnusable
from service.store.redis.node import Node
from service.store.redis.script import COMPARE_AND_SET_ON_NODE, DELETE_ON_NODE, LOAD_AND_MARK, unavailable
from service.store.redis.slots import SLOTS, Address, ClusterAddress, read_slots

log = logging.getLogger("hetsyn.store")

READ_TIMEOUT_S = 0.5  # of one node that is asked for the map
_SCRIPTS = (COMPARE_AND_SET_ON_NODE, DELETE_ON_NODE, LOAD_AND_MARK)
READ_INTERVAL_S = 0.1  # between two readings of the map because of failures


class Nodes:
    """The nodes of a cluster. Used from one event loop.

    Args:
        address: of the cluster; one node that answers is enough.
        timeout_s: time for a connection, and for one request.
        replicas: of a node that must have a change before it counts.

    Attributes:
        primaries: the primary of each slot, as far as it is known.
        unwell: nodes that failed when they were checked; they are asked for the map after the others.

    Raises:
        StoreUnusable: an option of the URL is not valid.
    """

    def __init__(self, address: ClusterAddress, timeout_s: float, replicas: int) -> None:
        self.primaries: list[Address | None] = [None] * SLOTS
        self.unwell: set[Address] = set()
        self._address = address
        self._timeout_s = timeout_s
        self._replicas = replicas
        self._nodes: dict[Address, Node] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_s = -inf
        self._closing: set[asyncio.Task[None]] = set()
        self[address.seeds[0]]  # an option that is not valid is refused at once

    def __getitem__(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            url = self._address.node_url(address)
            node = Node(url, self._timeout_s, _SCRIPTS, self._replicas, is_in_cluster=True)
            self._nodes[address] = node
        return node

    @property
    def has_map(self) -> bool:
        return self._read_s > -inf

    def read_soon(self) -> None:
        """Read the map while requests go on, not more often than ``READ_INTERVAL_S``."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_later())

    async def read(self, until_s: float = inf) -> None:
        """Read the map from the first node that knows all slots.

        Args:
            until_s: the end of the time for it, on the event loop's clock.

        Raises:
            StoreUnavailable: none answers.
            StoreUnusable: the store is no cluster.
        """
        loop = asyncio.get_running_loop()
        well = [address for address in self._nodes if address not in self.unwell]
        random.shuffle(well)
        failure = StoreUnavailable("the nodes of the session store are no cluster yet: make one of them")
        best: list[Address | None] = [None] * SLOTS
        for address in dict.fromkeys([*well, *self.unwell, *self._address.seeds]):
            try:
                found = await self._ask(address, min(until_s, loop.time() + min(READ_TIMEOUT_S, self._timeout_s)))
            except StoreUnavailable as error:
                failure = error
                continue
            if found.count(None) < best.count(None):
                best = found
            if None not in found:
                break
        if best.count(None) == SLOTS:
            raise failure
        self._read_s = loop.time()
        self.primaries = best
        self._forget(set(best) | set(self._address.seeds))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._closing:
            await asyncio.wait(self._closing)
        for node in self._nodes.values():
            await node.close()

    async def _ask(self, address: Address, until_s: float) -> list[Address | None]:
        node = self[address]
        (answer,), _ = await node.in_time(lambda: node.pipeline([("CLUSTER", "SLOTS")]), until_s, is_trusted=True)
        if isinstance(answer, Exception):
            if "cluster support disabled" in str(answer):
                raise StoreUnusable("the store is not a cluster: write valkey:// in place of valkey-cluster://")
            raise unavailable(answer) from answer
        return read_slots(answer, address)

    async def _read_later(self) -> None:
        await asyncio.sleep(max(0.0, self._read_s + READ_INTERVAL_S - asyncio.get_running_loop().time()))
        try:
            await self.read()
        except StoreError as error:
            log.debug("the map of the store's slots cannot be read: %s", error)

    def _forget(self, kept: set[Address | None]) -> None:
        """Close the connections to nodes that have no slots any more, and no requests under way."""
        for address in [one for one, node in self._nodes.items() if one not in kept and not node.under_way]:
            task = asyncio.create_task(self._nodes.pop(address).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def uncovered() -> StoreUnavailable:
    return StoreUnavailable("no node of the session store has this session's slot: send the chunk again later")
