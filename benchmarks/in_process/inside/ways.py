"""The ways of chunks into the engine: over the server's interfaces, and without a server."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from typing import Any, Protocol

import numpy as np

from .checkout import STEPS, Checkout, Spikes
from .wire import Answers, Wire, ends_object, ends_response, frame, head_bytes, rows

UPGRADE = (
    "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: hetsyn.v1\r\n\r\n"
)
PING = b"\x89\x00"  # of a server, to a connection that is slow


class Absent(Exception):
    """The checkout has no such interface."""


class Way(Protocol):
    """A way for chunks into the engine."""

    async def open(self) -> None: ...

    def prepare(self, number: int) -> Any:
        """Make what a round sends, outside of the measured time."""

    async def run(self, prepared: Any) -> None:
        """Have a chunk of each session answered."""

    def check(self) -> None:
        """Check the answers of the last round."""

    def close(self) -> None: ...


class Connected:
    """A way over connections; a subclass says what is sent, and when an answer is complete."""

    def __init__(self, checkout: Checkout, connect: Callable[[], Any], model: str, contents: list[Any], at_a_time: int):
        self.checkout, self.model, self.contents, self.at_a_time = checkout, model, contents, at_a_time
        self.answers = Answers()
        self.wires: list[Wire] = []
        self._connect = connect

    def content(self, session: int, number: int) -> Any:
        return self.contents[(session + number) % len(self.contents)]

    def session(self, index: int) -> str:
        """Give an id that no other cell has."""
        return f"{type(self).__name__}-{self.model}-{self.at_a_time}-{index}"

    def connect(self, count: int) -> None:
        for _ in range(count):
            wire = Wire(self.answers, ends_object)
            wire.connect(self._connect())
            self.wires.append(wire)

    async def run(self, prepared: list[bytes]) -> None:
        self.answers.expect(self.at_a_time)
        for wire, data in zip(self.wires, prepared, strict=True):
            wire.send(data)
        await self.answers.wait()
        await _turn()  # what the server does after it has written is part of the cost
        await _turn()

    async def shake_hands(self, path: str, query: str, *, has_greeting: bool) -> None:
        """Make WebSockets of all connections.

        Args:
            has_greeting: the server sends a message first.
        """
        self.answers.expect(len(self.wires))
        for wire in self.wires:
            wire.count = ends_object if has_greeting else ends_response
            encoding = "events" if self.model == "shd-size" else f"pcm_s16le&sample_rate={self.contents[0].rate_hz}"
            request = f"GET {path}?model={self.model}&encoding={encoding}{query} HTTP/1.1\r\n{UPGRADE}"
            wire.send(request.encode())
        await self.answers.wait()
        for wire in self.wires:
            head = wire.take()
            if head.startswith(b"HTTP/1.1 404"):
                raise Absent
            if not head.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(f"{path}: the server answered the handshake with {head[:500]!r}")

    def close(self) -> None:
        for wire in self.wires:
            wire.hang_up()


class Infer(Connected):
    """``POST /infer``: a connection for each session."""

    async def open(self) -> None:
        self.connect(self.at_a_time)

    def prepare(self, number: int) -> list[bytes]:
        return [self._request(session, number) for session in range(self.at_a_time)]

    def _request(self, session: int, number: int) -> bytes:
        content = self.content(session, number)
        if isinstance(content, Spikes):
            kind, body = self.checkout.events_type, self.checkout.pack_events(STEPS, content.step, content.unit)
        else:
            # a type that every checkout reads
            kind, body = f"audio/L16;rate={content.rate_hz};endianness=little-endian", content.samples.tobytes()
        model = "" if number else f"&model={self.model}"
        head = (
            f"POST /infer?session={self.session(session)}&seq={number}{model} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + bytes(body)

    def check(self) -> None:
        for answer in (wire.take() for wire in self.wires):
            if not answer.startswith(b"HTTP/1.1 200") or b'"probabilities"' not in answer:
                raise RuntimeError(f"/infer was answered with {answer[:800]!r}")


class Stream(Connected):
    """``/stream``: a connection for each session."""

    async def open(self) -> None:
        self.connect(self.at_a_time)
        await self.shake_hands("/stream", "&endpointing=off", has_greeting=True)

    def prepare(self, number: int) -> list[bytes]:
        return [frame(self._message(self.content(session, number))) for session in range(self.at_a_time)]

    def _message(self, content: Any) -> bytes:
        if isinstance(content, Spikes):
            packed: bytes = self.checkout.pack_events(STEPS, content.step, content.unit)
            return packed
        sound: bytes = content.samples.tobytes()
        return sound

    def check(self) -> None:
        for answer in (wire.take() for wire in self.wires):
            if b'"probabilities"' not in answer:
                raise RuntimeError(f"/stream was answered with {answer[:800]!r}")


class Streams(Connected):
    """``/streams``: all sessions on one connection, a frame with a chunk of each."""

    async def open(self) -> None:
        self.connect(1)
        await self.shake_hands("/streams", "", has_greeting=False)
        self.wires[0].count = rows
        await self.run([frame(self.checkout.pack_sessions([self.session(index) for index in range(self.at_a_time)]))])
        self.check()

    def prepare(self, number: int) -> list[bytes]:
        contents = [self.content(session, number) for session in range(self.at_a_time)]
        return [frame(self.checkout.pack_chunks(number, contents))]

    def check(self) -> None:
        answer = self.wires[0].take().removeprefix(PING)
        begin = head_bytes(answer)
        count = rows(answer)
        # results: seq u64, total_steps u64, handle u32, action u32, status u32; opened: next_seq, total_steps, handle
        before = 24 if answer[begin : begin + 4] == b"HSR1" else 20
        status = np.frombuffer(answer, "<u4", count, begin + 16 + before * count)
        if not (status == 200).all():
            raise RuntimeError(f"/streams was answered with {answer[-800:]!r}")


class Alone:
    """The engine alone, without a server."""

    def __init__(self, checkout: Checkout, model: str, contents: list[Any], at_a_time: int) -> None:
        self._model = checkout.model(model)
        self._engine, self._work, initial_stream = checkout.engine
        self._chunks = [checkout.chunk(content) for content in contents]
        self._streams = [initial_stream(*self._model) for _ in range(at_a_time)]
        self._outcomes: list[Any] = []

    async def open(self) -> None: ...

    def prepare(self, number: int) -> list[Any]:
        chunks = [self._chunks[(index + number) % len(self._chunks)] for index in range(len(self._streams))]
        return [self._work(stream, chunk, False) for stream, chunk in zip(self._streams, chunks, strict=True)]

    async def run(self, prepared: list[Any]) -> None:
        self._outcomes = self._engine.run(*self._model, prepared)

    def check(self) -> None:
        if any(isinstance(outcome, Exception) for outcome in self._outcomes):
            raise RuntimeError(f"the engine gave {self._outcomes}")
        self._streams = [outcome.stream for outcome in self._outcomes]

    def close(self) -> None: ...


WAYS: dict[str, Callable[..., Way]] = {"/infer": Infer, "/stream": Stream, "/streams": Streams}


@types.coroutine
def _turn() -> Generator[None, None, None]:
    """Let the event loop go round once."""
    yield
