"""The requests of stores to a node: loads and changes, with the confirmation by replicas where it is required.

``WAIT`` counts the replicas that have what its own connection has written. So it follows each change on the same
connection; and a load writes something that changes nothing, waits for that, and so answers with nothing that the
replicas lack. Otherwise a chunk that got 503 for want of a replica would be sent again, and its stored reply would
acknowledge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.exceptions import OutOfMemoryError

from service.errors import StoreUnavailable
from service.store.base import Change
from service.store.redis.node import Command, Node
from service.store.redis.script import (
    ALREADY,
    COMMITTED,
    COMPARE_AND_SET,
    COMPARE_AND_SET_ON_NODE,
    DELETE_ON_NODE,
    LOAD_AND_MARK,
    PROBE,
    arguments,
    as_answers,
    evalsha,
)

_ASKING: Command = ("ASKING",)


async def load(node: Node, keys: Sequence[str], *, is_asking: bool = False) -> list[Any]:
    """The values of keys, or an exception for each.

    Args:
        node: has the keys.
        keys: all on this node.
        is_asking: whether their slots are on the way to this node.
    """
    if node.replicas:
        commands = [evalsha(LOAD_AND_MARK, [key], [_mark_of(key)]) for key in keys]
    else:
        commands = [("GET", key) for key in keys]
    answers, is_replicated = await _send(node, commands, is_asking=is_asking)
    return answers if is_replicated else [_not_replicated(node) for _ in keys]


async def change_declared(node: Node, changes: Sequence[Change], keys: Sequence[str]) -> list[Any]:
    """The script's answers to changes on a server that has all keys."""
    values = [value for change in changes for value in arguments(change)]
    (answer,), is_replicated = await node.send([evalsha(COMPARE_AND_SET, keys, values)])
    return _confirmed(node, _each(answer, changes), is_replicated)


async def change_on_node(node: Node, changes: Sequence[Change], keys: Sequence[str]) -> list[Any]:
    """The script's answers to changes, in one call; a key that the node does not have gets an error of its own."""
    (answer,), is_replicated = await node.send([evalsha(COMPARE_AND_SET_ON_NODE, [], _values(changes, keys))])
    answers = _each(answer, changes)
    if isinstance(answer, OutOfMemoryError):
        deletions = [index for index, change in enumerate(changes) if change.record is None]
        if deletions:
            some = [changes[index] for index in deletions], [keys[index] for index in deletions]
            (answer,), is_replicated = await node.send([evalsha(DELETE_ON_NODE, [], _values(*some))])
            for index, one in zip(deletions, _each(answer, deletions), strict=True):
                answers[index] = one
    return _confirmed(node, answers, is_replicated)


async def change_alone(
    node: Node, changes: Sequence[Change], keys: Sequence[str], *, is_asking: bool = False
) -> list[Any]:
    """The script's answers to changes, each in a call of its own: an error says where the key is now."""
    commands = [
        evalsha(DELETE_ON_NODE if change.record is None else COMPARE_AND_SET_ON_NODE, [key], _values([change], [key]))
        for change, key in zip(changes, keys, strict=True)
    ]
    answers, is_replicated = await _send(node, commands, is_asking=is_asking)
    return _confirmed(node, [_each(answer, (None,))[0] for answer in answers], is_replicated)


async def _send(node: Node, commands: Sequence[Command], *, is_asking: bool) -> tuple[list[Any], bool]:
    if not is_asking:
        return await node.send(commands)
    answers, is_replicated = await node.send([one for command in commands for one in (_ASKING, command)])
    return answers[1::2], is_replicated


def _values(changes: Sequence[Change], keys: Sequence[str]) -> list[Any]:
    return [value for change, key in zip(changes, keys, strict=True) for value in (key, *arguments(change))]


def _each(answer: Any, changes: Sequence[Any]) -> list[Any]:
    """The answers to changes: the script's, or its error for each."""
    return [answer for _ in changes] if isinstance(answer, Exception) else as_answers(answer)


def _confirmed(node: Node, answers: list[Any], is_replicated: bool) -> list[Any]:
    if is_replicated:
        return answers
    return [_not_replicated(node) if answer in (COMMITTED, ALREADY) else answer for answer in answers]


def _not_replicated(node: Node) -> StoreUnavailable:
    return StoreUnavailable(
        f"fewer than {node.replicas} replicas of the session store have answered: send the chunk again"
    )


def _mark_of(key: str) -> str:
    """A key in the slot of another."""
    return f"{key}{PROBE}" if "{" in key else f"{{{key}}}{PROBE}"
