"""The scripts that compare and set, their arguments, and the meaning of their answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from service.errors import HetsynError, StoreFull, StoreUnavailable, StoreUnusable
from service.store.base import NO_REVISION, REVISION_BYTES, Change, CommitResult, Stored, is_revision, no_record

PREFIX = "hetsyn:session:"
PROBE = "?probe"  # no session has this id

REPLICA = (
    "the store is a read-only replica, which does not know the newest chunks: name its primary in --store, "
    "or promote it (REPLICAOF NO ONE)"
)

# A key comes with the expected revision, the value ("" deletes), and the time to live in ms. The result has a number
# for each key, or the text of its error, so that one key that fails does not hide the results of the others.
FENCED, COMMITTED, ALREADY = 0, 1, 2  # already: the key has the change's own revision
_CHANGE = f"""
local function change(key, expected, value, keep_ms)
  local stored = redis.pcall('GETRANGE', key, 0, {REVISION_BYTES - 1})
  if type(stored) == 'table' and stored.err then
    return stored.err
  elseif stored == expected then
    local answer
    if value == '' then answer = redis.pcall('DEL', key) else answer = redis.pcall('SET', key, value, 'PX', keep_ms) end
    return type(answer) == 'table' and answer.err or {COMMITTED}
  elseif stored == string.sub(value, 1, {REVISION_BYTES}) then
    return {ALREADY}
  end
  return {FENCED}
end
local results = {{}}
"""
COMPARE_AND_SET = f"""
{_CHANGE}
for i, key in ipairs(KEYS) do results[i] = change(key, ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]) end
return results
"""

# In a cluster, keys of several slots cannot be declared, so they are arguments. A key that is not on this node gets an
# error of its own. A script that says its flags is refused as a whole while memory is full, unless it may use more.
_ON_NODE = f"""
{_CHANGE}
for i = 1, #ARGV / 4 do
  results[i] = change(ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i])
end
return results
"""
COMPARE_AND_SET_ON_NODE = f"#!lua flags=allow-cross-slot-keys{_ON_NODE}"
DELETE_ON_NODE = f"#!lua flags=allow-cross-slot-keys,allow-oom{_ON_NODE}"

# The value of a key, with a write after it that changes nothing: what follows waits until replicas have both. Where no
# record is, the write is a mark in the key's slot. While the slot is on the way, the key decides which node is asked.
LOAD_AND_MARK = """#!lua flags=allow-oom
local value, keep_ms = redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
if keep_ms > 0 then
  redis.call('PEXPIRE', KEYS[1], keep_ms)
else
  redis.pcall('SET', ARGV[1], '', 'PX', 1)
end
return value
"""


_DIGESTS = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (COMPARE_AND_SET, COMPARE_AND_SET_ON_NODE, DELETE_ON_NODE, LOAD_AND_MARK)
}


def evalsha(script: str, keys: Sequence[Any], values: Sequence[Any]) -> tuple[Any, ...]:
    """The command that runs a script, which the server has."""
    return ("EVALSHA", _DIGESTS[script], len(keys), *keys, *values)


def arguments(change: Change) -> tuple[bytes, bytes, int]:
    """The script's arguments for one key."""
    expected = b"" if change.expected == NO_REVISION else change.expected.to_bytes(REVISION_BYTES, "big")
    value = b"" if change.record is None else change.revision.to_bytes(REVISION_BYTES, "big") + change.record
    return expected, value, max(1, round(change.keep_s * 1000))


def as_answers(answers: Sequence[Any]) -> list[Any]:
    """The script's results, with errors as exceptions."""
    return [
        ResponseError(str(answer, "utf-8", "replace")) if isinstance(answer, bytes) else answer for answer in answers
    ]


def stored(session: str, answer: Any) -> Stored | HetsynError | None:
    """The record in the answer to GET."""
    if answer is None:
        return None
    if isinstance(answer, Exception):
        return refusal(session, answer)
    value = bytes(answer)
    revision = int.from_bytes(value[:REVISION_BYTES], "big")
    if len(value) < REVISION_BYTES or not is_revision(revision):
        return no_record(session)
    return Stored(revision, value[REVISION_BYTES:])


def result(change: Change, answer: Any, *, repeated: bool) -> CommitResult | HetsynError:
    """The outcome of a change.

    Args:
        change: that was sent.
        answer: of the script, for the change's key.
        repeated: the script was sent twice, so the first call may have made the change.
    """
    if isinstance(answer, Exception):
        return refusal(change.session, answer)
    if answer == COMMITTED or (answer == ALREADY and repeated):
        return CommitResult.committed
    if repeated:
        return StoreUnavailable(
            "the connection to the session store broke, and the session has changed since: send the chunk again"
        )
    return CommitResult.fenced


def refusal(session: str, error: Exception) -> HetsynError:
    """The error for an error reply of the server."""
    if isinstance(error, HetsynError):
        return error
    text = str(error)
    if isinstance(error, ResponseError) and "WRONGTYPE" in text:
        return no_record(session)
    if isinstance(error, ReadOnlyError) or "READONLY" in text:
        return StoreUnusable(REPLICA)
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        return StoreFull(
            f"the session store is full ({text}), and nothing was changed: end or delete sessions, or send the chunk "
            "again later"
        )
    return unavailable(error)


def unavailable(error: Exception) -> StoreUnavailable:
    """The server is down, loading or cannot save; its own message says which."""
    return StoreUnavailable(f"the session store failed ({error}): send the chunk again later")
