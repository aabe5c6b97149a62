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
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.errors import HetsynError, StateForeign, StoreUnavailable, StoreUnusable
from service.store.base import FOREIGN_REVISION, NO_REVISION, REVISION_BYTES, Change, CommitResult, Stored

log = logging.getLogger("hetsyn.store")

PREFIX = "hetsyn:session:"
_DATABASE = re.compile("(/[0-9]*)?")

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
    if is_other_type or is_short then stored = expected end
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

    Raises:
        StoreUnusable: the URL is not valid.
    """

    name = "redis"

    def __init__(self, url: str, *, timeout_s: float = 2.0, prefix: str = PREFIX) -> None:
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
        self._is_log_checked = False

    async def start(self) -> None:
        await self.health()

    async def load(self, sessions: Sequence[str]) -> list[Stored | HetsynError | None]:
        try:
            answers = await self._send([("GET", self._prefix + session) for session in sessions])
        except StoreUnavailable as error:
            return [error for _ in sessions]
        return [_stored(session, answer) for session, answer in zip(sessions, answers, strict=True)]

    async def commit(self, changes: Sequence[Change]) -> list[CommitResult | HetsynError]:
        try:
            answers, repeated = await self._in_time(lambda: self._commit(changes))
        except StoreUnavailable as error:
            return [error for _ in changes]
        return [_result(change, answer, repeated=repeated) for change, answer in zip(changes, answers, strict=True)]

    async def expire(self) -> int:
        return 0

    async def health(self) -> None:
        ping, memory, persistence = await self._send([("PING",), ("INFO", "memory"), ("INFO", "persistence")])
        if isinstance(ping, Exception):
            raise _unavailable(ping) from ping
        # a server that does not tell its policy is trusted
        policy = "" if isinstance(memory, Exception) else _info(memory, "maxmemory_policy")
        if policy not in ("", "noeviction"):
            raise StoreUnusable(
                f"the store's maxmemory-policy is {policy!r}, which drops sessions when memory is short: "
                "set it to noeviction"
            )
        if not self._is_log_checked and not isinstance(persistence, Exception):
            self._is_log_checked = True
            if _info(persistence, "aof_enabled") == "0":
                log.warning(
                    "the store's append-only file is off, so a restart of the store loses sessions: set appendonly to "
                    "yes and appendfsync to always"
                )

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

    async def _in_time(self, send: Callable[[], Awaitable[list[Any]]]) -> tuple[list[Any], bool]:
        """Send a request within the time limit, and once more if the connection breaks.

        Returns:
            The answers, and whether the request was repeated. The server may have run a repeated request twice.

        Raises:
            StoreUnavailable: no connection, or no answer in time; the server may still run the request.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await send(), False
                except RedisConnectionError:
                    # the other idle connections are as old, and may be as stale
                    await self._redis.connection_pool.disconnect(inuse_connections=False)
                    return await send(), True
        except (RedisTimeoutError, TimeoutError) as error:
            raise StoreUnavailable(
                f"the session store did not answer within {self._timeout_s:g} s: send the chunk again"
            ) from error
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error


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
    return Stored(int.from_bytes(value[:REVISION_BYTES], "big"), value[REVISION_BYTES:])


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
    if isinstance(error, ResponseError) and "WRONGTYPE" in str(error):
        return _foreign(session, "not a string")
    return _unavailable(error)


def _foreign(session: str, what: str) -> StateForeign:
    return StateForeign(
        f"session {session!r}: the store's value under this id is not a session record ({what}): "
        "delete the session to free the id, or begin another, under a new id"
    )


def _unavailable(error: Exception) -> StoreUnavailable:
    """The server is down, full (OOM), loading or read-only; its own message says which."""
    return StoreUnavailable(f"the session store failed ({error}): send the chunk again later")


def _info(answer: Any, name: str) -> str:
    """A value of the reply to INFO, as text or as redis-py has parsed it."""
    if isinstance(answer, dict):
        return str(answer.get(name, ""))
    for line in bytes(answer).decode(errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""
