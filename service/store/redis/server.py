"""One Valkey or Redis server: its connections, its checks, and a store in it.

Compare-and-set is a script, one atomic call for a whole batch. A pipeline of calls would take one round trip too. But
Valkey reads 16 kB of a connection in a turn of its loop, a record or two, and with ``appendfsync always`` it waits for
the disk in every turn. The server's ``appendfsync`` decides which failures an acknowledged chunk survives
(docs/explanation/durability.md).

The client repeats nothing after a timeout: the request may wait in the server and run later; then the revision decides.
After a broken connection it sends the request once more over a new one, because the old connection may have been stale
(a restarted server, a firewall) before anything was sent. But the script may have run and its answer been lost. So the
script distinguishes a change that is already made from a fenced one. If the second try is fenced, the outcome is
unknown: another change came before the first try or after it.

The settings and the role of the server are checked before the first request, after every failed request, and in every
check. Until a check passes, nothing is sent: a server that drops sessions would begin them again, and a replica may
lack the newest.

``WAIT`` counts the replicas that have its own connection's writes. So it follows each change on the same connection. A
load writes something without effect and waits for that, so that replicas have everything that it returns. Otherwise a
chunk that got 503 because a replica was missing would be sent again, and its stored reply would acknowledge it. What
the store has already, by a call whose answer was lost, is loaded for the same reason.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import HetsynError, StateCorrupt, StoreError, StoreFull, StoreUnavailable, StoreUnusable
from service.keys.ids import client_id
from service.store.base import NO_REVISION, REVISION_BYTES, Change, CommitResult, Stored

log = logging.getLogger("hetsyn.store")

_CLOCKS_PART_S = 5.0
_WAIT_SHARE = 0.5  # share of a request's time limit for waiting for replicas

T = TypeVar("T")
Command = tuple[Any, ...]
_DATABASE = re.compile("(/[0-9]*)?")
_ASKING: Command = ("ASKING",)

PREFIX = "hetsyn:session:"
PROBE = "?probe"  # no session has this id

REPLICA = (
    "the store is a read-only replica, which does not know the newest chunks: name its primary in --store, "
    "or promote it (REPLICAOF NO ONE)"
)

# For each key: the expected revision, the value ("" deletes), and the time to live in ms. The result has a number, or
# the text of an error, for each key, so that a failed key does not hide the results of the others. It is one string of
# lines, because redis-py takes several microseconds for each element of an array. What is no record may be shorter than
# a revision: zeros stand for the rest of it, and NO_REVISION for no value.
FENCED, COMMITTED, ALREADY = 0, 1, 2  # ALREADY: the key has the change's own revision
_CHANGE = f"""
local function revision(value)
  return string.sub(value, 1, {REVISION_BYTES}) .. string.rep('\\0', {REVISION_BYTES} - #value)
end
local function change(key, expected, value, keep_ms)
  local stored = redis.pcall('GETRANGE', key, 0, {REVISION_BYTES - 1})
  if type(stored) == 'table' and stored.err then
    return stored.err
  elseif revision(stored) == expected then
    local answer
    if value == '' then answer = redis.pcall('DEL', key) else answer = redis.pcall('SET', key, value, 'PX', keep_ms) end
    return type(answer) == 'table' and answer.err or {COMMITTED}
  elseif revision(stored) == revision(value) then
    return {ALREADY}
  end
  return {FENCED}
end
local results = {{}}
"""
COMPARE_AND_SET = f"""
{_CHANGE}
for i, key in ipairs(KEYS) do results[i] = change(key, ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]) end
return table.concat(results, '\\n')
"""

# In a cluster, keys of several slots cannot be declared, so they are arguments. A key that is not on this node gets its
# own error. A script with flags is refused as a whole while memory is full, unless it may use more.
_ON_NODE = f"""
{_CHANGE}
for i = 1, #ARGV / 4 do
  results[i] = change(ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i])
