"""A store in Valkey Cluster or Redis Cluster: the sessions of a batch go to their nodes, in one script a node.

A key's slot says which node has it, and every server has a map of the slots. The script gets its keys as arguments.
Each key that is not on the node gets its own error, so nothing is half done. Its change is then sent in its own call;
that error says where the key is: ``MOVED`` for good, or ``ASK`` while its slot migrates to another node. The map is
read again after every such answer, after every failed node, and in every sweep.

Each node is a ``Node``, with its own checks and time limit, and has its own lane in ``GroupCommit``: a node that is
down or slow delays and fails its own sessions alone.

This is not redis-py's client of clusters, although that one, with retries off, lost nothing in the same faults. It only
redirects single keys, so each would take a script and, with ``appendfsync always``, a wait for the disk. And it
reconnects to all nodes whenever it reads the map.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from service.errors import HetsynError, StoreError, StoreFull, StoreUnavailable, StoreUnusable
from service.keys.ids import client_id
from service.store.base import Change, CommitResult, Stored
from service.store.redis.server import (
    COMPARE_AND_SET_ON_NODE,
    DELETE_ON_NODE,
    LOAD_AND_MARK,
    PREFIX,
    Node,
    change_alone,
    change_on_node,
    load_values,
    refusal,
    result,
    stored,
    unavailable,
)

log = logging.getLogger("hetsyn.store")

SLOTS = REDIS_CLUSTER_HASH_SLOTS
_PORT = 6379
READ_TIMEOUT_S = 0.5  # for one node's answer with the map
_SCRIPTS = (COMPARE_AND_SET_ON_NODE, DELETE_ON_NODE, LOAD_AND_MARK)
READ_INTERVAL_S = 0.1  # between two readings of the map because of failures
MAX_REDIRECTS = 8
REDIRECT_PAUSE_S = 0.01  # before the third and every later redirection: the slot migrates
_ELSEWHERE = ("non local key", "during rehashing of the slot")
_DOWN = ("cluster is down", "a slot not served")


class Address(NamedTuple):
    """The address of a node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class ClusterAddress:
    """The parts of a cluster's URL.

    Attributes:
        seeds: nodes that know the others.
        scheme: the nodes' scheme: ``redis``, or ``rediss`` with TLS.
        user_info: user and password as in the URL, with ``@``; empty without.
        query: the nodes' query, with ``?``; empty without.
    """

    seeds: tuple[Address, ...]
    scheme: str
    user_info: str
    query: str

    def node_url(self, address: Address) -> str:
        return f"{self.scheme}://{self.user_info}{address}/0{self.query}"


def read_address(scheme: str, netloc: str, path: str, query: str) -> ClusterAddress:
    """Parse a cluster's URL.

    Raises:
        StoreUnusable: a host is missing, a port is no port, or a database is named.
    """
    if path not in ("", "/"):
        raise StoreUnusable(f"the store's URL is not valid ({path!r}: a cluster has no databases, end it with /)")
    user_info, at, hosts = netloc.rpartition("@")
    seeds = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            seeds.append(Address(parts.hostname or "", parts.port or _PORT))
        except ValueError as error:
            raise StoreUnusable(f"the store's URL is not valid ({error})") from error
    if not all(seed.host for seed in seeds):
        raise StoreUnusable(
            "the store's URL has an empty host: write it as valkey-cluster://10.0.0.1:6379,10.0.0.2:6379/"
        )
    return ClusterAddress(tuple(seeds), scheme, f"{user_info}{at}", f"?{query}" if query else "")


def slot_of(key: str) -> int:
    return key_slot(key.encode())


class SlotMap(NamedTuple):
    """The primary of each slot, and what would take a millisecond to find among so many slots.

    Attributes:
        primaries: None for a slot whose primary is unknown.
        unknown: number of such slots.
        addresses: all primaries.
    """

    primaries: list[Address | None]
    unknown: int
    addresses: set[Address]


def read_slots(answer: Sequence[Any], asked: Address) -> SlotMap:
    """Read the map of the slots.

    Args:
        answer: the answer to CLUSTER SLOTS.
        asked: its sender, which leaves out its own host if it does not know it.
    """
    primaries: list[Address | None] = [None] * SLOTS
    unknown, addresses = SLOTS, set[Address]()
    for first, last, primary, *_ in answer:
        host = _text(primary[0])
        address = Address(asked.host if host in ("", "?") else host, int(primary[1]))
        slots = int(last) - int(first) + 1
        primaries[int(first) : int(last) + 1] = [address] * slots
        unknown -= slots
        addresses.add(address)
    return SlotMap(primaries, unknown, addresses)


