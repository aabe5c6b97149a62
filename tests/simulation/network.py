"""Connections between simulated processes: bytes that arrive later, in pieces, or never.

The bytes of a connection arrive in order. Processes can be cut off from each other: what is under way then arrives
after the cut, as TCP would send it again. If a process is killed, its peers get a reset; if its host loses power, they
get nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulation.loop import Process, World

HIGH_WATER_BYTES = 64 * 1024
Factory = Callable[[], asyncio.BaseProtocol]


class Network:
    """All connections of a world.

    Attributes:
        store_s: mean time of a message to or from a store, besides the latency.
        cuts: pairs of names of processes that do not reach each other, and until when.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.store_s = 0.0
        self.cuts: dict[frozenset[str], float] = {}
        self._listeners: dict[tuple[str, int], tuple[Process, Factory]] = {}
        self.ends: list[End] = []
        self.processes: list[Process] = []
        self.latest: dict[str, Process] = {}  # by name

    def process(self, name: str) -> Process:
        """Make a process that can connect."""
        process = Process(self.world, name)
        self.processes.append(process)
        self.latest[name] = process
        process.connect = lambda factory, host, port: self._connected(process, factory, str(host), int(port))
        return process

    def listen(self, host: str, port: int, process: Process, factory: Factory) -> None:
        self._listeners[host, port] = process, factory

    def deaf(self, host: str, port: int) -> None:
        """Refuse new connections at an address."""
        self._listeners.pop((host, port), None)

    def cut(self, one: str, other: str, duration_s: float) -> None:
        """Cut two processes off from each other."""
        pair = frozenset((one, other))
        self.cuts[pair] = max(self.cuts.get(pair, 0.0), self.world.now_s + duration_s)

    def cut_until_s(self, one: str, other: str) -> float:
        return self.cuts.get(frozenset((one, other)), 0.0) if self.cuts else 0.0

    def arrival_s(self, sender: Process, receiver: Process) -> float:
        """Draw when something arrives that is sent now."""
        slow_s = sender.slow_s + receiver.slow_s
        more_s = self.world.random.expovariate(1 / slow_s) if slow_s else 0.0
        return max(self.world.now_s, self.cut_until_s(sender.name, receiver.name)) + self.world.latency_s() + more_s

    async def _connected(self, process: Process, factory: Factory, host: str, port: int) -> Any:
        """Connect, as ``loop.create_connection``; ConnectionRefusedError if nobody listens."""
        found = self._listeners.get((host, port))
        connected = process.create_future()
        if found is None:
            self.world.after(self.world.latency_s(), lambda: _settle(process, connected))
            await connected
            raise ConnectionRefusedError(111, f"nobody listens on {host}:{port}")
        peer, accept = found

        def arrive() -> None:
            if peer.is_paused:  # the system's queue takes it
                self.world.after(self.world.latency_s(), arrive)
            elif (host, port) not in self._listeners or peer.is_dead:
                self.world.after(self.world.latency_s(), lambda: _settle(process, connected, ConnectionRefusedError()))
            else:
                near, far = End(self, process, (host, port)), End(self, peer, (process.address, 50_000))
                near.peer, far.peer = far, near
                self.ends += near, far
                with peer.running():
                    far.open(accept())
                self.world.at(self.arrival_s(peer, process), lambda: _settle(process, connected, near))

        self.world.at(self.arrival_s(process, peer), arrive)
        try:
            end = await connected
        except asyncio.CancelledError:
            if connected.done() and not connected.cancelled() and connected.exception() is None:
                connected.result().abort()
            raise
        protocol = factory()
        end.open(protocol)
        return end, protocol

    def reset(self, process: Process) -> None:
        """Reset all connections of a process."""
        for end in self.ends:
            if end.process is process:
                end.abort()

    def crash(self, process: Process, *, is_silent: bool) -> None:
        """Kill a process. Its peers get a reset, unless it is silent, as a host without power."""
        for address, (owner, _) in list(self._listeners.items()):
            if owner is process:
                del self._listeners[address]
        process.kill()
        for end in self.ends:
            if end.process is process:
                end.die(is_silent=is_silent)
        self.ends = [end for end in self.ends if not (end.is_over and end.peer.is_over)]


def _settle(process: Process, future: asyncio.Future[Any], value: Any = None) -> None:
    if process.is_dead:
        return

    def settle() -> None:
        if future.done():
            if isinstance(value, End):
                value.abort()
        elif isinstance(value, Exception):
            future.set_exception(value)
        else:
            future.set_result(value)

    process.call_soon(settle)


