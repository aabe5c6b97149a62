"""A relay in front of a server. It cuts connections, also after so many bytes, and loses answers."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

T = TypeVar("T")

HOST = "127.0.0.1"


class Relay:
    """Forwards connections to a port of this machine, on a thread of its own.

    Args:
        target_port: where the server listens.
        cuts: bytes, in both directions together, after which each connection is cut, every second one with a reset;
            those after are not.

    Attributes:
        port: where it listens, after the start.
        answers_lost: number of answers lost so far.
    """

    def __init__(self, target_port: int, cuts: Sequence[int] = ()) -> None:
        self.port = 0
        self.answers_lost = 0
        self._target_port = target_port
        self._cuts = list(cuts)
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lose(self) -> None:
        """Forward no more answers on the present connections."""

        def lose() -> None:
            for pair in self._pairs:
                pair.loses = True

        self._on_loop(lose)

    def cut(self) -> int:
        """Break all connections. Their number."""

        def cut() -> int:
            pairs = list(self._pairs)
            for pair in pairs:
                pair.abort()
            return len(pairs)

        return self._on_loop(cut)

    def _on_loop(self, act: Callable[[], T]) -> T:
        async def acting() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(acting(), self._loop).result()

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: _Near(self), HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        listening = () if self._server is None else self._server.sockets
        for one in listening:  # a server that is closed would leak what it has accepted and not made yet
            self._loop.remove_reader(one)
        # connections that are being made belong to tasks, of this class or of asyncio's server
        while making := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(making)
        if self._server is not None:
            self._server.close()
        for pair in list(self._pairs):
            pair.abort()
        await asyncio.sleep(0)  # the transports close in the next turn

    # the connections call these

    def opened(self, near: asyncio.Transport) -> _Pair:
        self._connections += 1
        pair = _Pair(self, near, self._cuts.pop(0) if self._cuts else None, resets=self._connections % 2 == 1)
        self._pairs.add(pair)
        task = self._loop.create_task(self._connect(pair))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return pair

    def closed(self, pair: _Pair) -> None:
        self._pairs.discard(pair)

    async def _connect(self, pair: _Pair) -> None:
        try:
            await self._loop.create_connection(lambda: _Far(pair), HOST, self._target_port)
        except OSError:
            pair.abort()


@contextmanager
def relayed(target_port: int, cuts: Sequence[int]) -> Iterator[Relay]:
    """A relay that cuts connections after so many bytes."""
    relay = Relay(target_port, cuts=cuts)
    relay.start()
    try:
        yield relay
    finally:
        relay.close()


class _Pair:
    """A client's connection with its connection to the server.

    Args:
        near: the client's connection.
        left: bytes until it is cut; None never.
        resets: whether it is then reset, or has an orderly end.
    """

    def __init__(self, relay: Relay, near: asyncio.Transport, left: int | None, *, resets: bool) -> None:
        self._relay = relay
        self._near = near
        self._left = left
        self._resets = resets
        self._far: asyncio.Transport | None = None
        self._early = b""
        self._is_aborted = self._is_cut = False
        self.loses = False

    def abort(self) -> None:
        self._is_aborted = True
        self._relay.closed(self)
        self._near.abort()
        if self._far is not None:
            self._far.abort()

    def connected(self, far: asyncio.Transport) -> None:
        self._far = far
        if self._is_aborted:  # while it was being made
            far.abort()
        else:
            far.write(self._early)
            self._cut_if_due()

    def received(self, data: bytes) -> None:
        data = self._let_through(data)
        if self._far is None:
            self._early += data
        else:
            self._far.write(data)
            self._cut_if_due()

    def answered(self, data: bytes) -> None:
        if self.loses:
            self._relay.answers_lost += 1
        else:
            self._near.write(self._let_through(data))
            self._cut_if_due()

    def _let_through(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        data = data[: self._left]
        self._left -= len(data)
        return data

    def _cut_if_due(self) -> None:
        if self._left != 0 or self._far is None or self._is_cut:
            return
        self._is_cut = True
        for transport in (self._near, self._far):
            if self._resets:
                linger = struct.pack("ii", 1, 0)
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                transport.abort()
            else:
                transport.close()


class _Near(asyncio.Protocol):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pair = self._relay.opened(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._pair.received(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._pair.abort()


class _Far(asyncio.Protocol):
    def __init__(self, pair: _Pair) -> None:
        self._pair = pair

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pair.connected(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._pair.answered(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._pair.abort()