def probe_keys(prefix: str, primaries: Sequence[Address | None]) -> Iterator[tuple[Address, str]]:
    """Yield each primary with a key that it has."""
    missing = {address for address in primaries if address is not None}
    number = 0
    while missing:
        key = f"{prefix}{{?{number}}}probe"
        address = primaries[slot_of(key)]
        if address in missing:
            missing.remove(address)
            yield address, key
        number += 1


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


class Nodes:
    """The nodes of a cluster. Used from one event loop. Arguments as those of ``ClusterStore``.

    Attributes:
        primaries: the primary of each slot; None if unknown.
        unwell: nodes that failed a check, and how; they are asked for the map last.

    Raises:
        StoreUnusable: an option of the URL is not valid.
    """

    def __init__(self, address: ClusterAddress, timeout_s: float, replicas: int) -> None:
        self.primaries: list[Address | None] = [None] * SLOTS
        self.unwell: Mapping[Address, Exception] = {}
        self._address = address
        self._timeout_s = timeout_s
        self._replicas = replicas
        self._nodes: dict[Address, Node] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_s = -inf
        self._closing: set[asyncio.Task[None]] = set()
        self[address.seeds[0]]  # refuses an invalid option at once

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
            until_s: deadline, on the event loop's clock.

        Raises:
            StoreUnavailable: none answers.
            StoreUnusable: the store is no cluster.
        """
        loop = asyncio.get_running_loop()
        well = [address for address in self._nodes if address not in self.unwell]
        random.shuffle(well)
        failure = StoreUnavailable("the nodes of the session store are no cluster yet: make one of them")
        best: SlotMap | None = None
        for address in dict.fromkeys([*well, *self.unwell, *self._address.seeds]):
            try:
                found = await self._ask(address, min(until_s, loop.time() + min(READ_TIMEOUT_S, self._timeout_s)))
            except StoreUnavailable as error:
                failure = error
                continue
            if found.unknown < (SLOTS if best is None else best.unknown):
                best = found
            if not found.unknown:
                break
        if best is None:
            raise failure
        self._read_s = loop.time()
        self.primaries = best.primaries
        self._forget(best.addresses | set(self._address.seeds))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        if self._closing:
            await asyncio.wait(self._closing)
        for node in self._nodes.values():
            await node.close()

    async def _ask(self, address: Address, until_s: float) -> SlotMap:
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

    def _forget(self, kept: set[Address]) -> None:
        """Close the connections to nodes that have no slots any more, and no requests under way."""
        for address in [one for one, node in self._nodes.items() if one not in kept and not node.under_way]:
            task = asyncio.create_task(self._nodes.pop(address).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def uncovered() -> StoreUnavailable:
    return StoreUnavailable("no node of the session store has this session's slot: send the chunk again later")


@dataclass
class _Request:
    """One session of a batch.

    Attributes:
        change: None for a load.
        asked: the node that the slot migrates to.
        is_alone: it is sent in its own call.
        repeated: it was sent twice, so that the first call may have made the change.
    """

    session: str
    key: str
    slot: int
    change: Change | None = None
    asked: Address | None = None
    is_alone: bool = False
    repeated: bool = False
    redirects: int = 0
    answer: Any = None


class ClusterStore:
    """A ``StateStore`` in a cluster of Valkey or Redis servers.

    Args:
        address: the cluster's; one node that answers is enough.
        timeout_s: time limit for a connection, and for one batch.
        replicas: number of a node's replicas that must have a change before it counts.

    Raises:
        StoreUnusable: the prefix would put all sessions on one node, or an option of the URL is not valid.
    """

    def __init__(
        self,
        address: ClusterAddress,
        *,
        timeout_s: float = 2.0,
        prefix: str = PREFIX,
        replicas: int = 0,
    ) -> None:
        if "{" in prefix:
            raise StoreUnusable(f"the prefix {prefix!r} would put all sessions on one node: leave out the brace")
        self._timeout_s = timeout_s
        self._prefix = prefix
        self._nodes = Nodes(address, timeout_s, replicas)

    def lane(self, session: str) -> Hashable:
        return self._nodes.primaries[slot_of(self._prefix + session)]

    async def start(self) -> None:
        await self.health()

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        wanted = [self._request(session) for session in sessions]
        await self._answer(wanted)
        return [stored(request.session, request.answer) for request in wanted]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        wanted = [self._request(change.session, change) for change in changes]
        await self._answer(wanted)
        return [
            result(change, request.answer, repeated=request.repeated)
            for change, request in zip(changes, wanted, strict=True)
        ]

    async def expire(self) -> int:
        return 0

    async def health(self) -> None:
        await self._nodes.read()
        probes = list(probe_keys(self._prefix, self._nodes.primaries))
        troubles = await asyncio.gather(*(self._trouble(address, key) for address, key in probes))
        for trouble in troubles:
            if isinstance(trouble, StoreUnusable):
                raise trouble
        unwell = {address: trouble for (address, _), trouble in zip(probes, troubles, strict=True) if trouble}
        for address in unwell.keys() - self._nodes.unwell.keys():
            log.warning("the store's node %s fails, and so do its sessions: %s", address, unwell[address])
        for address in self._nodes.unwell.keys() - unwell.keys():
            log.info("the store's node %s can be used again, or was replaced", address)
        self._nodes.unwell = unwell
        if len(unwell) == len(probes):
            raise next(iter(unwell.values()), uncovered())

    async def close(self) -> None:
        await self._nodes.close()

    def _request(self, session: str, change: Change | None = None) -> _Request:
        key = self._prefix + session
        return _Request(session, key, slot_of(key), change)

    async def _answer(self, wanted: Sequence[_Request]) -> None:
        """Answer requests within the time limit. Never raises."""
        until_s = asyncio.get_running_loop().time() + self._timeout_s
        if not self._nodes.has_map:
            try:
                await self._nodes.read(until_s)
            except StoreError as error:
                for request in wanted:
                    request.answer = error
                return
        await self._send(wanted, until_s)

    async def _send(self, wanted: Sequence[_Request], until_s: float) -> None:
        """Send requests to their nodes, one part a node."""
        parts: dict[tuple[Address, bool, bool], list[_Request]] = {}
        for request in wanted:
            address = request.asked or self._nodes.primaries[request.slot]
            if address is None:
                request.answer = uncovered()
                self._nodes.read_soon()
            else:
                parts.setdefault((address, request.asked is not None, request.is_alone), []).append(request)
        sending = [
            self._part(address, part, until_s, is_asking=is_asking, is_alone=is_alone)
            for (address, is_asking, is_alone), part in parts.items()
        ]
        if len(sending) == 1:
            await sending[0]
        else:
            await asyncio.gather(*sending)

    async def _part(
        self, address: Address, part: Sequence[_Request], until_s: float, *, is_asking: bool, is_alone: bool
    ) -> None:
        """Send a node's requests, and redirect those of keys that are elsewhere."""
        node = self._nodes[address]
        keys = [request.key for request in part]
        changes = [request.change for request in part if request.change is not None]

        async def send() -> list[Any]:
            if not changes:
                return await load_values(node, keys, is_asking=is_asking)
            if is_alone or is_asking:
                return await change_alone(node, changes, keys, is_asking=is_asking)
            return await change_on_node(node, changes, keys)

        try:
            answers, repeated = await node.in_time(send, until_s)
        except StoreError as error:
            self._nodes.read_soon()
            for request in part:
                request.answer = error
            return
        again = []
        for request, answer in zip(part, answers, strict=True):
            request.repeated |= repeated
            if self._is_elsewhere(request, answer, address, node):
                again.append(request)
            else:
                request.answer = answer
        if not again:
            return
        self._nodes.read_soon()
        redirects = max(request.redirects for request in again)
        if redirects > MAX_REDIRECTS:
            for request in again:
                request.answer = StoreUnavailable(
                    f"session {client_id(request.session)!r} is on the way from one node of the store to another: "
                    "send the chunk again"
                )
            return
        if redirects > 2:
            await asyncio.sleep(REDIRECT_PAUSE_S)
        await self._send(again, until_s)

    def _is_elsewhere(self, request: _Request, answer: Any, address: Address, node: Node) -> bool:
        """Return whether an answer redirects the request, so that nothing was done. Notes where to."""
        if not isinstance(answer, ResponseError):
            return False
        text = str(answer)
        if isinstance(answer, MovedError):
            request.asked, request.is_alone = None, False
            self._nodes.primaries[request.slot] = Address(answer.host or address.host, int(answer.port))
        elif isinstance(answer, AskError):
            request.asked = Address(answer.host or address.host, int(answer.port))
        elif isinstance(answer, NoScriptError):
            node.forget_scripts()
        elif isinstance(answer, ReadOnlyError) or any(words in text for words in _ELSEWHERE):
            request.asked, request.is_alone = None, True
        elif not isinstance(answer, TryAgainError):
            if isinstance(answer, ClusterDownError) or any(words in text for words in _DOWN):
                self._nodes.read_soon()
            return False
        request.redirects += 1
        return True

    async def _trouble(self, address: Address, key: str) -> StoreError | None:
        """Find out why a node can keep no sessions."""
        node = self._nodes[address]

        async def check() -> list[Any]:
            await node.check()
            return await node.pipeline([("SET", key, "", "PX", 1)])

        try:
            (answer,), _ = await node.in_time(check)
        except StoreError as error:
            return error
        if isinstance(answer, Exception) and not isinstance(answer, AskError | TryAgainError):
            refused = refusal(key, answer)
            return refused if isinstance(refused, StoreError) and not isinstance(refused, StoreFull) else None
        return None
