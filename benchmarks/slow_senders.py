"""Thousands of connections that send nothing, or too slowly: do others notice, and does each end within its time-out?

A third of the slow connections sends nothing, a third sends its headers byte by byte, a third the body of a chunk. They
come from many addresses of the loopback. Meanwhile streams in real time go on over connections that they keep, and a
new client comes every 50 ms with a connection of its own and one chunk. Rounds without and with slow connections take
turns on one server.

Passed: nobody else is refused or waits without an answer, every slow connection ends within its time-out, and the 99th
percentile of the streams' latency stays under twice that of the quiet round before it (median of the rounds).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import serve_speech
from benchmarks.cpu_contention import CpuContention
from benchmarks.requests import RequestWay
from benchmarks.scaling import CHUNK_S
from hetsyn_client.loadtest.load import Load, recorded
from hetsyn_client.loadtest.run import Measurement, OpenLoop, RunSettings, measure, run_loop
from service.settings import Limits
from tests.support.paths import RECORDINGS
from tests.support.target import Address, HetsynTarget

KINDS = ("silent", "headers", "body")
CLIENT_CONNECTIONS = 100  # of one address
TRICKLE_S = 1.0  # between two bytes of a connection
SLICES = 20  # a twentieth of the connections sends at a time
NEWCOMERS_EVERY_S = 0.05
WARMUP_S = 2.0
GRACE_S = 1.0  # of a busy machine, after a time-out
LARGEST_RATIO = 2.0
HEAD = b"POST /infer HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\n"


@dataclass
class SlowResult:
    """What became of the slow connections.

    Attributes:
        opened: connections that were opened.
        failed: connections that could not be opened.
        still_open: connections that the server had not ended by the end.
        longest_s: by kind, the longest time until the server ended one.
        answers: status lines of responses, with their number.
        cpu_s: CPU time of the process that holds them.
    """

    opened: int = 0
    failed: int = 0
    still_open: int = 0
    longest_s: dict[str, float] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, default=9_000, help="slow ones")
    parser.add_argument("--per-second", type=int, default=1_000, help="slow ones opened in a second")
    parser.add_argument("--streams", type=int, default=20, help="well-behaved ones, in real time")
    parser.add_argument("--rounds", type=int, default=3, help="quiet ones, and as many with slow connections")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    limits = Limits(header_timeout_s=2.0, body_timeout_s=4.0) if arguments.quick else Limits()
    connections = 600 if arguments.quick else arguments.connections
    rounds, streams = (1 if arguments.quick else arguments.rounds), arguments.streams
    if arguments.smoke:
        limits, connections, streams = Limits(header_timeout_s=0.5, body_timeout_s=1.0), 30, 2
    opening_s = connections / arguments.per_second
    duration_s = opening_s + max(limits.header_timeout_s, limits.body_timeout_s) + 2 * GRACE_S
    load = recorded(RECORDINGS, CHUNK_S)
    options = (f"--header-timeout-s={limits.header_timeout_s}", f"--body-timeout-s={limits.body_timeout_s}")
    results: list[dict[str, Any]] = []
    with serve_speech(load, *options) as (server, target), _attacker() as attacker:
        for number in range(rounds):
            for slow in (0, connections):
                contention = CpuContention(server.pids)
                measured, newcomers, ended = run_loop(
                    _round(attacker, target, load, streams, slow, arguments.per_second, duration_s)
                )
                results.append(_figures(number, measured, newcomers, ended, limits))
                if (usage := contention.usage()) is not None:
                    results[-1] |= {"server_cpu_s": round(usage.server_s, 2), "other_cores": usage.other_cores}
                _print(results[-1])
    quiet, attacked = results[0::2], results[1::2]
    ratios = [loud["p99_ms"] / calm["p99_ms"] for calm, loud in zip(quiet, attacked, strict=True)]
    ratio = statistics.median(ratios)
    passed = (
        all(not one["refused"] and one["newcomers"]["refused"] == 0 for one in results)
        and all(one["slow"]["ended_in_time"] for one in attacked)
        and ratio < LARGEST_RATIO
    )
    Console(highlight=False).print(f"p99 with slow connections / without: {ratio:.2f}; passed: {passed}")
    return {
        "passed": passed,
        "connections": connections,
        "streams": streams,
        "timeouts_s": {"headers": limits.header_timeout_s, "body": limits.body_timeout_s},
        "rounds": results,
        "ratios": {"p99 with slow connections / without, median of the rounds": round(ratio, 3)},
    }


async def _round(
    attacker: Connection,
    target: HetsynTarget,
    load: Load,
    streams: int,
    slow: int,
    per_second: int,
    duration_s: float,
) -> tuple[Measurement, list[float | str], SlowResult]:
    """The streams' figures; the seconds of every newcomer, or its error; and what became of the slow connections."""
    attacker.send((target.address, slow, per_second, WARMUP_S, duration_s))
    coming = asyncio.create_task(_newcomers(target, load.chunks[0]))
    measured = await measure(
        RequestWay(target), load, OpenLoop(streams), RunSettings(duration_s=duration_s, warmup_s=WARMUP_S)
    )
    coming.cancel()
    return measured, await coming, attacker.recv()


