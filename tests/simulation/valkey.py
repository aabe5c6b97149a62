"""A simulated Valkey: RESP over simulated connections, real Lua, and what goes wrong with a server and a cluster.

It knows the commands that the store uses. Scripts run in Lua (lupa), as they are.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import redis.utils
from lupa import lua51
from redis.crc import key_slot

from tests.simulation.loop import Process
from tests.simulation.network import Network

SLOTS = 16_384
UNSYNCED_S = 2.0
PORT = 6379
LUA = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
redis.utils.get_lib_version = cache(redis.utils.get_lib_version)  # it reads a file for each connection
NO_CROSS = b"ERR Script attempted to access a non local key in a cluster node"
FULL = "OOM command not allowed when used memory > 'maxmemory'."


class Refusal(Exception):
    """An error reply; its text has the code first."""


@cache
def _compiled(script: bytes) -> Any:
    """Compile a script to a function of ``redis``, ``KEYS`` and ``ARGV``."""
    body = script.partition(b"\n")[2] if script.startswith(b"#!") else script
    return LUA.eval(b"function(redis, KEYS, ARGV)\n" + body + b"\nend")


_to_error = LUA.eval(b"function(text) return {err = text} end")
_api = LUA.eval(b"function(call, pcall) return {call = call, pcall = pcall} end")
_table = LUA.eval(b"function(...) return {...} end")


class _Change(NamedTuple):
    """What a change replaced, when it was made, and when the replica has it."""

    made_s: float
    replicated_s: float
    key: bytes
    before: tuple[bytes, float] | None


class Valkey:
    """One server, a process of its own.

    Attributes:
        data: value and end of life by key.
        has_replica: another server follows it, and can take its place.
        replicated_s: when the replica has the last change.
        changes: how many were made.
        is_replica, is_full: it takes no changes.
        fail_share: share of commands at which the connection breaks, half of them before the command runs.
    """

    def __init__(self, network: Network, name: str, cluster: Cluster | None = None) -> None:
        self.network, self.world, self.name = network, network.world, name
        self.cluster = cluster
        self.data: dict[bytes, tuple[bytes, float]] = {}
        self._before: deque[_Change] = deque()
        self.has_replica = False
        self.replicated_s = self._cut_until_s = 0.0
        self.changes = 0
        self.is_replica = self.is_full = False
        self.fail_share = 0.0
        self.scripts: dict[bytes, bytes] = {}
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start, or start again with the data, and without scripts and connections."""
        self.scripts = {}
        self.starts += 1
        self.process: Process = self.network.process(f"{self.name}")
        self.process.slow_s = self.network.store_s
        self.network.listen(self.name, PORT, self.process, lambda: _Connection(self))

    def forget(self, duration_s: float) -> None:
        """Lose the changes of the last seconds, as a server that had not synced them."""
        while self._before and self._before[-1].made_s >= self.world.now_s - duration_s:
            self._undo()

    def take_over(self) -> None:
        """Have the replica's data: what it did not get is gone."""
        while self._before and self._before[-1].replicated_s > self.world.now_s:
            self._undo()
        self.replicated_s = self._cut_until_s = 0.0

    def cut_off(self, duration_s: float) -> None:
        """Send the replica nothing for a while."""
        self._cut_until_s = max(self._cut_until_s, self.world.now_s + duration_s)

    def _undo(self) -> None:
        change = self._before.pop()
        if change.before is None:
            self.data.pop(change.key, None)
        else:
            self.data[change.key] = change.before

    def _changes(self, key: bytes) -> None:
        world = self.world
        self.changes += 1
        if self.has_replica:
            self.replicated_s = max(self.replicated_s, max(world.now_s, self._cut_until_s) + world.latency_s())
        self._before.append(_Change(world.now_s, self.replicated_s, key, self.data.get(key)))
        while self._before[0].made_s < world.now_s - UNSYNCED_S and self._before[0].replicated_s <= world.now_s:
            self._before.popleft()

    @property
    def is_primary(self) -> bool:
        return not (self.is_replica or self.process.is_dead)

    def crash(self, *, is_silent: bool = False) -> None:
        self.network.crash(self.process, is_silent=is_silent)

    def get(self, key: bytes) -> bytes | None:
        found = self.data.get(key)
        if found is None:
            return None
        if found[1] <= self.world.now_s:
            del self.data[key]
            return None
        return found[0]

    def keys_beyond(self, when_s: float) -> int:
        """Count the keys that live longer."""
        return sum(end_s > when_s for _, end_s in self.data.values())

    def run(self, arguments: Sequence[bytes], *, is_asking: bool = False) -> Any:
        """Run a command. Raises Refusal."""
        name = arguments[0].upper()
        if name == b"EVALSHA":
            return self._script(arguments[1], int(arguments[2]), arguments[3:], is_asking=is_asking)
        if name in (b"GET", b"SET", b"DEL", b"GETRANGE"):
            self._check_place(arguments[1], is_asking=is_asking)
            return self._on_key(name, arguments)
        if name == b"PING":
            return "PONG"
        if name == b"INFO":
            return self._info(arguments[1].decode())
        if name == b"TIME":
            now_s = self.world.wall_s()
            return [b"%d" % int(now_s), b"%d" % int(now_s % 1 * 1e6)]
        if name == b"SCRIPT":
            digest = hashlib.sha1(arguments[2], usedforsecurity=False).hexdigest().encode()
            self.scripts[digest] = arguments[2]
            return digest
        if name == b"CLUSTER":
            if self.cluster is None:
                raise Refusal("ERR This instance has cluster support disabled")
            return self.cluster.slots_reply()
        if name == b"HELLO":
            return {b"server": b"valkey", b"version": b"9.1.0", b"proto": 3, b"mode": b"standalone", b"role": b"master"}
        if name in (b"CLIENT", b"SELECT", b"ASKING"):
            return "OK"
        raise Refusal(f"ERR unknown command '{name.decode()}'")

    def _info(self, part: str) -> bytes:
        return {
            "memory": b"# Memory\r\nmaxmemory_policy:noeviction\r\n",
            "persistence": b"# Persistence\r\naof_enabled:1\r\n",
            "replication": b"# Replication\r\nrole:%b\r\nconnected_slaves:%d\r\n"
            % (b"slave" if self.is_replica else b"master", self.has_replica),
            "cluster": b"# Cluster\r\ncluster_enabled:%d\r\n" % (self.cluster is not None),
        }[part]

    def _check_place(self, key: bytes, *, is_asking: bool, in_script: bool = False) -> None:
        """Check that this node of a cluster has the slot of a key."""
        if self.cluster is None:
            return
        slot = key_slot(key)
        owner = self.cluster.owners[slot]
        target = self.cluster.migrating.get(slot)
        if owner is self and (target is None or self.get(key) is not None):
            return
        if target is self and is_asking:
            return
        if in_script:
            raise Refusal(NO_CROSS.decode())
        if owner is self and target is not None:
            raise Refusal(f"ASK {slot} {target.name}:{PORT}")
        raise Refusal(f"MOVED {slot} {owner.name}:{PORT}")

    def _on_key(self, name: bytes, arguments: Sequence[bytes], *, is_over_full: bool = False) -> Any:
        """Run a command on a key, with ``is_over_full`` although memory is full."""
        key, value = arguments[1], self.get(arguments[1])
        if name == b"GET":
            return value
        if name == b"GETRANGE":
            return (value or b"")[int(arguments[2]) : int(arguments[3]) + 1]
        if self.is_replica:
            raise Refusal("READONLY You can't write against a read only replica.")
        self._changes(key)
        if name == b"DEL":
            return int(self.data.pop(key, None) is not None)
        if self.is_full and not is_over_full:
            raise Refusal(FULL)
        if name == b"APPEND":
            self.data[key] = (self.data[key][0] + arguments[2], self.data[key][1])
            return len(self.data[key][0])
        self.data[key] = (arguments[2], self.world.now_s + int(arguments[4]) / 1000)
        return "OK"

    def _script(self, digest: bytes, keys: int, arguments: Sequence[bytes], *, is_asking: bool) -> Any:
        script = self.scripts.get(digest)
        if script is None:
            raise Refusal("NOSCRIPT No matching script.")
        for key in arguments[:keys]:
            self._check_place(key, is_asking=is_asking)
        flags = script.split(b"\n", 1)[0]
        is_over_full = b"allow-oom" in flags
        if self.is_full and flags.startswith(b"#!") and not is_over_full:
            raise Refusal(FULL)

        def call(*command: Any) -> Any:
            words = [b"%d" % word if isinstance(word, int | float) else word for word in command]
            name = words[0].upper()
            if not keys:
                self._check_place(words[1], is_asking=is_asking, in_script=True)
            answer = self._on_key(name, words, is_over_full=is_over_full)
            return False if answer is None else answer.encode() if isinstance(answer, str) else answer

        def pcall(*command: Any) -> Any:
            try:
                return call(*command)
            except Refusal as error:
                return _to_error(str(error).encode())

        answer = _compiled(script)(_api(call, pcall), _table(*arguments[:keys]), _table(*arguments[keys:]))
        return None if answer is False else answer


