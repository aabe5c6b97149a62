"""Memory and latency of `hetsyn serve` against the number of open sessions, idle and active, of the speech model.

For each number, so many sessions are opened with one chunk each. *Idle*: they lie idle while 16 other sessions send
chunks in a closed loop. *Active*: chunks go to all of them in turn, 16 at a time and to each at least once, so that the
state of each is out of the caches. ``ratios`` compares the largest number with the smallest.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import newest_speech, serve_speech
from benchmarks.load import LoadError
from benchmarks.plots import plain, pyplot, save
from benchmarks.requests import Pool
from hetsyn_client.loadtest.load import Load, recorded
from hetsyn_client.loadtest.run import run_loop
from hetsyn_client.steps import Broken
from tests.support.paths import RECORDINGS
from tests.support.server_process import ServerProcess
from tests.support.target import HetsynTarget

OVERHEAD_BYTES = 10_000  # of a session beside its state, and some more
COUNTS, QUICK_COUNTS = (10, 100, 1_000, 10_000, 100_000), (10, 1_000)
CONCURRENCY, CHUNK_S, TIMEOUT_S = 16, 0.1, 30.0


@dataclass(frozen=True)
class LoopFigures:
    """A closed loop.

    Attributes:
        chunks_per_s: throughput.
        p50_ms: median latency.
        p99_ms: 99th percentile of the latency.
    """

    chunks_per_s: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class ScalingRow:
    """The figures of one number of sessions.

    Attributes:
        sessions: open sessions.
        resident_bytes: memory of the server while they are open.
        opened_per_s: sessions opened a second.
        idle: 16 other sessions, while these are idle.
        active: these sessions in turn.
    """

    sessions: int
    resident_bytes: int
    opened_per_s: float
    idle: LoopFigures
    active: LoopFigures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--sessions", type=int, nargs="+", default=list(COUNTS), help="how many are open")
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    counts = list(QUICK_COUNTS) if arguments.quick else sorted(arguments.sessions)
    seconds = 2.0 if arguments.quick else arguments.seconds
    if arguments.smoke:
        counts, seconds = [2, 20], 0.2
    manifest = newest_speech().manifest
    state_bytes = manifest.forms[manifest.default_form].state_bytes
    most = max(counts) + 1_000
    limits = ["--max-sessions", str(most), "--max-session-bytes", str(most * (state_bytes + OVERHEAD_BYTES))]
    limits += ["--client-share", "1", "--session-idle-s", "86400"]
    load = recorded(RECORDINGS, CHUNK_S)
    with serve_speech(load, *limits) as (server, target):
        rows = run_loop(_rows(target, load, counts, seconds, server))
    first, last = rows[0], rows[-1]
    added = (last.resident_bytes - first.resident_bytes) / max(1, last.sessions - first.sessions)
    ratios = {
        f"p50 with {last.sessions:,} idle sessions / with {first.sessions}": last.idle.p50_ms / first.idle.p50_ms,
        f"p99 with {last.sessions:,} idle sessions / with {first.sessions}": last.idle.p99_ms / first.idle.p99_ms,
        f"throughput over {last.sessions:,} active sessions / over {first.sessions}": last.active.chunks_per_s
        / first.active.chunks_per_s,
        "resident bytes a session / bytes of its state": added / state_bytes,
    }
    results = {"rows": [asdict(row) for row in rows], "bytes_a_session": added, "ratios": ratios}
    _print(rows, results)
    if arguments.plot is not None:
        _plot(rows, arguments.plot)
    return results


async def _rows(
    target: HetsynTarget, load: Load, counts: Sequence[int], seconds: float, server: ServerProcess
) -> list[ScalingRow]:
    walk = _Walk(target, load)
    rows: list[ScalingRow] = []
    open_sessions: list[str] = []
    console = Console(stderr=True)
    for count in counts:
        console.print(f"{count:,} sessions", highlight=False)
        new = [f"idle-{index}" for index in range(len(open_sessions), count)]
        began_s = time.perf_counter()
        await walk.over(new, chunks=len(new))
        opened_per_s = len(new) / (time.perf_counter() - began_s)
        open_sessions += new
        others = [f"busy-{count}-{index}" for index in range(CONCURRENCY)]
        await walk.over(others, seconds=min(1.0, seconds))  # warm-up
        resident = resident_bytes(server)
        idle = await walk.over(others, seconds=seconds)
        await walk.drop(others)
        active = await walk.over(open_sessions, chunks=count, seconds=seconds)
        rows.append(ScalingRow(count, resident, opened_per_s, idle, active))
    walk.close()
    return rows


class _Walk:
    """Sends numbered chunks to sessions in turn, ``CONCURRENCY`` at a time."""

    def __init__(self, target: HetsynTarget, load: Load) -> None:
        self._target = target
        self._chunks = cycle(load.chunks)
        self._pool = Pool(target.address)
        self._seq: dict[str, int] = {}

    def close(self) -> None:
        self._pool.close()

    async def over(self, sessions: Sequence[str], *, chunks: int = 0, seconds: float = 0.0) -> LoopFigures:
        """Send chunks to these sessions in turn, until so many were sent and the time is over.

        Raises:
            LoadError: a chunk failed.
        """
        latencies_s: list[float] = []
        turns = enumerate(cycle(sessions))
        busy: set[str] = set()  # one chunk of a session at a time
        began_s = time.perf_counter()

        async def send() -> None:
            for sent, session in turns:
                if sent >= chunks and time.perf_counter() - began_s > seconds:
                    return
                while session in busy:
                    await asyncio.sleep(0)
                busy.add(session)
                seq = self._seq.get(session, 0)
                self._seq[session] = seq + 1
                sent_s = time.perf_counter()
                await self._exchange(self._target.request(session, seq, next(self._chunks), is_last=False))
                latencies_s.append(time.perf_counter() - sent_s)
                busy.discard(session)

        await asyncio.gather(*(send() for _ in range(CONCURRENCY)))
        took_s = time.perf_counter() - began_s
        p50, p99 = np.percentile(latencies_s, (50, 99)) * 1e3 if latencies_s else (0.0, 0.0)
        return LoopFigures(len(latencies_s) / took_s, float(p50), float(p99))

    async def drop(self, sessions: Sequence[str]) -> None:
        for session in sessions:
            request = self._target.drop(session)
            assert request is not None
            await self._exchange(request)

    async def _exchange(self, request: bytes) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await self._pool.exchange(request)
        except (Broken, TimeoutError) as error:
            raise LoadError(str(error) or "no answer in time") from error
        if response.status >= 300:
            raise LoadError(f"{response.status}: {response.body[:200]!r}")


def resident_bytes(server: ServerProcess) -> int:
    """Resident memory of the server's processes."""
    total = 0
    for pid in server.pids():
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def _print(rows: Sequence[ScalingRow], results: dict[str, Any]) -> None:
    table = Table(
        "open sessions",
        "resident MB",
        "opened/s",
        "16 others: chunks/s",
        "p50 ms",
        "p99 ms",
        "all in turn: chunks/s",
        "p50 ms",
        "p99 ms",
        title="speech-digits, chunks of 100 ms, closed loop of 16",
    )
    for row in rows:
        columns = [
            f"{value:,.{digits}f}"
            for part in (row.idle, row.active)
            for value, digits in ((part.chunks_per_s, 0), (part.p50_ms, 1), (part.p99_ms, 1))
        ]
        table.add_row(f"{row.sessions:,}", f"{row.resident_bytes / 1e6:,.0f}", f"{row.opened_per_s:,.0f}", *columns)
    console = Console(width=120)
    console.print(table)
    console.print(f"resident bytes a session: {results['bytes_a_session']:,.0f}", highlight=False)
    for name, ratio in results["ratios"].items():
        console.print(f"{name}: {ratio:.2f}", highlight=False)


