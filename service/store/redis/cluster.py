"""A store in Valkey Cluster or Redis Cluster: the sessions of a batch go to their nodes, in one script a node.

A key's slot says which node has it, and every server has a map of the slots. The script gets its keys as arguments, and
each key that is not on the node (any more) has an error of its own, so nothing is half done. Such a change is then sent
in a call of its own, whose error says where its key is now: ``MOVED`` for good, or ``ASK`` while its slot is on the way
to another node. The map is read again after every such answer, after every node that failed, and in every sweep.

Each node is a ``Node``, with its own checks and time limit, and each has a lane of its own in ``GroupCommit``: a node
that is down or slow delays and fails its own sessions alone.

redis-py's own client of clusters is not used: it repeats commands without a word, and sleeps and closes the connections
of all nodes when one of them fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

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
from service.store.redis import requests
from service.store.redis.node import Node
from service.store.redis.nodes import Nodes, uncovered
from service.store.redis.script import PREFIX, refusal, result, stored
from service.store.redis.slots import Address, ClusterAddress, probe_keys, slot_of

log = logging.getLogger("hetsyn.store")

MAX_REDIRECTS = 8
REDIRECT_PAUSE_S = 0.01  # before the third and every later redirection: the slot is on the way

_ELSEWHERE = ("non local key", "during rehashing of the slot")
_DOWN = ("cluster is down", "a slot not served")


@dataclass
class _Request:
    """One session of a batch.

    Attributes:
        session: its id.
        key: of its record.
        slot: of the key.
        change: None for a load.
        asked: the node to which the slot is on the way.
        is_alone: whether it is sent in a call of its own.
        repeated: whether it was sent twice, so that the first call may have made the change.
        redirects: so far.
        answer: in the end.
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
        address: of its nodes; one that answers is enough.
        timeout_s: time for a connection, and for one batch.
        prefix: of the keys.
        replicas: of a node that must have a change before it counts.

    Raises:
        StoreUnusable: the prefix would put all sessions on one node, or an option of the URL is not valid.
    """

    name = "redis"

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
        for address in unwell.keys() - self._nodes.unwell:
            log.warning("the store's node %s fails, and so do its sessions: %s", address, unwell[address])
        for address in self._nodes.unwell - unwell.keys():
            log.info("the store's node %s can be used again, or was replaced", address)
        self._nodes.unwell = set(unwell)
        if len(unwell) == len(probes):
            raise next(iter(unwell.values()), uncovered())

    async def close(self) -> None:
        await self._nodes.close()

    def _request(self, session: str, change: Change | None = None) -> _Request:
        key = self._prefix + session
        return _Request(session, key, slot_of(key), change)

    async def _answer(self, wanted: Sequence[_Request]) -> None:
        """Answer requests within the time limit; none raises."""
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
        """Send requests to their nodes, each node's together."""
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
        """Send a node's requests, and those that are elsewhere to where they are."""
        node = self._nodes[address]
        keys = [request.key for request in part]
        changes = [request.change for request in part if request.change is not None]

        async def send() -> list[Any]:
            if not changes:
                return await requests.load(node, keys, is_asking=is_asking)
            if is_alone or is_asking:
                return await requests.change_alone(node, changes, keys, is_asking=is_asking)
            return await requests.change_on_node(node, changes, keys)

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
        """Whether an answer says that nothing was done and that the request goes elsewhere. Notes where."""
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
        """Why a node can keep no sessions."""
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