end
return table.concat(results, '\\n')
"""
COMPARE_AND_SET_ON_NODE = f"#!lua flags=allow-cross-slot-keys{_ON_NODE}"
DELETE_ON_NODE = f"#!lua flags=allow-cross-slot-keys,allow-oom{_ON_NODE}"

# Reads a key, then writes without effect: the next command waits until replicas have both. It touches no other key:
# the server's rules on keys may name the sessions' alone, and a slot that migrates would send another key elsewhere.
LOAD_AND_MARK = """#!lua flags=allow-oom
local value = redis.call('GET', KEYS[1])
if value then
  redis.call('APPEND', KEYS[1], '')
else
  redis.call('SET', KEYS[1], '', 'PX', 1)
  redis.call('DEL', KEYS[1])
end
return value
"""


_DIGESTS = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (COMPARE_AND_SET, COMPARE_AND_SET_ON_NODE, DELETE_ON_NODE, LOAD_AND_MARK)
}


def evalsha(script: str, keys: Sequence[Any], values: Sequence[Any]) -> tuple[Any, ...]:
    """Make the command that runs a script that the server has."""
    return ("EVALSHA", _DIGESTS[script], len(keys), *keys, *values)


def arguments(change: Change) -> tuple[bytes, bytes, int]:
    """Make the script's arguments for one key."""
    expected = change.expected.to_bytes(REVISION_BYTES, "big")
    value = b"" if change.record is None else change.revision.to_bytes(REVISION_BYTES, "big") + change.record
    return expected, value, max(1, round(change.keep_s * 1000))


def as_answers(answer: bytes) -> list[Any]:
    """Read the script's results, with errors as exceptions."""
    return [
        int(line) if line.isdigit() else ResponseError(str(line, "utf-8", "replace")) for line in answer.split(b"\n")
    ]


def stored(session: str, answer: Any) -> Stored | HetsynError | None:
    """Read the record in the answer to GET. A value without a revision is none, as for the script."""
    if isinstance(answer, Exception):
        return refusal(session, answer)
    value = bytes(answer or b"")
    revision = int.from_bytes(value[:REVISION_BYTES].ljust(REVISION_BYTES, b"\0"), "big")
    return None if revision == NO_REVISION else Stored(revision, value[REVISION_BYTES:])


def result(change: Change, answer: Any, *, repeated: bool) -> CommitResult | HetsynError:
    """Read the outcome of a change.

    Args:
        answer: the script's, for the change's key.
        repeated: the script was sent twice, so the first call may have made the change.
    """
    if isinstance(answer, Exception):
        error = refusal(change.session, answer)
        # the first call may have changed it, but a full store has changed nothing
        return unavailable(answer) if repeated and isinstance(error, StoreFull) else error
    if answer == COMMITTED or (answer == ALREADY and repeated):
        return CommitResult.committed
    if repeated:
        return StoreUnavailable(
            "the connection to the session store broke, and the session has changed since: send the chunk again"
        )
    return CommitResult.fenced


def refusal(session: str, error: Exception) -> HetsynError:
    """Make the error for an error reply of the server."""
    if isinstance(error, HetsynError):
        return error
    text = str(error)
    if isinstance(error, ResponseError) and "WRONGTYPE" in text:
        return StateCorrupt(
            f"session {client_id(session)!r}: what the store has under this id is not a session record: remove it from "
            "the store, or begin another session, under a new id"
        )
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return StoreUnusable(REPLICA)
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        return StoreFull(
            f"the session store is full ({text}), and nothing was changed: end or delete sessions, or send the chunk "
            "again later"
        )
    return unavailable(error)


def unavailable(error: Exception) -> StoreUnavailable:
    """Make the error of a server that is down, loading or cannot save; its own message says which."""
    return StoreUnavailable(f"the session store failed ({error}): send the chunk again later")