class _Connection(asyncio.Protocol):
    """A client's connection: reads commands, and answers each after a time."""

    def __init__(self, server: Valkey) -> None:
        self._server = server
        self._buffer = b""
        self._is_asking = self._is_waiting = False
        self._replicated_s = 0.0  # when the replica has what this connection has changed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on([])

    def _go_on(self, answers: list[bytes]) -> None:
        """Run the commands that have come, up to a WAIT that waits."""
        server = self._server
        while not self._is_waiting and (parsed := _command(self._buffer)) is not None:
            command, self._buffer = parsed
            if command[0].upper() == b"WAIT":
                self._wait(int(command[2]) / 1000)
                continue
            draw = server.world.random.random() if server.fail_share else 1.0
            if draw < server.fail_share / 2:
                self._transport.abort()  # nothing was run
                return
            is_asking, self._is_asking = self._is_asking, command[0].upper() == b"ASKING"
            changes = server.changes
            try:
                answer = server.run(command, is_asking=is_asking)
            except Refusal as error:
                answer = error
            if server.changes > changes:
                self._replicated_s = server.replicated_s
            if draw < server.fail_share:
                self._transport.abort()  # it was run, and nobody learns of it
                return
            answers.append(_packed(answer))
        if answers:
            self._transport.write(b"".join(answers))

    def _wait(self, timeout_s: float) -> None:
        """Answer how many replicas have this connection's changes, once that is one, or after a time."""
        now_s = self._server.world.now_s
        due_s = min(self._replicated_s, now_s + timeout_s)
        count = int(self._server.has_replica and self._replicated_s <= due_s)
        self._is_waiting = True
        self._server.process.call_later(max(0.0, due_s - now_s), self._waited, count)

    def _waited(self, count: int) -> None:
        self._is_waiting = False
        self._go_on([_packed(count)])


