"""Moves a client's connection to another worker: its file descriptor and the bytes that have come, in one datagram."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

log = logging.getLogger("hetsyn.workers")

LONGEST_BYTES = 128 * 1024  # of what has come; a datagram takes no more than the system's send buffer
MOST_WAITING = 1_024  # connections that the other worker has not taken yet

Factory = Callable[[], asyncio.Protocol]


class Sender:
    """Hands connections to one other worker.

    Args:
        path: of that worker's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._waiting: deque[tuple[bytes, int]] = deque()

    def send(self, fd: int, data: bytes) -> bool:
        """Hand a connection over; whether the other worker gets it. The caller closes its own end then.

        Args:
            fd: of the connection.
            data: that has come on it, and not been answered.
        """
        if len(data) > LONGEST_BYTES or len(self._waiting) >= MOST_WAITING:
            return False
        if self._waiting:  # in order
            self._waiting.append((data, os.dup(fd)))
            return True
        try:
            self._send(data, fd)
        except BlockingIOError:
            assert self._socket is not None
            self._waiting.append((data, os.dup(fd)))
            asyncio.get_running_loop().add_writer(self._socket, self._send_on)
        except OSError:
            self._disconnect()
            return False
        return True

    def close(self) -> None:
        """Drop what waits."""
        self._disconnect()

    def _send(self, data: bytes, fd: int) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST_BYTES)
            self._socket.connect(str(self._path))
        try:
            socket.send_fds(self._socket, [data], [fd])
        except ConnectionRefusedError:  # the worker was restarted, and has a new socket
            self._socket.connect(str(self._path))
            socket.send_fds(self._socket, [data], [fd])

    def _send_on(self) -> None:
        while self._waiting:
            data, fd = self._waiting[0]
            try:
                self._send(data, fd)
            except BlockingIOError:
                return
            except OSError:  # the worker has died: its connections break, as those that it had
                self._disconnect()
                return
            self._waiting.popleft()
            os.close(fd)
        assert self._socket is not None
        asyncio.get_running_loop().remove_writer(self._socket)

    def _disconnect(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        while self._waiting:
            os.close(self._waiting.popleft()[1])


class Receiver:
    """Takes connections from other workers.

    Args:
        path: of this worker's socket; a socket that an earlier process has left there is replaced.
        factory: makes the protocol of a connection.
    """

    def __init__(self, path: Path, factory: Factory) -> None:
        self._factory = factory
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * LONGEST_BYTES)
        with suppress(FileNotFoundError):
            path.unlink()
        self._socket.bind(str(path))
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Take no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _receive(self) -> None:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, LONGEST_BYTES, 1)
            except BlockingIOError:
                return
            for fd in fds:
                task = asyncio.get_running_loop().create_task(self._take(socket.socket(fileno=fd), data))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _take(self, connected: socket.socket, data: bytes) -> None:
        try:
            connected.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: _Resumed(self._factory, data), connected)
        except OSError as error:  # such as: the client has gone
            log.debug("a connection could not be taken over: %s", error)
            connected.close()


class _Resumed(asyncio.Protocol):
    """Gives a connection's protocol the bytes that have come before those that the transport reads."""

    def __init__(self, factory: Factory, data: bytes) -> None:
        self._factory = factory
        self._data = data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        protocol = self._factory()
        cast(asyncio.Transport, transport).set_protocol(protocol)  # uvloop's are no subclass
        protocol.connection_made(transport)
        protocol.data_received(self._data)