class Node:
    """A server.

    Args:
        url: ``redis://`` or ``rediss://``, as redis-py takes it.
        timeout_s: time limit for a connection, and for one request.
        replicas: number of its replicas that must have a change before it counts.
        is_in_cluster: the server should be a node of a cluster.

    Attributes:
        under_way: number of current requests.

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
                socket_timeout=None,  # ``in_time`` has the limit, and redis-py would run a task for each request
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),  # redis-py would not report that it repeated a command
            )
            pool: Any = self.client.connection_pool
            pool.make_connection()  # does not connect; refuses unknown options
        except (TypeError, ValueError) as error:
            raise StoreUnusable(f"the URL is not valid for Redis ({error})") from error
        self._scripts = scripts
        self._is_checked = self._has_scripts = False
        self._is_ready = False  # the last check passed, and the scripts are loaded
        self._warned: dict[str, bool] = {}  # whether each warning holds now

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
            until_s: deadline, on the event loop's clock; by default ``timeout_s`` from now.
            is_trusted: send it without a check.

        Returns:
            The answer, and whether the request was repeated. The server may have run a repeated request twice.

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
                    self.distrust()  # it may be another server now, or have other settings
                    # the other idle connections are as old, and may be stale too
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
            # with a socket_timeout in the URL, redis-py writes with asyncio.wait_for, which in Python 3.11 loses a
            # cancellation if the write ends in the same turn: an endless task would then never end
            if task and task.cancelling() > cancelled_before:
                raise asyncio.CancelledError
        return result

    async def send(self, commands: Sequence[Command]) -> tuple[list[Any], bool]:
        """Send commands on one connection.

        Returns:
            The answers, with errors of the server in their positions, and whether enough replicas have what the
            commands changed.

        Raises:
            RedisError: the connection fails.
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
        answers = await self.pipeline([("SCRIPT LOAD", script) for script in self._scripts])
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        self._has_scripts = True

    def forget_scripts(self) -> None:
        """Load the scripts again before they are used: a restarted server has lost them."""
        self._has_scripts = self._is_ready = False

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands on one connection. Returns the answers, with errors of the server in their positions.

        Raises:
            RedisError: the connection fails.
        """
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def check(self) -> None:
        """Check the settings and the role of the server. A server that does not tell them is trusted.

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
    """Read a value of INFO, as redis-py has parsed it. Empty if the server does not tell it."""
    return str(answer.get(name, "")) if isinstance(answer, dict) else ""


async def load_values(node: Node, keys: Sequence[str], *, is_asking: bool = False) -> list[Any]:
    """Load the values of keys, or an exception for each.

    Args:
        keys: all on this node.
        is_asking: their slots migrate to this node.
    """
    if node.replicas:
        commands = [evalsha(LOAD_AND_MARK, [key], []) for key in keys]
    else:
        commands = [("GET", key) for key in keys]
    answers, is_replicated = await _send(node, commands, is_asking=is_asking)
    return answers if is_replicated else [_not_replicated(node) for _ in keys]


async def change_declared(node: Node, changes: Sequence[Change], keys: Sequence[str]) -> list[Any]:
    """Run the script for changes on a server that has all keys. Returns its answers."""
    values = [value for change in changes for value in arguments(change)]
    (answer,), is_replicated = await node.send([evalsha(COMPARE_AND_SET, keys, values)])
    return await _confirmed(node, keys, _each(answer, changes), is_replicated)


async def change_on_node(node: Node, changes: Sequence[Change], keys: Sequence[str]) -> list[Any]:
    """Run the script for changes in one call, and in another for deletions, which a full node takes too.

    A key that the node lacks gets its own error.
    """
    answers: list[Any] = [None] * len(changes)
    deletions = [index for index, change in enumerate(changes) if change.record is None]
    others = [index for index, change in enumerate(changes) if change.record is not None]
    calls = [one for one in ((COMPARE_AND_SET_ON_NODE, others), (DELETE_ON_NODE, deletions)) if one[1]]
    replies, is_replicated = await node.send(
        [evalsha(script, [], _values([changes[n] for n in part], [keys[n] for n in part])) for script, part in calls]
    )
    for (_, part), reply in zip(calls, replies, strict=True):
        for index, answer in zip(part, _each(reply, part), strict=True):
            answers[index] = answer
    return await _confirmed(node, keys, answers, is_replicated)