class End(asyncio.Transport):
    """One end of a connection.

    Attributes:
        peer: the other end.
        is_over: ``connection_lost`` was called, or its process is dead.
    """

    peer: End

    def __init__(self, network: Network, process: Process, address: tuple[str, int]) -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.is_over = False
        self._address = address
        self._protocol: Any = None
        self._is_closing = self._is_reading_paused = self._is_writing_paused = False
        self._early: list[bytes | None] = []  # arrived before it was open, or while reading is paused; None is the end
        self._unsent_bytes = 0  # written, and not taken by the peer
        self._high_bytes, self._low_bytes = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        self._wire: deque[bytes | None] = deque()  # under way to the peer

    def open(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)
        self._take_early()

    # what a protocol calls

    def write(self, data: Any) -> None:
        if self._is_closing or self.is_over or not data:
            return
        content = bytes(data)
        self._unsent_bytes += len(content)
        draw = self.network.world.random.random()
        if draw < 0.05 and len(content) > 1:  # it arrives in two pieces
            at = 1 + int(draw * 20 * (len(content) - 1))
            self._send(content[:at])
            self._send(content[at:])
        else:
            self._send(content)
        if self._unsent_bytes > self._high_bytes and not self._is_writing_paused:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._send(None)

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = self._is_reading_paused = True
            self._send(None)
            if not self._unsent_bytes:
                self._lose(None)

    def abort(self) -> None:
        if not self.is_over:
            self._is_closing = True
            self._reset()
            self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        self._is_reading_paused = self._is_closing
        self.process.call_soon(self._take_early)

    def is_reading(self) -> bool:
        return not self._is_reading_paused

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_bytes = HIGH_WATER_BYTES if high is None else high
        self._low_bytes = self._high_bytes // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return max(0, self._unsent_bytes - HIGH_WATER_BYTES)  # the system's buffers take the rest

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": self._address, "sockname": (self.process.name, 80)}.get(name, default)

    # what happens to it

    def die(self, *, is_silent: bool) -> None:
        """End with its process."""
        self.is_over = self._is_closing = True
        if not is_silent:
            self._reset()

    def _send(self, content: bytes | None) -> None:
        """Let bytes arrive at the peer, after those before. None is the end."""
        self._wire.append(content)
        self.network.world.at(self.network.arrival_s(self.process, self.peer.process), self._arrive)

    def _arrive(self) -> None:
        """Let what was sent first arrive. While the two are cut off, it waits."""
        until_s = self.network.cut_until_s(self.process.name, self.peer.process.name)
        if until_s > self.network.world.now_s:
            self.network.world.at(until_s, self._arrive)
        elif self.peer.process.is_dead and not self.network.latest[self.peer.process.name].is_dead:
            self._wire.clear()  # a host that is up again knows nothing of the connection
            self.network.world.after(self.network.world.latency_s(), self._broken)
        else:
            self.peer._arrived(self._wire.popleft())

    def _reset(self) -> None:
        peer = self.peer
        arrival_s = self.network.arrival_s(self.process, peer.process)
        self.network.world.at(arrival_s, lambda: peer._broken())

    def _broken(self) -> None:
        if not self.is_over and not self.process.is_dead:
            self._is_closing = True
            self._lose(ConnectionResetError(104, "the connection was reset"))

    def _arrived(self, content: bytes | None) -> None:
        if self.is_over:
            if content is not None and not self.process.is_dead:
                self._reset()  # nobody will read it
            return
        self._early.append(content)
        self.process.call_soon(self._take_early)

    def _take_early(self) -> None:
        while self._early and self._protocol is not None and not self.is_over:
            if self._is_reading_paused and not self._is_closing:
                return
            content = self._early.pop(0)
            if content is None:
                if not self._is_closing and not self._protocol.eof_received():
                    self.close()
                continue
            self.peer._taken(len(content))
            if not self._is_closing:
                self._protocol.data_received(content)

    def _taken(self, count: int) -> None:
        """Learn that the peer has taken bytes."""
        if self.is_over:
            return
        self._unsent_bytes -= count
        if self._is_writing_paused and self._unsent_bytes <= self._low_bytes:
            self._is_writing_paused = False
            self.process.call_soon(self._resume_writing)
        if self._is_closing and not self._unsent_bytes:
            self._lose(None)

    def _resume_writing(self) -> None:
        if not self.is_over:
            self._protocol.resume_writing()

    def _lose(self, error: Exception | None) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._protocol is not None:
            self.process.call_soon(self._protocol.connection_lost, error)
