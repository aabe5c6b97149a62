"""Connections without a socket, and the bytes that go over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

PING = b"\x89\0"  # a WebSocket frame
MASK = np.frombuffer(b"\x37\xfa\x21\x3d", np.uint8)


class Answers:
    """The answers that are still missing in a round."""

    def __init__(self) -> None:
        self.expect(0)

    def expect(self, count: int) -> None:
        self._missing = count
        self._all_here = asyncio.get_running_loop().create_future()

    def add(self, count: int) -> None:
        self._missing -= count
        if self._missing <= 0 and not self._all_here.done():
            self._all_here.set_result(None)

    def fail(self, reason: str) -> None:
        if not self._all_here.done():
            self._all_here.set_exception(RuntimeError(reason))

    async def wait(self) -> None:
        await self._all_here


class Wire:
    """A connection without a socket: what a transport of asyncio is to the server's protocol.

    Args:
        answers: of all connections.
        count: how many answers a piece of output completes.

    Attributes:
        count: see above.
        written: what the server has written.
    """

    def __init__(self, answers: Answers, count: Callable[[bytes], int]) -> None:
        self.count = count
        self.written: list[bytes] = []
        self._answers = answers
        self._protocol: Any = None

    def connect(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    def send(self, data: bytes) -> None:
        """Hand bytes to the server, as its event loop does."""
        self._protocol.data_received(data)

    def hang_up(self) -> None:
        self._protocol.connection_lost(None)

    def take(self) -> bytes:
        """Take what was written since the last call."""
        written = b"".join(self.written)
        self.written.clear()
        return written

    def write(self, data: bytes) -> None:
        if data == PING:  # on a slow machine
            return
        self.written.append(data)
        if count := self.count(data):
            self._answers.add(count)

    def writelines(self, parts: Sequence[bytes]) -> None:
        self.write(b"".join(parts))

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 5_555), "sockname": ("127.0.0.1", 8_000)}.get(name, default)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, *_: Any, **__: Any) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self._answers.fail(f"the server closed a connection after {b''.join(self.written)[-500:]!r}")

    abort = close


def ends_object(data: bytes) -> int:
    """Count a complete JSON object: each answer over HTTP and ``/stream`` ends with one."""
    return data[-1:] == b"}"


def ends_response(data: bytes) -> int:
    return data[-1:] == b"}" or data[-4:] == b"\r\n\r\n"


def rows(data: bytes) -> int:
    """Count the rows of a frame of ``/streams``."""
    at = head_bytes(data) + 4
    return int.from_bytes(data[at : at + 4], "little")


def head_bytes(data: bytes) -> int:
    """Measure the head of a server's WebSocket frame."""
    return {126: 4, 127: 10}.get(data[1], 2)


def frame(payload: bytes) -> bytes:
    """Make a client's binary WebSocket frame."""
    size = len(payload)
    length = (
        bytes([0x80 | size])
        if size < 126
        else b"\xfe" + size.to_bytes(2)
        if size < 2**16
        else b"\xff" + size.to_bytes(8)
    )
    masked = np.frombuffer(payload, np.uint8) ^ np.resize(MASK, size)
    return b"\x82" + length + MASK.tobytes() + masked.tobytes()