async def change_alone(
    node: Node, changes: Sequence[Change], keys: Sequence[str], *, is_asking: bool = False
) -> list[Any]:
    """Run the script for each change in its own call: an error says where the key is."""
    commands = [
        evalsha(DELETE_ON_NODE if change.record is None else COMPARE_AND_SET_ON_NODE, [key], _values([change], [key]))
        for change, key in zip(changes, keys, strict=True)
    ]
    answers, is_replicated = await _send(node, commands, is_asking=is_asking)
    answers = [_each(answer, (None,))[0] for answer in answers]
    return await _confirmed(node, keys, answers, is_replicated, is_asking=is_asking)


async def _send(node: Node, commands: Sequence[Command], *, is_asking: bool) -> tuple[list[Any], bool]:
    if not is_asking:
        return await node.send(commands)
    answers, is_replicated = await node.send([one for command in commands for one in (_ASKING, command)])
    return answers[1::2], is_replicated


def _values(changes: Sequence[Change], keys: Sequence[str]) -> list[Any]:
    return [value for change, key in zip(changes, keys, strict=True) for value in (key, *arguments(change))]


def _each(answer: Any, changes: Sequence[Any]) -> list[Any]:
    """Return the script's answer to each change, or its error for each."""
    return [answer for _ in changes] if isinstance(answer, Exception) else as_answers(answer)


async def _confirmed(
    node: Node, keys: Sequence[str], answers: list[Any], is_replicated: bool, *, is_asking: bool = False
) -> list[Any]:
    """Replace the answers to changes that too few replicas have."""
    if not node.replicas:
        return answers
    if not is_replicated:
        answers = [_not_replicated(node) if answer == COMMITTED else answer for answer in answers]
    made = [index for index, answer in enumerate(answers) if answer == ALREADY]
    if made:
        values = await load_values(node, [keys[index] for index in made], is_asking=is_asking)
        for index, value in zip(made, values, strict=True):
            if isinstance(value, Exception):
                answers[index] = value
    return answers


def _not_replicated(node: Node) -> StoreUnavailable:
    return StoreUnavailable(
        f"fewer than {node.replicas} replicas of the session store have answered: send the chunk again"
    )


class RedisStore:
    """A ``StateStore`` in Valkey or Redis.

    Args:
        url: ``redis://`` or ``rediss://``, as redis-py takes it.
        timeout_s: time limit for a connection, and for one batch.
        replicas: number of the server's replicas that must have a change before it counts.

    Raises:
        StoreUnusable: the URL is not valid.
    """

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
        if not _DATABASE.fullmatch(path):  # redis-py would use database 0 without an error
            raise StoreUnusable(f"the URL is not valid for Redis ({path!r} is not a database: write /0)")
        # servers before Redis 7 refuse the second
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
            answers, _ = await self._node.in_time(lambda: self._sent(load_values, keys))
        except StoreError as error:
            return [error for _ in sessions]
        return [stored(session, answer) for session, answer in zip(sessions, answers, strict=True)]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        if not changes:
            return []
        keys = [self._prefix + change.session for change in changes]
        try:
            answers, repeated = await self._node.in_time(lambda: self._sent(change_declared, changes, keys))
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

    async def _sent(self, send: Callable[..., Awaitable[list[Any]]], *content: Any) -> list[Any]:
        answers = await send(self._node, *content)
        if isinstance(answers[0], NoScriptError):  # a restarted server has lost the script, and has run nothing
            await self._node.load_scripts()
            answers = await send(self._node, *content)
        return answers

    async def _check_and_probe(self) -> list[Any]:
        await self._node.check()
        return await self._node.pipeline([("SET", f"{self._prefix}{PROBE}", "", "PX", 1)])