async def _newcomers(target: HetsynTarget, chunk: bytes) -> list[float | str]:
    """Clients that come with one chunk each, until cancelled."""
    outcomes: list[float | str] = []
    running: set[asyncio.Task[None]] = set()

    async def come(name: str) -> None:
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(10.0):
                reader, writer = await asyncio.open_connection(target.address.host, target.address.port)
                writer.write(target.request(name, 0, chunk, is_last=True))
                status = await reader.readline()
                writer.close()
        except (OSError, TimeoutError) as error:
            outcomes.append(type(error).__name__)
            return
        outcomes.append(time.perf_counter() - began_s if b" 200 " in status else status.decode(errors="replace"))

    try:
        while True:
            task = asyncio.create_task(come(f"newcomer-{time.monotonic_ns()}"))
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(NEWCOMERS_EVERY_S)
    except asyncio.CancelledError:
        await asyncio.gather(*running)
        return outcomes


class _Slow(asyncio.Protocol):
    """A connection that is slow in one of the ways of ``KINDS``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.began_s = time.monotonic()
        self.ended_s: float | None = None
        self.answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.kind == "headers":
            transport.write(HEAD + b"X-Slow: ")
        elif self.kind == "body":
            transport.write(HEAD + b'Content-Length: 1000\r\n\r\n{"input": "')

    def data_received(self, data: bytes) -> None:
        self.answer += data

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.ended_s = time.monotonic()

    def trickle(self) -> None:
        if self.ended_s is None and self.kind != "silent":
            self.transport.write(b"x")


@contextmanager
def _attacker() -> Iterator[Connection]:
    """Run a process that opens slow connections on demand."""
    # not a pool of one: its thread replaces a killed process at once, so a pool that was interrupted never ends
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


async def _slow_connections(
    address: Address, count: int, per_second: int, after_s: float, duration_s: float
) -> SlowResult:
    loop, result = asyncio.get_running_loop(), SlowResult()
    end_s = loop.time() + after_s + duration_s
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
        try:
            _, connection = await loop.create_connection(
                lambda: _Slow(KINDS[index % len(KINDS)]), address.host, address.port, local_addr=source
            )
        except OSError:
            result.failed += 1
            return
        connections.append(connection)

    await asyncio.sleep(after_s)
    began_cpu_s = time.process_time()
    trickling = asyncio.create_task(trickle())
    began_s = loop.time()
    opening = []
    for index in range(count):
        opening.append(asyncio.create_task(connect(index)))
        await asyncio.sleep(max(0.0, began_s + index / per_second - loop.time()))
    await asyncio.gather(*opening)
    await asyncio.sleep(max(0.0, end_s - loop.time()))
    trickling.cancel()
    result.opened, result.cpu_s = len(connections), round(time.process_time() - began_cpu_s, 2)
    for connection in connections:
        if connection.ended_s is None:
            result.still_open += 1
            connection.transport.abort()
            continue
        lasted_s = connection.ended_s - connection.began_s
        result.longest_s[connection.kind] = max(lasted_s, result.longest_s.get(connection.kind, 0.0))
        if connection.answer:
            status = connection.answer.split(b"\r\n")[0].decode(errors="replace")
            result.answers[status] = result.answers.get(status, 0) + 1
    return result


def _figures(
    number: int, measured: Measurement, newcomers: list[float | str], slow: SlowResult, limits: Limits
) -> dict[str, Any]:
    served_s = sorted(outcome for outcome in newcomers if isinstance(outcome, float))
    timeouts_s = {"silent": limits.header_timeout_s, "headers": limits.header_timeout_s, "body": limits.body_timeout_s}
    in_time = not slow.still_open and all(
        longest_s <= timeouts_s[kind] + GRACE_S for kind, longest_s in slow.longest_s.items()
    )
    return {
        "round": number,
        "slow_connections": slow.opened + slow.failed,
        "p50_ms": measured.latency.at(50.0),
        "p99_ms": measured.latency.at(99.0),
        "windows_p99_ms": [round(p99_ms, 1) for p99_ms in measured.p99_ms_by_second],
        "answered": measured.answered,
        "refused": measured.errors | ({"unanswered": measured.unanswered} if measured.unanswered else {}),
        "newcomers": {
            "served": len(served_s),
            "refused": len(newcomers) - len(served_s),
            "errors": sorted({outcome for outcome in newcomers if isinstance(outcome, str)}),
            "p50_ms": round(1e3 * statistics.median(served_s), 2) if served_s else None,
            "p99_ms": round(1e3 * served_s[int(0.99 * len(served_s))], 2) if served_s else None,
        },
        "slow": asdict(slow) | {"ended_in_time": in_time},
    }


def _print(one: dict[str, Any]) -> None:
    table = Table(title=f"round {one['round']}: {one['slow_connections']:,} slow connections", show_header=False)
    for name in ("p50_ms", "p99_ms", "answered", "refused", "newcomers", "slow", "server_cpu_s", "other_cores"):
        table.add_row(name, json.dumps(one.get(name)))
    Console(highlight=False).print(table)
