"""A store in Valkey or Redis: one string a session, its revision in front of its record.

Compare-and-set is a script, which the server runs as one step, one call for a whole batch. A pipeline of calls would
take one round trip too, but Valkey reads 16 kB of a connection in a turn of its loop, which is a record or two, and
with ``appendfsync always`` it waits for the disk in every turn. The server removes records by itself when their time
is over.

How much an acknowledged chunk survives is the server's ``appendfsync``; see docs/explanation/durability.md.

The client repeats nothing after a time out: what was sent may be waiting in the server and run later, and then
the revision decides. After a broken connection it asks once more over a new one, since the old one may have gone stale
(the server was restarted, a firewall forgot it) before anything was sent. But the script may have run, and its answer
been lost, so it tells a change that is done already from one that is fenced; and where it is fenced the second time,
nobody knows whether another change came before the first or after it.
"""

from __future__ import annotations

import asyncio
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
from service.store.base import NO_REVISION, REVISION_BYTES, Change, CommitResult, Stored

PREFIX = "hetsyn:session:"
_DATABASE = re.compile("(/[0-9]*)?")

# Key i has three arguments: the expected revision, the value ("" deletes), and for how many ms it is kept. The result
# has a number a key, or the text of its error: one that fails must not keep the others from being answered.
FENCED, COMMITTED, ALREADY = 0, 1, 2  # already: what the change makes of the key is what it holds
_COMPARE_AND_SET = f"""
local results = {{}}
for i, key in ipairs(KEYS) do
  local expected, value, keep_ms = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  local done = redis.pcall('GETRANGE', key, 0, {REVISION_BYTES - 1})
  if type(done) == 'table' and done.err then
    results[i] = done.err
  elseif done == expected then
    if value == '' then done = redis.pcall('DEL', key) else done = redis.pcall('SET', key, value, 'PX', keep_ms) end
    results[i] = type(done) == 'table' and done.err or {COMMITTED}
  elseif done == string.sub(value, 1, {REVISION_BYTES}) then
    results[i] = {ALREADY}
  else
    results[i] = {FENCED}
  end
end
return results
"""


class RedisStore:
    """
    Args:
        url: ``redis://`` or ``rediss://``, as redis-py takes it.
        timeout_s: for a connection, and for one batch.
        prefix: of the keys.

    Raises:
        StoreUnusable: the URL is not one.
    """

    name = "redis"

    def __init__(self, url: str, *, timeout_s: float = 2.0, prefix: str = PREFIX) -> None:
        self._timeout_s = timeout_s
        self._prefix = prefix
        path = urlsplit(url).path
        if not _DATABASE.fullmatch(path):  # redis-py takes another for database 0, in silence
            raise StoreUnusable(f"the store's URL is not one of Redis ({path!r} is no database: write /0)")
        try:
            self._redis: Any = Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),  # by itself it would not tell that it sent something again
            )
        except ValueError as error:
            raise StoreUnusable(f"the store's URL is not one of Redis ({error})") from error
        self._script = ""

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
            answers, is_second = await self._in_time(lambda: self._commit(changes))
        except StoreUnavailable as error:
            return [error for _ in changes]
        return [_result(change, answer, is_second=is_second) for change, answer in zip(changes, answers, strict=True)]

    async def expire(self) -> int:
        return 0

    async def health(self) -> None:
        ping, memory = await self._send([("PING",), ("INFO", "memory")])
        if isinstance(ping, Exception):
            raise _unavailable(ping) from ping
        # a server that may not say it is trusted
        policy = "" if isinstance(memory, Exception) else _info(memory, "maxmemory_policy")
        if policy not in ("", "noeviction"):
            raise StoreUnusable(
                f"the store's maxmemory-policy is {policy!r}, which drops sessions when memory is short: "
                "set it to noeviction"
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
        except NoScriptError:  # a restarted server has forgotten the script, and has run nothing
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

    async def _in_time(self, act: Callable[[], Awaitable[list[Any]]]) -> tuple[list[Any], bool]:
        """What the act gives, and whether it is the second of two, the first of which may have been done too.

        Raises:
            StoreUnavailable: no connection, or no answer in time; what was sent may yet be done.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await act(), False
                except RedisConnectionError:
                    await self._redis.connection_pool.disconnect(inuse_connections=False)  # the others are as old
                    return await act(), True
        except (RedisTimeoutError, TimeoutError) as error:
            raise StoreUnavailable(
                f"the session store did not answer within {self._timeout_s:g} s: send the chunk again"
            ) from error
        except (RedisError, OSError) as error:
            raise _unavailable(error) from error


def _arguments(change: Change) -> tuple[bytes, bytes, int]:
    """Of the script, for one key."""
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
        return _foreign(session)
    return Stored(int.from_bytes(value[:REVISION_BYTES], "big"), value[REVISION_BYTES:])


def _result(change: Change, answer: Any, *, is_second: bool) -> CommitResult | HetsynError:
    """The outcome of a change.

    Args:
        is_second: the script was sent twice, so that the change may have been made before.
    """
    if isinstance(answer, Exception):
        return _refusal(change.session, answer)
    if answer == COMMITTED or (answer == ALREADY and is_second):
        return CommitResult.committed
    if is_second:
        return StoreUnavailable(
            "the connection to the session store broke, and another change came since: send the chunk again"
        )
    return CommitResult.fenced


def _refusal(session: str, error: Exception) -> HetsynError:
    """What the server answers in place of a result."""
    if isinstance(error, ResponseError) and "WRONGTYPE" in str(error):
        return _foreign(session)
    return _unavailable(error)


def _foreign(session: str) -> StateForeign:
    return StateForeign(f"session {session!r}: what the store holds under this id is no packed session")


def _unavailable(error: Exception) -> StoreUnavailable:
    """Down, full (OOM), loading, read-only: the server's own words say which."""
    return StoreUnavailable(f"the session store failed ({error}): send the chunk again later")


def _info(answer: Any, name: str) -> str:
    """A value of INFO, which redis-py may have taken apart."""
    if isinstance(answer, dict):
        return str(answer.get(name, ""))
    for line in bytes(answer).decode(errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    return ""
