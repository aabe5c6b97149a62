"""A store in one Valkey or Redis server.

Compare-and-set is a script, which the server runs as one step, in one call for a whole batch. A pipeline of calls would
take one round trip too. But Valkey reads 16 kB of a connection in a turn of its loop, which is a record or two, and
with ``appendfsync always`` it waits for the disk in every turn.

The server's ``appendfsync`` decides which failures an acknowledged chunk survives; see docs/explanation/durability.md.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import NoScriptError

from service.errors import HetsynError, StoreError, StoreFull, StoreUnusable
from service.store.base import Change, CommitResult, Stored
from service.store.redis import requests
from service.store.redis.node import Node
from service.store.redis.script import COMPARE_AND_SET, LOAD_AND_MARK, PREFIX, PROBE, refusal, result, stored

_DATABASE = re.compile("(/[0-9]*)?")


class RedisStore:
    """A ``StateStore`` in Valkey or Redis.

    Args:
        url: ``redis://`` or ``rediss://``, as redis-py takes it.
        timeout_s: time for a connection, and for one batch.
        prefix: of the keys.
        replicas: of the server that must have a change before it counts.

    Raises:
        StoreUnusable: the URL is not valid.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 2.0,
        prefix: str = PREFIX,
        replicas: int = 0,
    ) -> None:
        self._prefix = prefix
        path = urlsplit(url).path
        if not _DATABASE.fullmatch(path):  # redis-py would silently use database 0
            raise StoreUnusable(f"the URL is not valid for Redis ({path!r} is not a database: write /0)")
        # servers before Redis 7 do not take the second
        scripts = (COMPARE_AND_SET, LOAD_AND_MARK) if replicas else (COMPARE_AND_SET,)
        self._node = Node(url, timeout_s, scripts, replicas)

    def lane(self, session: str) -> Hashable:  # noqa: ARG002
        return None

    async def start(self) -> None:
        await self.health()

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        if not sessions:
            return []
        keys = [self._prefix + session for session in sessions]
        try:
            answers, _ = await self._node.in_time(lambda: self._load(keys))
        except StoreError as error:
            return [error for _ in sessions]
        return [stored(session, answer) for session, answer in zip(sessions, answers, strict=True)]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        if not changes:
            return []
        keys = [self._prefix + change.session for change in changes]
        try:
            answers, repeated = await self._node.in_time(lambda: self._commit(changes, keys))
        except StoreError as error:
            return [error for _ in changes]
        results = [result(change, answer, repeated=repeated) for change, answer in zip(changes, answers, strict=True)]
        if any(isinstance(one, StoreUnusable) for one in results):
            self._node.distrust()
        return results

    async def expire(self) -> int:
        return 0

    async def health(self) -> None:
        (answer,), _ = await self._node.in_time(self._check_and_probe)
        if not isinstance(answer, Exception):
            return
        refused = refusal(PROBE, answer)
        if isinstance(refused, StoreFull):  # deletions are possible
            return
        if isinstance(refused, StoreUnusable):
            raise refused
        raise StoreUnusable(f"the store takes no changes ({answer}): every chunk gets 503 until it does") from answer

    async def close(self) -> None:
        await self._node.close()

    async def _load(self, keys: Sequence[str]) -> list[Any]:
        answers = await requests.load(self._node, keys)
        if isinstance(answers[0], NoScriptError):
            await self._node.load_scripts()
            answers = await requests.load(self._node, keys)
        return answers

    async def _commit(self, changes: Sequence[Change], keys: Sequence[str]) -> list[Any]:
        answers = await requests.change_declared(self._node, changes, keys)
        if isinstance(answers[0], NoScriptError):  # a restarted server has lost the script, and has run nothing
            await self._node.load_scripts()
            answers = await requests.change_declared(self._node, changes, keys)
        return answers

    async def _check_and_probe(self) -> list[Any]:
        await self._node.check()
        return await self._node.pipeline([("SET", f"{self._prefix}{PROBE}", "", "PX", 1)])