def _command(buffer: bytes) -> tuple[list[bytes], bytes] | None:
    """Read a command from the front of a buffer; None if it is not complete."""
    head, separator, rest = buffer.partition(b"\r\n")
    if not separator:
        return None
    words = []
    for _ in range(int(head[1:])):
        length, separator, rest = rest.partition(b"\r\n")
        if not separator or len(rest) < int(length[1:]) + 2:
            return None
        end = int(length[1:])
        words.append(rest[:end])
        rest = rest[end + 2 :]
    return words, rest


def _packed(answer: Any) -> bytes:
    if isinstance(answer, Exception):
        return b"-%b\r\n" % str(answer).encode()
    if answer is None:
        return b"_\r\n"
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, str):
        return b"+%b\r\n" % answer.encode()
    if isinstance(answer, bytes):
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    if isinstance(answer, dict):
        return b"%%%d\r\n%b" % (len(answer), b"".join(_packed(one) for pair in answer.items() for one in pair))
    return b"*%d\r\n%b" % (len(answer), b"".join(map(_packed, answer)))


class Cluster:
    """Some servers that share the slots. A replica takes over for each primary that dies.

    Attributes:
        owners: the primary of each slot.
        migrating: slots on the way, with their target.
    """

    def __init__(self, network: Network, nodes: int) -> None:
        self.network, self.world = network, network.world
        self.migrating: dict[int, Valkey] = {}
        self.nodes = [Valkey(network, f"node{number}", self) for number in range(nodes)]
        size = SLOTS // nodes + 1
        self.owners = [self.nodes[slot // size] for slot in range(SLOTS)]
        self._slots: list[Any] | None = None  # the answer, until an owner changes

    def slots_reply(self) -> list[Any]:
        """Answer ``CLUSTER SLOTS``."""
        if self._slots is not None:
            return self._slots
        reply: list[Any] = []
        first = 0
        for slot in range(1, SLOTS + 1):
            if slot == SLOTS or self.owners[slot] is not self.owners[first]:
                owner = self.owners[first]
                reply.append([first, slot - 1, [owner.name.encode(), PORT, owner.name.encode()]])
                first = slot
        self._slots = reply
        return reply

    def move_some(self) -> None:
        """Migrate the slots of some keys to another node, key by key."""
        random = self.world.random
        keys = [key for node in self.nodes for key in node.data]
        for slot in {key_slot(key) for key in random.sample(keys, min(3, len(keys)))}:
            target = random.choice(self.nodes)
            if target is self.owners[slot] or slot in self.migrating or not target.is_primary:
                continue
            self.migrating[slot] = target
            self.world.after(random.uniform(0.01, 1.0), lambda slot=slot: self._move_some(slot))  # type: ignore[misc]

    def _move_some(self, slot: int) -> None:
        source, target = self.owners[slot], self.migrating[slot]
        if not (source.is_primary and target.is_primary):
            self.world.after(0.5, lambda: self._move_some(slot))
            return
        for key in [key for key in source.data if key_slot(key) == slot]:
            target.data[key] = source.data.pop(key)
        self.world.after(self.world.random.uniform(0.0, 0.5), lambda: self._moved(slot))

    def _moved(self, slot: int) -> None:
        target = self.migrating[slot]
        if not target.is_primary:
            self.world.after(0.5, lambda: self._moved(slot))
            return
        self.owners[slot] = self.migrating.pop(slot)
        self._slots = None

    def fail_over(self, node: Valkey, until_s: float) -> None:
        """Kill a node; its replica takes over its slots later, with all that it confirmed."""
        node.crash(is_silent=self.world.random.random() < 0.5)
        heir = Valkey(self.network, f"{node.name}b{node.starts}", self)
        self.nodes[self.nodes.index(node)] = heir
        heir.is_replica = True

        def take_over() -> None:
            heir.is_replica = False
            heir.data = node.data
            self.owners = [heir if owner is node else owner for owner in self.owners]
            self._slots = None
            self.migrating = {slot: heir if to is node else to for slot, to in self.migrating.items()}
            node.data, node.is_replica = {}, True
            node.start()  # it is back, as a replica

        self.world.after(until_s, take_over)
