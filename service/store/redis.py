"""A store in Valkey or Redis: one string a session, its revision in front of its record.

Compare-and-set is a script, which the server runs as one step, in one call for a whole batch. A pipeline of calls would
take one round trip too. But Valkey reads 16 kB of a connection in a turn of its loop, which is a record or two, and
with ``appendfsync always`` it waits for the disk in every turn. The server removes records on its own when their time
is over.

The server's ``appendfsync`` decides which failures an acknowledged chunk survives; see docs/explanation/durability.md.

The client repeats nothing after a timeout: the request may be waiting in the server and run later, and then the
revision decides. After a broken connection it sends the request once more over a new one, since the old connection may
have gone stale (the server was restarted, a firewall forgot it) before anything was sent. But the script may have run
and its answer been lost. So the script tells a change that is made already from one that is fenced. If the second try
is fenced, the outcome is unknown: another change came either before the first try or after it.

The settings and the role of the server are checked before the first request, after every request that failed, and in
every sweep. While a check has not passed, nothing is sent: a server that drops sessions would begin them anew, and a
replica would not know the newest.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import HetsynError, StateForeign, StoreError, StoreFull, StoreUnavailable, StoreUnusable
from service.keys.ids import client_id
from service.observe.clock import Clock, SteadyClock, since_boot
from service.store.base import FOREIGN_REVISION, NO_REVISION, REVISION_BYTES, Change, CommitResult, Stored, is_revision

log = logging.getLogger("hetsyn.store")

PREFIX = "hetsyn:session:"
_PROBE = "?probe"  # no session has this id
_CLOCKS_PART_S = 5.0
_DATABASE = re.compile("(/[0-9]*)?")

_REPLICA = (
    "the store is a read-only replica, which does not know the newest chunks: name its primary in --store, "
    "or promote it (REPLICAOF NO ONE)"
)

# Key i has three arguments: the expected revision, the value ("" deletes), and the time to live in ms. The result has a
# number for each key, or the text of its error, so that one key that fails does not hide the results of the others.
FENCED, COMMITTED, ALREADY = 0, 1, 2  # already: the key has the change's own revision
FOREIGN = b"no record"  # the expected revision of what is none: longer than a revision
_COMPARE_AND_SET = f"""
local results = {{}}
for i, key in ipairs(KEYS) do
  local expected, value, keep_ms = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local stored = redis.pcall('GETRANGE', key, 0, {REVISION_BYTES - 1})
  if expected == '{FOREIGN.decode()}' then
    local is_other_type = type(stored) == 'table' and string.find(stored.err, 'WRONGTYPE', 1, true)
    local is_short = type(stored) == 'string' and #stored < {REVISION_BYTES} and redis.call('EXISTS', key) == 1
    local is_zero = stored == string.rep('\\0', {REVISION_BYTES})
    if is_other_type or is_short or is_zero then stored = expected end
  end
  if type(stored) == 'table' and stored.err then
    results[i] = stored.err
  elseif stored == expected then
    local answer
    if value == '' then answer = redis.pcall('DEL', key) else answer = redis.pcall('SET', key, value, 'PX', keep_ms) end
    results[i] = type(answer) == 'table' and answer.err or {COMMITTED}
  elseif stored == string.sub(value, 1, {REVISION_BYTES}) then
    results[i] = {ALREADY}
  else
    results[i] = {FENCED}
  end
