"""A relay in front of a store, which loses answers: the store has executed a command, and no client learns of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")

HOST = "127.0.0.1"


class Relay:
    """Forwards connections to a port of this machine, on a thread of its own.

    Attributes:
        port: where it listens.
        answers_lost: number of answers lost so far.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.answers_lost = 0
        self._target_port = target_port
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

    async def _end(self) -> None:
        listening = () if self._server is None else self._server.sockets
        for socket in listening:  # a server that is closed would leak what it has accepted and not made yet
            self._loop.remove_reader(socket)
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
        pair = _Pair(self, near)
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


class _Pair:
    """A client's connection with its connection to the store."""

    def __init__(self, relay: Relay, near: asyncio.Transport) -> None:
        self._relay = relay
        self._near = near
        self._far: asyncio.Transport | None = None
        self._early = b""
        self._is_aborted = False
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

    def received(self, data: bytes) -> None:
        if self._far is None:
            self._early += data
        else:
            self._far.write(data)

    def answered(self, data: bytes) -> None:
        if self.loses:
            self._relay.answers_lost += 1
        else:
            self._near.write(data)


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
