"""Thousands of connections send nothing, or too slowly: each ends within its time-out, and nobody else notices.

A third of the slow connections sends nothing, a third its headers byte by byte, a third the body of a chunk. They come
from many addresses of the loopback. Meanwhile streams in real time go on, and a new client comes every 50 ms.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.load.contenders import serve_speech
from benchmarks.load.requests import RequestWay
from hetsyn_client.loadtest.load import Load, recorded
from hetsyn_client.loadtest.run import Loop, Measurement, RunSettings, measure, run_loop
from service.settings import Limits
from tests.support.paths import RECORDINGS
from tests.support.processor_wait import ProcessorWait
from tests.support.servers.target import Address, HetsynTarget

KINDS = ("silent", "headers", "body")
CLIENT_CONNECTIONS = 100  # of one address
OPENED_A_SECOND = 1_000  # fewer while MOST_WAITING wait to be accepted: the kernel drops what is beyond its queue
MOST_WAITING = 500
TRICKLE_S = 1.0  # between two bytes of a connection
SLICES = 20  # a twentieth of the connections sends at a time
STREAMS = 20
NEWCOMERS_EVERY_S = 0.05
WARMUP_S = 2.0
GRACE_S = 4.0  # after a time-out, beside what other programs take from the server
NEWCOMER_S = 10.0  # longest answer to a newcomer, likewise
HANGS_S = 300.0  # until a server counts as hanging
LARGEST_RATIO = 2.0
MOST_STARVED = 0.1  # of a round; a latency says nothing of a server that other programs keep from its processor
HEAD = b"POST /infer HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\n"


@dataclass
class Newcomers:
    """Clients that come with one chunk each: what went wrong, and the longest time until an answer."""

    errors: list[str] = field(default_factory=list)
    longest_s: float = 0.0


class Ended(NamedTuple):
    """What became of the slow connections: those of each kind that were still open, and the longest time of each."""

    opened: int
    still_open: dict[str, int]
    longest_s: dict[str, float]


@pytest.mark.parametrize(
    ("connections", "limits"),
    [
        pytest.param(600, Limits(header_timeout_s=2.0, body_timeout_s=4.0), marks=pytest.mark.process),
        pytest.param(9_000, Limits(), marks=pytest.mark.long),
    ],
)
def test_slow_connections_end_in_time_and_nobody_else_is_refused(connections: int, limits: Limits) -> None:
    load = recorded(RECORDINGS, 0.1)
    options = (f"--set=header_timeout_s={limits.header_timeout_s}", f"--set=body_timeout_s={limits.body_timeout_s}")
    duration_s = connections / OPENED_A_SECOND + max(limits.header_timeout_s, limits.body_timeout_s) + 2 * GRACE_S
    with serve_speech(load, *options) as (server, target), _attacker() as attacker:
        (pid,) = server.pids()
        quiet, newcomers, _ = run_loop(_round(attacker, target, load, 0, duration_s))
        assert (quiet.failures, newcomers.errors) == (0, [])
        began_s, wait = time.monotonic(), ProcessorWait(pid)
        loud, newcomers, ended = run_loop(_round(attacker, target, load, connections, duration_s))
        starved_s, lasted_s = wait.longest_s(), time.monotonic() - began_s
    assert (loud.failures, newcomers.errors) == (0, [])
    assert newcomers.longest_s <= NEWCOMER_S + starved_s
    assert (ended.opened, ended.still_open) == (connections, {})
    for kind, longest_s in ended.longest_s.items():
        timeout_s = limits.body_timeout_s if kind == "body" else limits.header_timeout_s
        assert longest_s <= timeout_s + GRACE_S + starved_s
    if connections > 1_000:
        ratio = loud.latency.percentiles[99.0] / quiet.latency.percentiles[99.0]
        starved = starved_s / lasted_s
        print(f"p99 with {connections:,} slow connections / without: {ratio:.2f}; without a processor: {starved:.0%}")
        assert ratio < LARGEST_RATIO or starved > MOST_STARVED


async def _round(
    attacker: Connection, target: HetsynTarget, load: Load, slow: int, duration_s: float
) -> tuple[Measurement, Newcomers, Ended]:
    """Measure streams and newcomers, while so many slow connections are opened."""
    attacker.send((target.address, slow, duration_s))
    coming = asyncio.create_task(_newcomers(target, load.chunks[0]))
    settings = RunSettings(duration_s=duration_s, warmup_s=WARMUP_S)
    measured = await measure(RequestWay(target), load, Loop(STREAMS, is_open=True), settings)
    coming.cancel()
    return measured, await coming, attacker.recv()


async def _newcomers(target: HetsynTarget, chunk: bytes) -> Newcomers:
    """Send newcomers until cancelled."""
    found = Newcomers()

    async def come(name: str) -> None:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(HANGS_S):
                reader, writer = await asyncio.open_connection(target.address.host, target.address.port)
                try:
                    writer.write(target.request(name, 0, chunk, is_last=True))
                    status = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            found.errors.append(type(error).__name__)
            return
        found.longest_s = max(found.longest_s, time.monotonic() - began_s)
        if b" 200 " not in status:
            found.errors.append(status.decode(errors="replace"))

    running: set[asyncio.Task[None]] = set()
    try:
        while True:
            running.add(asyncio.create_task(come(f"newcomer-{time.monotonic_ns()}")))
            await asyncio.sleep(NEWCOMERS_EVERY_S)
    except asyncio.CancelledError:
        await asyncio.gather(*running)
        return found


class _Slow(asyncio.Protocol):
    """A connection that is slow in one of the ways of ``KINDS``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.began_s = time.monotonic()
        self.ended_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.kind == "headers":
            transport.write(HEAD + b"X-Slow: ")
        elif self.kind == "body":
            transport.write(HEAD + b'Content-Length: 1000\r\n\r\n{"input": "')

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.ended_s = time.monotonic()

    def trickle(self) -> None:
        if self.ended_s is None and self.kind != "silent":
            self.transport.write(b"x")