end
return results
"""


class RedisStore:
    """A ``StateStore`` in Valkey or Redis.

    Args:
        url: ``redis://`` or ``rediss://``, as redis-py takes it.
        timeout_s: time for a connection, and for one batch.
        prefix: of the keys.
        wall: seconds since 1970.
        steady: seconds, which do not step.

    Attributes:
        clock: of all servers on the store, in seconds since about 1970: the store's clock at the first check, from
            where it goes on without steps.

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
        wall: Clock = time.time,
        steady: Clock = since_boot,
    ) -> None:
        self._timeout_s = timeout_s
        self._prefix = prefix
        path = urlsplit(url).path
        if not _DATABASE.fullmatch(path):  # redis-py would silently use database 0
            raise StoreUnusable(f"the URL is not valid for Redis ({path!r} is not a database: write /0)")
        try:
            self._redis: Any = Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),  # redis-py does not report that it repeated a command
            )
        except ValueError as error:
            raise StoreUnusable(f"the URL is not valid for Redis ({error})") from error
        self._script = ""
        self.clock = SteadyClock(wall, steady)
        self._is_clock_set = False
        self._is_checked = False
        self._warned: dict[str, bool] = {}  # whether a warning holds now

    async def start(self) -> None:
        await self.health()

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        try:
            answers = await self._send([("GET", self._prefix + session) for session in sessions])
        except StoreError as error:
            return [error for _ in sessions]
        return [_stored(session, answer) for session, answer in zip(sessions, answers, strict=True)]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        try:
            answers, repeated = await self._in_time(lambda: self._commit(changes))
        except StoreError as error:
            return [error for _ in changes]
        results = [_result(change, answer, repeated=repeated) for change, answer in zip(changes, answers, strict=True)]
        if any(isinstance(result, StoreUnusable) for result in results):
            self._is_checked = False
        return results

    async def expire(self) -> int:
        return 0

    async def health(self) -> None:
        (answer,), _ = await self._in_time(self._check_and_probe)
        if not isinstance(answer, Exception):
            return
        refusal = _refusal(_PROBE, answer)
        if isinstance(refusal, StoreFull):  # deletions are possible
            return
        if isinstance(refusal, StoreUnusable):
            raise refusal
        raise StoreUnusable(f"the store takes no changes ({answer}): every chunk gets 503 until it does") from answer

    async def close(self) -> None:
        await self._redis.aclose()

    async def _commit(self, changes: Sequence[Change]) -> list[Any]:
        if not self._script:
            await self._load_script()
        keys = [self._prefix + change.session for change in changes]
        values = [value for change in changes for value in _arguments(change)]
        try:
            answers: list[Any] = await self._redis.execute_command("EVALSHA", self._script, len(keys), *keys, *values)
        except NoScriptError:  # a restarted server has lost the script, and has run nothing
            await self._load_script()
            answers = await self._redis.execute_command("EVALSHA", self._script, len(keys), *keys, *values)
        return [
            ResponseError(str(answer, "utf-8", "replace")) if isinstance(answer, bytes) else answer
            for answer in answers
        ]

    async def _load_script(self) -> None:
        self._script = await self._redis.script_load(_COMPARE_AND_SET)

    async def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        answers, _ = await self._in_time(lambda: self._pipeline(commands))
        return answers

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    async def _check_and_probe(self) -> list[Any]:
        await self._check()
        return await self._pipeline([("SET", f"{self._prefix}{_PROBE}", "", "PX", 1)])

    async def _check(self) -> None:
        """Check the settings and the role of the server; the first time, take its clock over.

        A server that does not tell them is trusted.

        Raises:
            StoreUnusable: it would lose sessions.
            RedisError: it does not answer.
        """
        ping, memory, persistence, replication, now = await self._pipeline(
            [("PING",), ("INFO", "memory"), ("INFO", "persistence"), ("INFO", "replication"), ("TIME",)]
        )
        if isinstance(ping, Exception):
            raise ping
        policy, is_replica = _info(memory, "maxmemory_policy"), _info(replication, "role") == "slave"
        self._is_checked = policy in ("", "noeviction") and not is_replica
        if is_replica:
            raise StoreUnusable(_REPLICA)
        if not self._is_checked:
            raise StoreUnusable(
                f"the store's maxmemory-policy is {policy!r}, which drops sessions when memory is short: "
                "set it to noeviction"
            )
        self._warn(
            "log",
            _info(persistence, "aof_enabled") == "0",
            "the store's append-only file is off, so a restart of the store loses sessions: set appendonly to yes and "
            "appendfsync to always",
        )
        if not isinstance(now, Exception):
            self._compare_clocks(int(now[0]) + int(now[1]) / 1e6)

    def _compare_clocks(self, now_s: float) -> None:
        if not self._is_clock_set:
            self._is_clock_set = True
            self.clock.offset_s = now_s - self.clock.steady()
        apart_s = now_s - self.clock()
        self._warn(
            "clock",
            abs(apart_s) > _CLOCKS_PART_S,
            f"the store's clock has stepped by {apart_s:.0f} s since this server started, which goes on without the "
            "step: servers that start now have another time, and sessions may expire early or late: start all servers "
            "again",
        )

    def _warn(self, name: str, holds: bool, sentence: str) -> None:
        """Log a warning when it begins to hold."""
        if holds and not self._warned.get(name):
            log.warning("%s", sentence)
        self._warned[name] = holds

    async def _in_time(self, send: Callable[[], Awaitable[list[Any]]]) -> tuple[list[Any], bool]:
        """Send a request within the time limit, and once more if the connection breaks.

        Returns:
            The answers, and whether the request was repeated. The server may have run a repeated request twice.

        Raises:
            StoreUnavailable: no connection, or no answer in time; the server may still run the request.
            StoreUnusable: the server would lose sessions.
        """
        task = asyncio.current_task()
        cancelled_before = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    result = await self._checked(send), False
                except RedisConnectionError:
                    self._is_checked = False  # it may be another server, or have other settings
                    # the other idle connections are as old, and may be as stale
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
                    result = await self._checked(send), True
        except (RedisTimeoutError, TimeoutError) as error:
            self._is_checked = False
            raise StoreUnavailable(
                f"the session store did not answer within {self._timeout_s:g} s: send the chunk again"
            ) from error
        except (RedisError, OSError) as error:
            self._is_checked = False
            raise _unavailable(error) from error
        finally:
            # redis-py writes with asyncio.wait_for, which loses a cancellation in Python 3.11 if the write ends in the
            # same turn: a task that works for ever would never end
            if task and task.cancelling() > cancelled_before:
                raise asyncio.CancelledError
        return result

    async def _checked(self, send: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
        if not self._is_checked:
            await self._check()
        return await send()


def _arguments(change: Change) -> tuple[bytes, bytes, int]:
    """The script's arguments for one key."""
    if change.expected == FOREIGN_REVISION:
        expected = FOREIGN
    else:
        expected = b"" if change.expected == NO_REVISION else change.expected.to_bytes(REVISION_BYTES, "big")
    value = b"" if change.record is None else change.revision.to_bytes(REVISION_BYTES, "big") + change.record
    return expected, value, max(1, round(change.keep_s * 1000))


def _stored(session: str, answer: Any) -> Stored | HetsynError | None:
    if answer is None:
        return None
    if isinstance(answer, Exception):
        return _refusal(session, answer)
    value = bytes(answer)
    if len(value) < REVISION_BYTES:
        return _foreign(session, f"{len(value)} bytes, fewer than a record has")
    revision = int.from_bytes(value[:REVISION_BYTES], "big")
    if not is_revision(revision):
        return _foreign(session, "it begins with zeros")
    return Stored(revision, value[REVISION_BYTES:])


def _result(change: Change, answer: Any, *, repeated: bool) -> CommitResult | HetsynError:
    """The outcome of a change.

    Args:
        change: that was sent.
        answer: of the script, for the change's key.
        repeated: the script was sent twice, so the first call may have made the change.
    """
    if isinstance(answer, Exception):
        return _refusal(change.session, answer)
    if answer == COMMITTED or (answer == ALREADY and repeated):
        return CommitResult.committed
    if repeated:
        return StoreUnavailable(
            "the connection to the session store broke, and the session has changed since: send the chunk again"
        )
    return CommitResult.fenced


def _refusal(session: str, error: Exception) -> HetsynError:
    """The error for an error reply of the server."""
    text = str(error)
    if isinstance(error, ResponseError) and "WRONGTYPE" in text:
        return _foreign(session, "not a string")
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return StoreUnusable(_REPLICA)
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        return StoreFull(
            f"the session store is full ({text}), and nothing was changed: end or delete sessions, or send the chunk "
            "again later"
        )
    return _unavailable(error)


def _foreign(session: str, what: str) -> StateForeign:
    return StateForeign(
        f"session {client_id(session)!r}: the store's value under this id is not a session record ({what}): "
        "delete the session to free the id, or begin another, under a new id"
    )


def _unavailable(error: Exception) -> StoreUnavailable:
    """The server is down, loading or cannot save; its own message says which."""
    return StoreUnavailable(f"the session store failed ({error}): send the chunk again later")


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
