"""Load on a server of streams: connections that are kept, a closed loop and an open loop.

Lean on purpose: the load shares the machine's cores with the server that it measures.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.server_process import ServerProcess, machine_cpu_s

CHUNKS_A_SESSION = 40  # in the closed loop: 4 s of stream at 25 steps of 4 ms
WARM_UP_S = 0.5


class Target(Protocol):
    """How a server is spoken to."""

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> bytes:
        """A whole HTTP request that applies a chunk, packed events, number ``seq`` (from 0), to a session."""
        ...

    def probabilities(self, body: bytes) -> NDArray[np.float32]:
        """What a reply says of the session so far."""
        ...


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes


class LoadError(Exception):
    """A reply other than 200, or none."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection, one exchange at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head = b""
        self._missing = -1  # bytes of the body; below 0 while the head is being read
        self._waiting: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def exchange(self, request: bytes) -> Reply:
        assert self._transport is not None
        if self._transport.is_closing():
            raise LoadError("the server closed the connection")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._missing < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            length = _header(self._head, b"content-length")
            if not length:
                self._fail(LoadError(f"a reply without Content-Length: {self._head[:200]!r}"))
                return
            self._missing = int(length)
        if len(self._buffer) >= self._missing and self._waiting is not None:
            body = bytes(self._buffer[: self._missing])
            del self._buffer[: self._missing]
            self._missing = -1
            waiting, self._waiting = self._waiting, None
            if not waiting.done():
                waiting.set_result(Reply(int(self._head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(LoadError(f"the connection was lost: {exc or 'closed by the server'}"))

    def _fail(self, error: LoadError) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


def _header(head: bytes, name: bytes) -> bytes:
    """A header's value, or nothing; ``name`` in small letters."""
    start = head.lower().find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


@dataclass(frozen=True)
class Load:
    """What a stretch of load showed.

    p50_ms, p99_ms: of the latency. cpu_ms: the server's CPU time a chunk. others_cores: how many cores were busy with
    anything but the server and the load; a figure from a disturbed machine can be told by it.
    """

    chunks_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    others_cores: float


class Stopwatch:
    """Time and CPU time from now on."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._began = self._now()

    def stop(self, latencies_s: Sequence[float]) -> Load:
        took_s, server_s, load_s, machine_s = (b - a for a, b in zip(self._began, self._now(), strict=True))
        chunks = len(latencies_s)
        p50, p99 = np.percentile(np.array(latencies_s), [50, 99]) if chunks else (np.inf, np.inf)
        others = max(0.0, machine_s - server_s - load_s) / took_s
        return Load(chunks / took_s, 1e3 * float(p50), 1e3 * float(p99), 1e3 * server_s / max(1, chunks), others)

    def _now(self) -> tuple[float, float, float, float]:
        return time.perf_counter(), self._server.cpu_s(), time.process_time(), machine_cpu_s()


def make_chunks(count: int, steps: int, channels: int, density: float, seed: int = 0) -> list[bytes]:
    """Seeded chunks of packed events, each channel firing with this probability a step."""
    # the client's own packing: only the load imports the service, never the peers
    from service.packed_events import pack_events

    rng = np.random.default_rng(seed)
    chunks = []
    for _ in range(count):
        times, units = np.nonzero(rng.random((steps, channels)) < density)
        chunks.append(pack_events(steps, times, units))
    return chunks


async def apply(
    target: Target, connection: Connection, session: str, seq: int, chunk: bytes, *, is_last: bool
) -> Reply:
    """
    Raises:
        LoadError: a reply other than 200, or none.
    """
    reply = await connection.exchange(target.request(session, seq, chunk, is_last=is_last))
    if reply.status != 200:
        raise LoadError(f"{reply.status}: {reply.body[:300]!r}")
    return reply


async def answers(target: Target, port: int, sessions: int, chunks: Sequence[bytes]) -> NDArray[np.float32]:
    """Probabilities [session, chunk, outputs] of sessions that take turns, so that a mixed-up state shows.

    Session s hears the chunks from the s-th on.
    """
    connection = await Connection.open(port)
    heard: list[list[NDArray[np.float32]]] = [[] for _ in range(sessions)]
    try:
        for seq in range(len(chunks)):
            for s in range(sessions):
                chunk = chunks[(s + seq) % len(chunks)]
                is_last = seq + 1 == len(chunks)
                reply = await apply(target, connection, f"answers-{s}", seq, chunk, is_last=is_last)
                heard[s].append(target.probabilities(reply.body))
    finally:
        connection.close()
    return np.array(heard)


async def closed_loop(
    target: Target, server: ServerProcess, concurrency: int, duration_s: float, chunks: Sequence[bytes]
) -> Load:
    """``concurrency`` sessions at a time, each sending its next chunk when the last is answered."""
    latencies_s: list[float] = []
    names = _session_names()
    measuring = stopping = False

    async def client(connection: Connection, place: int) -> None:
        while not stopping:
            session = next(names)
            seq, is_last = 0, False
            while not is_last:
                is_last = stopping or seq + 1 == CHUNKS_A_SESSION
                sent_s = time.perf_counter()
                chunk = chunks[(place + seq) % len(chunks)]
                await apply(target, connection, session, seq, chunk, is_last=is_last)
                if measuring:
                    latencies_s.append(time.perf_counter() - sent_s)
                seq += 1

    connections = [await Connection.open(server.port) for _ in range(concurrency)]
    clients = [asyncio.create_task(client(connection, place)) for place, connection in enumerate(connections)]
    try:
        await _pause(clients, WARM_UP_S)
        watch, measuring = Stopwatch(server), True
        await _pause(clients, duration_s)
        measuring = False
        load = watch.stop(latencies_s)
        stopping = True
        await asyncio.gather(*clients)
    finally:
        await _end(clients, connections)
    return load


async def open_loop(
    target: Target,
    server: ServerProcess,
    streams: int,
    duration_s: float,
    period_s: float,
    chunks: Sequence[bytes],
    *,
    seed: int = 0,
    limit_ms: float = float("inf"),
) -> Load:
    """``streams`` sessions, each with a chunk every ``period_s``, at phases that are spread at random.

    A chunk's latency counts from the moment at which it was due, though a stream sends only when its last chunk is
    answered: a server that falls behind is not spared.

    Args:
        limit_ms: of p99; the run ends early when so many chunks are later that it cannot be kept.
    """
    rng = np.random.default_rng(seed)
    phases_s = rng.random(streams) * period_s
    places = rng.integers(0, len(chunks), streams)
    latencies_s: list[float] = []
    names = _session_names()
    connections = [await Connection.open(server.port) for _ in range(streams)]
    began_s = time.perf_counter() + period_s
    length = max(2, round((WARM_UP_S + duration_s) / period_s))
    tolerated = 0.01 * streams * duration_s / period_s
    late = 0

    async def client(connection: Connection, phase_s: float, place: int) -> None:
        nonlocal late
        session = next(names)
        seq, is_last = 0, False
        while not is_last:
            due_s = began_s + phase_s + seq * period_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            is_last = late > tolerated or seq + 1 == length
            await apply(target, connection, session, seq, chunks[(place + seq) % len(chunks)], is_last=is_last)
            took_s = time.perf_counter() - due_s
            if due_s >= began_s + WARM_UP_S:
                latencies_s.append(took_s)
                late += 1e3 * took_s > limit_ms
            seq += 1

    each = zip(connections, phases_s.tolist(), places.tolist(), strict=True)
    clients = [asyncio.create_task(client(*one)) for one in each]
    try:
        await _pause(clients, max(0.0, began_s + WARM_UP_S - time.perf_counter()))
        watch = Stopwatch(server)
        await asyncio.gather(*clients)
        return watch.stop(latencies_s)
    finally:
        await _end(clients, connections)


def _session_names() -> Iterator[str]:
    """Names that no other run has had, so that no server remembers them."""
    run = secrets.token_hex(4)
    return (f"{run}-{index:05d}" for index in count())


async def _pause(clients: Sequence[asyncio.Task[None]], duration_s: float) -> None:
    """Sleep, unless a client fails or all have ended."""
    done, _ = await asyncio.wait(clients, timeout=duration_s, return_when=asyncio.FIRST_EXCEPTION)
    for client in done:
        client.result()


async def _end(clients: Sequence[asyncio.Task[None]], connections: Sequence[Connection]) -> None:
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    for connection in connections:
        connection.close()