@contextmanager
def _attacker() -> Iterator[Connection]:
    """Run a process that opens slow connections on demand."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_attack, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # the process's end is then an error of the next recv()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def _attack(orders: Connection) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    while True:
        orders.send(asyncio.run(_slow_connections(*orders.recv())))


def _waiting(port: int) -> int:
    """Count the connections to a port of this machine that its server has not accepted yet."""
    with Path("/proc/net/tcp").open() as table:
        for line in table:
            _, local, _, state, queues, *_ = line.split()
            if state == "0A" and int(local.partition(":")[2], 16) == port:  # it listens
                return int(queues.partition(":")[2], 16)
    raise ValueError(f"nobody listens on port {port}")


async def _slow_connections(address: Address, count: int, duration_s: float) -> Ended:
    loop = asyncio.get_running_loop()
    begin_s = loop.time() + WARMUP_S
    connections: list[_Slow] = []

    async def trickle() -> None:
        while True:
            for part in range(SLICES):
                for connection in connections[part::SLICES]:
                    connection.trickle()
                await asyncio.sleep(TRICKLE_S / SLICES)

    async def connect(index: int) -> None:
        client = index // CLIENT_CONNECTIONS
        source = (f"127.0.{1 + client // 250}.{1 + client % 250}", 0)
        _, connection = await loop.create_connection(
            lambda: _Slow(KINDS[index % len(KINDS)]), address.host, address.port, local_addr=source
        )
        connections.append(connection)

    trickling = asyncio.create_task(trickle())
    connecting = []
    for index in range(count):
        await asyncio.sleep(max(0.0, begin_s + index / OPENED_A_SECOND - loop.time()))
        while index % 50 == 0 and _waiting(address.port) > MOST_WAITING:
            await asyncio.sleep(TRICKLE_S / SLICES)
        connecting.append(asyncio.create_task(connect(index)))
    await asyncio.gather(*connecting, return_exceptions=True)
    await asyncio.sleep(max(0.0, begin_s + duration_s - loop.time()))
    while any(each.ended_s is None for each in connections) and loop.time() < begin_s + HANGS_S:
        await asyncio.sleep(TRICKLE_S)
    trickling.cancel()
    longest_s: dict[str, float] = {}
    still_open: dict[str, int] = {}
    for connection in connections:
        if connection.ended_s is None:
            still_open[connection.kind] = still_open.get(connection.kind, 0) + 1
            connection.transport.abort()
        else:
            lasted_s = connection.ended_s - connection.began_s
            longest_s[connection.kind] = max(lasted_s, longest_s.get(connection.kind, 0.0))
    return Ended(len(connections), still_open, longest_s)