def _plot(rows: Sequence[ScalingRow], path: Path) -> None:
    figure, (memory, latency) = pyplot().subplots(1, 2, figsize=(10, 4), layout="constrained")
    counts = [row.sessions for row in rows]
    memory.plot(counts, [row.resident_bytes / 2**20 for row in rows], "-o", color="#0b6e4f")
    memory.axhline(2048, color="#c0392b", linewidth=1, linestyle="--")
    memory.annotate("2 GiB", (counts[0], 2048), va="bottom", color="#c0392b", fontsize=9)
    memory.set(xscale="log", yscale="log", xlabel="open sessions", ylabel="resident memory of the server, MiB")
    for name, columns, colour in (
        ("16 others, while these lie idle", [row.idle for row in rows], "#0b6e4f"),
        ("all of these in turn", [row.active for row in rows], "#5b7fa6"),
    ):
        latency.plot(counts, [one.p50_ms for one in columns], "-o", color=colour, label=f"p50, {name}")
        latency.plot(counts, [one.p99_ms for one in columns], "--s", color=colour, label=f"p99, {name}")
    latency.set(xscale="log", xlabel="open sessions", ylabel="latency of a chunk, ms (closed loop of 16)")
    latency.set_ylim(bottom=0)
    latency.legend(frameon=False, fontsize=8)
    plain(memory, latency)
    save(figure, path)
