"""What a second worker brings to `hetsyn serve`: chunks a second, latency and CPU time with one and with two.

Chunks are packed events of 25 steps for the SHD-size model. Two kinds of clients: *own* ones, where each session has a
connection of its own for its chunks, and *pooled* ones, where sessions share connections, so that half of the
requests have to be passed on. Both are closed loops: each session sends its next chunk when the last is answered. The
servers take turns within a round; medians over the rounds are reported. Load generator and servers share the machine's
cores, so the load generator's CPU time is reported beside the servers': on two cores, it takes from two workers what it
does not take from one. ``ratios`` has two workers over one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import ENVIRONMENT, HERE, SILENCE, ours_target, shd_load
from benchmarks.load import LoadError, closed_loop, exchange, missing_answer
from hetsyn_client.loadtest.cpu_contention import CpuContention
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.run import RunSettings, run_loop
from hetsyn_client.loadtest.target import Address, HetsynTarget
from tests.support.paths import ROOT
from tests.support.server_process import ServerProcess, free_port

CONCURRENCIES = (1, 16, 64)
CHUNKS = 10  # of a session: one second
KINDS = ("own", "pooled")
NUMBERS = itertools.count()  # of sessions


@dataclass(frozen=True)
class Side:
    """A server to measure.

    Attributes:
        name: for tables.
        options: of ``hetsyn serve``.
        environment: variables beside those of this process.
    """

    name: str
    options: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def serve(self, folder: Path) -> Iterator[tuple[ServerProcess, HetsynTarget]]:
        """The server runs within this context, and has answered a chunk."""
        address = Address("127.0.0.1", free_port())
        target = ours_target(address, "bank")
        command = [*HERE, "hetsyn", "serve", "--models", str(ROOT / "models"), "--port", str(address.port)]
        command += ["--log-level", "warning", *self.options]
        log = folder / f"{self.name}.log"
        with ServerProcess(command, ENVIRONMENT | self.environment, missing_answer(target, SILENCE), log) as server:
            yield server, target


@dataclass(frozen=True)
class WorkerFigures:
    """The figures of one closed loop.

    Attributes:
        chunks_per_s: throughput.
        p50_ms: median latency.
        p99_ms: 99th percentile of the latency.
        server_cpu_us: CPU time of all processes of the server, a chunk.
        load_cpu_us: CPU time of the load generator, a chunk.
        others_cores: cores that other programs used.
    """

    chunks_per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float
    load_cpu_us: float
    others_cores: float


SIDES = (Side("1 worker", ()), Side("2 workers", ("--workers", "2")))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all servers; medians are reported")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    repeats, seconds = (1, 0.5) if arguments.quick else (arguments.repeats, arguments.seconds)
    return measure_sides(SIDES, repeats, seconds)


def measure_sides(sides: Sequence[Side], repeats: int, seconds: float) -> dict[str, Any]:
    """Measure servers in turns.

    Args:
        sides: the servers; ratios are over the first.
        repeats: rounds.
        seconds: of each load.
    """
    console, load = Console(stderr=True), shd_load()
    taken: dict[str, dict[str, list[WorkerFigures]]] = {side.name: {} for side in sides}
    moved: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="hetsyn-workers-") as name:
        for repeat in range(repeats):
            for side in sides:
                console.print(f"round {repeat + 1} of {repeats}: {side.name}", highlight=False)
                with side.serve(Path(name)) as (server, target):
                    for kind, concurrency in itertools.product(KINDS, CONCURRENCIES):
                        figures = _measure(kind, concurrency, target, server, load, seconds)
                        taken[side.name].setdefault(f"{kind} {concurrency}", []).append(figures)
                    moved[side.name] = _metrics(target.address)
    servers = {
        name: {case: _typical(rounds) for case, rounds in cases.items()} | {"counted": moved[name]}
        for name, cases in taken.items()
    }
    first = servers[sides[0].name]
    ratios = {
        f"{side.name}, {case}: {what}": servers[side.name][case][what] / first[case][what]
        for side in sides[1:]
        for case in taken[side.name]
        for what in ("chunks_per_s", "server_cpu_us")
    }
    _print(servers)
    return {"servers": servers, "ratios": ratios, "rounds": {n: _rounds(cases) for n, cases in taken.items()}}


def _rounds(cases: dict[str, list[WorkerFigures]]) -> dict[str, list[dict[str, float]]]:
    return {case: [asdict(one) for one in rounds] for case, rounds in cases.items()}


def _typical(rounds: Sequence[WorkerFigures]) -> dict[str, float]:
    return {name: statistics.median(asdict(one)[name] for one in rounds) for name in asdict(rounds[0])}


def _measure(
    kind: str, concurrency: int, target: HetsynTarget, server: ServerProcess, load: Load, seconds: float
) -> WorkerFigures:
    began_s = time.process_time()
    if kind == "pooled":
        settings = RunSettings(duration_s=seconds, warmup_s=0.2)
        figures = closed_loop(target, server, load, concurrency, settings)
        applied = figures.chunks_per_s * (seconds + settings.warmup_s)
        load_us = 1e6 * (time.process_time() - began_s) / applied
        return WorkerFigures(
            figures.chunks_per_s, figures.p50_ms, figures.p99_ms, 1e3 * figures.cpu_ms, load_us, figures.others_cores
        )
    contention = CpuContention(server.pids)
    contention.usage()
    latencies = run_loop(_own_connections(target, load, concurrency, seconds))
    usage = contention.usage()
    if usage is None:
        raise LoadError("a process of the server ended during the run")
    latencies.sort()
    return WorkerFigures(
        len(latencies) / seconds,
        1e3 * latencies[len(latencies) // 2],
        1e3 * latencies[len(latencies) * 99 // 100],
        1e6 * usage.server_s / len(latencies),
        1e6 * (time.process_time() - began_s) / len(latencies),
        usage.other_cores,
    )


async def _own_connections(target: HetsynTarget, load: Load, concurrency: int, seconds: float) -> list[float]:
    """Latencies in seconds, of sessions that each have a connection."""
    latencies: list[float] = []
    end_s = time.perf_counter() + seconds

    async def stream() -> None:
        while time.perf_counter() < end_s:
            session = f"own-{next(NUMBERS)}"
            reader, writer = await asyncio.open_connection(target.address.host, target.address.port)
            for seq in range(CHUNKS):
                chunk = load.chunks[(seq + len(latencies)) % len(load.chunks)]
                request = target.request(session, seq, chunk, is_last=seq + 1 == CHUNKS)
                began_s = time.perf_counter()
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                if b" 200 " not in head[:16]:
                    raise LoadError(f"{head[:40]!r}: {body[:200]!r}")
                latencies.append(time.perf_counter() - began_s)
            writer.close()

    await asyncio.gather(*(stream() for _ in range(concurrency)))
    return latencies


def _metrics(address: Address) -> dict[str, float]:
    request = f"GET /metrics HTTP/1.1\r\nHost: {address.authority}\r\nConnection: close\r\n\r\n".encode()
    lines = [line.split() for line in exchange(address, request).decode().splitlines() if line[:1] != "#"]
    names = ("hetsyn_workers", "hetsyn_connections_moved_total", "hetsyn_requests_passed_on_total")
    return {line[0]: float(line[-1]) for line in lines if line[0] in names}


def _print(servers: dict[str, Any]) -> None:
    table = Table("server", "sessions", "chunks/s", "p50 ms", "p99 ms", "server CPU us", "load CPU us", "others' cores")
    for name, cases in servers.items():
        for case, figures in cases.items():
            if case != "counted":
                row = (figures[key] for key in asdict(WorkerFigures(*(0.0,) * 6)))
                table.add_row(name, case, *(f"{value:,.2f}" for value in row))
    Console().print(table)
