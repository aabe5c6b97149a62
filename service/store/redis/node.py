"""One Valkey or Redis server: its connections, its checks, and requests within a time limit.

The client repeats nothing after a timeout: the request may be waiting in the server and run later, and then the
revision decides. After a broken connection it sends the request once more over a new one, since the old connection may
have gone stale (the server was restarted, a firewall forgot it) before anything was sent. But the script may have run
and its answer been lost. So the script tells a change that is made already from one that is fenced. If the second try
is fenced, the outcome is unknown: another change came either before the first try or after it.

The settings and the role of the server are checked before the first request, after every request that failed, and in
every check. While a check has not passed, nothing is sent: a server that drops sessions would begin them anew, and a
replica would not know the newest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import StoreUnavailable, StoreUnusable
from service.store.redis.script import REPLICA, unavailable

log = logging.getLogger("hetsyn.store")

_CLOCKS_PART_S = 5.0
_WAIT_SHARE = 0.5  # of a request's time limit may be spent on waiting for replicas

T = TypeVar("T")
Command = tuple[Any, ...]


class Node:
    """A server.

    Args:
        url: ``redis://`` or ``rediss://``, as redis-py takes it.
        timeout_s: time for a connection, and for one request.
        scripts: that requests use.
        replicas: of this server that must have a change before it counts.
        is_in_cluster: whether the server is expected to be a node of a cluster.

    Attributes:
        client: of redis-py.
        replicas: see above.
        under_way: number of requests under way.

    Raises:
        StoreUnusable: the URL is not valid.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float,
        scripts: Sequence[str],
        replicas: int = 0,
        *,
        is_in_cluster: bool = False,
    ) -> None:
        self._timeout_s = timeout_s
        self.under_way = 0
        self.replicas = replicas
        self._wait_ms = max(1, int(1000 * timeout_s * _WAIT_SHARE))
        self._is_in_cluster = is_in_cluster
        self._which = f" ({urlsplit(url).netloc.rpartition('@')[2]})" if is_in_cluster else ""
        try:
            self.client: Any = Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),  # redis-py does not report that it repeated a command
            )
        except ValueError as error:
            raise StoreUnusable(f"the URL is not valid for Redis ({error})") from error
        self._scripts = scripts
        self._is_checked = self._has_scripts = False
        self._is_ready = False  # both
        self._warned: dict[str, bool] = {}  # whether a warning holds now

    async def close(self) -> None:
        await self.client.aclose()

    def distrust(self) -> None:
        """Check the server before the next request."""
        self._is_checked = self._is_ready = False

    async def in_time(
        self, send: Callable[[], Awaitable[T]], until_s: float | None = None, *, is_trusted: bool = False
    ) -> tuple[T, bool]:
        """Send a request within the time limit, and once more if the connection breaks.

        Args:
            send: sends it.
            until_s: the end of its time, on the event loop's clock; by default ``timeout_s`` from now.
            is_trusted: whether it is sent without a check.

        Returns:
            The answers, and whether the request was repeated. The server may have run a repeated request twice.

        Raises:
            StoreUnavailable: no connection, or no answer in time; the server may still run the request.
            StoreUnusable: the server would lose sessions.
        """
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        if until_s is None:
            until_s = asyncio.get_running_loop().time() + self._timeout_s
        self.under_way += 1
        try:
            async with asyncio.timeout_at(until_s):
                try:
                    if not (self._is_ready or is_trusted):
                        await self._prepare()
                    result = await send(), False
                except RedisConnectionError:
                    self.distrust()  # it may be another server, or have other settings
                    # the other idle connections are as old, and may be as stale
                    await self.client.connection_pool.disconnect(inuse_connections=False)
                    if not is_trusted:
                        await self._prepare()
                    result = await send(), True
        except (RedisTimeoutError, TimeoutError) as error:
            self.distrust()
            raise StoreUnavailable(
                f"the session store did not answer within {self._timeout_s:g} s: send the chunk again"
            ) from error
        except (RedisError, OSError) as error:
            self.distrust()
            raise unavailable(error) from error
        finally:
            self.under_way -= 1
            # redis-py writes with asyncio.wait_for, which loses a cancellation in Python 3.11 if the write ends in the
            # same turn: a task that works for ever would never end
            if task and task.cancelling() > cancelled_before:
                raise asyncio.CancelledError
        return result

    async def send(self, commands: Sequence[Command]) -> tuple[list[Any], bool]:
        """Send commands on one connection.

        Returns:
            The answers, with errors of the server in their positions, and whether enough replicas have what the
            commands changed.

        Raises:
            RedisError: of the connection.
        """
        if self.replicas:
            *answers, count = await self.pipeline([*commands, ("WAIT", self.replicas, self._wait_ms)])
            return answers, isinstance(count, int) and count >= self.replicas
        if len(commands) > 1:
            return await self.pipeline(commands), True
        try:
            return [await self.client.execute_command(*command) for command in commands], True
        except ResponseError as error:
            return [error], True

    async def load_scripts(self) -> None:
        for script in self._scripts:
            await self.client.script_load(script)
        self._has_scripts = True

    def forget_scripts(self) -> None:
        """Load the scripts again before they are used: a restarted server has lost them."""
        self._has_scripts = self._is_ready = False

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands on one connection; errors of the server stand in their positions.

        Raises:
            RedisError: of the connection.
        """
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def check(self) -> None:
        """Check the settings and the role of the server. One that does not tell them is trusted.

        Raises:
            StoreUnusable: it would lose sessions.
            StoreUnavailable: it is a replica in a cluster, which another node replaces.
            RedisError: it does not answer.
        """
        ping, memory, persistence, replication, cluster, now = await self.pipeline(
            [("PING",), *(("INFO", part) for part in ("memory", "persistence", "replication", "cluster")), ("TIME",)]
        )
        if isinstance(ping, Exception):
            raise ping
        policy, is_replica = _info(memory, "maxmemory_policy"), _info(replication, "role") == "slave"
        self.distrust()
        self._check_mode(_info(cluster, "cluster_enabled"))
        if is_replica:
            raise _no_primary() if self._is_in_cluster else StoreUnusable(REPLICA)
        if policy not in ("", "noeviction"):
            raise StoreUnusable(
                f"the store's maxmemory-policy{self._which} is {policy!r}, which drops sessions when memory "
                "is short: set it to noeviction"
            )
        self._is_checked = True
        self._warn(
            "log",
            _info(persistence, "aof_enabled") == "0",
            f"the store's append-only file{self._which} is off, so a restart of the store loses sessions: set "
            "appendonly to yes and appendfsync to always",
        )
        connected = _info(replication, "connected_slaves")
        self._warn(
            "replicas",
            connected.isdecimal() and int(connected) < self.replicas,
            f"the store{self._which} has {connected} replicas, fewer than the {self.replicas} that must have a chunk "
            "before it is answered: its chunks get 503 until another replica is connected",
        )
        if not isinstance(now, Exception):
            apart_s = int(now[0]) + int(now[1]) / 1e6 - time.time()
            self._warn(
                "clock",
                abs(apart_s) > _CLOCKS_PART_S,
                f"the store's clock{self._which} is {apart_s:.0f} s ahead of this machine's, so sessions may expire "
                "early or late: let all machines keep time",
            )

    def _check_mode(self, is_cluster: str) -> None:
        if is_cluster == "1" and not self._is_in_cluster:
            raise StoreUnusable("the store is a node of a cluster: write valkey-cluster:// in place of the scheme")
        if is_cluster == "0" and self._is_in_cluster:
            raise StoreUnusable("the store is not a cluster: write valkey:// in place of valkey-cluster://")

    def _warn(self, name: str, holds: bool, sentence: str) -> None:
        """Log a warning when it begins to hold."""
        if holds and not self._warned.get(name):
            log.warning("%s", sentence)
        self._warned[name] = holds

    async def _prepare(self) -> None:
        if not self._is_checked:
            await self.check()
        if not self._has_scripts:
            await self.load_scripts()
        self._is_ready = True


def _no_primary() -> StoreUnavailable:
    return StoreUnavailable("the session store has just got another primary: send the chunk again")


def _info(answer: Any, name: str) -> str:
    """A value of the reply to INFO, as text or as redis-py has parsed it. Empty if the server does not tell it."""
    if isinstance(answer, Exception):
        return ""
    if isinstance(answer, dict):
        return str(answer.get(name, ""))
    for line in bytes(answer).decode(errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""
