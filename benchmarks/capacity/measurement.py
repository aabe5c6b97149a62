"""What this machine's servers cost and do: the numbers that the simulation begins with, and those that it must meet.

Costs come from closed loops of ``CALIBRATED`` sessions, and from the load ``LIGHT``. All other loads set no cost. The
CPU time is that of the main threads, which run the event loops.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.capacity.processor import main_thread_s, process_s, undisturbed
from benchmarks.capacity.simulation import simulate
from benchmarks.capacity.stores import FULL, node_costs
from benchmarks.capacity.system import Load, LoopCosts, NodeCosts, System
from benchmarks.contenders import RECORDINGS, ROOT, serve_speech, speech_target
from benchmarks.durability import record_bytes
from benchmarks.hostile.proxy import PROGRAM, configuration
from benchmarks.load import CountingTarget, LoadError, missing_answer
from benchmarks.server_process import ServerProcess, free_port
from benchmarks.valkey import BINARY, ValkeyServer
from benchmarks.way_in import cases, engine_us
from hetsyn_client.loadtest.load import Load as Chunks
from hetsyn_client.loadtest.load import recorded
from hetsyn_client.loadtest.run import ClosedLoop, OpenLoop, RunSettings, measure, run_loop
from hetsyn_client.loadtest.target import Address, HetsynTarget

CHUNK_S = 0.1
WARM_UP_S = 0.4
CORES = 2  # that server, store, proxy and load generator may use together
CALIBRATED = (1, 4, FULL)  # sessions of the closed loops that costs come from
TICK_S = 1e-3  # of the load generator, as of hetsyn_client/loadtest/drive.py


@dataclass(frozen=True)
class Observed:
    """What a server did under a load.

    Attributes:
        answered_per_s: chunks answered well.
        p50_ms: median latency, from when a chunk was sent.
        p99_ms: 99th percentile of the same.
        loop_s: time of the main threads for a chunk.
        proxy_s: time of the proxy for a chunk.
        client_s: time of the load generator for a chunk.
        priority: how the processes ran.
    """

    answered_per_s: float
    p50_ms: float
    p99_ms: float
    loop_s: float
    proxy_s: float
    client_s: float
    priority: str


@dataclass(frozen=True)
class Stage:
    """A server under measurement.

    Attributes:
        target: of the load.
        server: its processes.
        proxy: pids of the proxy.
        store: pids of the store.
        chunks: what it gets.
    """

    target: HetsynTarget
    server: ServerProcess
    proxy: Sequence[int]
    store: Sequence[int]
    chunks: Chunks

    def observe(self, load: Load, seconds: float, seed: int) -> Observed:
        """Put the server under a load.

        Raises:
            LoadError: a chunk failed.
        """
        target = CountingTarget(self.target)
        chunks = replace(self.chunks, period_s=load.period_s or CHUNK_S)
        mode = OpenLoop(load.sessions) if load.period_s else ClosedLoop(load.sessions)
        # a session's first chunk costs more, so each has had one when the measured time begins
        settings = RunSettings(duration_s=seconds, warmup_s=max(WARM_UP_S, 1.1 * load.period_s), seed=seed)
        pids = self.server.pids()
        with undisturbed((*pids, *self.proxy, *self.store)) as priority:
            before_s = main_thread_s(pids), process_s(self.proxy)
            measured = run_loop(measure(target, chunks, mode, settings))
            loop_s, proxy_s = main_thread_s(pids) - before_s[0], process_s(self.proxy) - before_s[1]
        if not measured.answered or measured.errors:
            raise LoadError(f"{measured.answered} answered, errors: {measured.errors}")
        return Observed(
            measured.achieved_per_s,
            measured.service.at(50.0),
            measured.service.at(99.0),
            loop_s / target.applied,
            proxy_s / target.applied,
            (measured.generator.cpu_us_a_chunk or 0.0) / 1e6,
            priority,
        )

    def typical(self, load: Load, seconds: float, repeats: int) -> Observed:
        """Medians of some runs."""
        runs = [self.observe(load, seconds, seed) for seed in range(repeats)]
        names = ("answered_per_s", "p50_ms", "p99_ms", "loop_s", "proxy_s", "client_s")
        medians = {name: statistics.median(getattr(run, name) for run in runs) for name in names}
        return Observed(**medians, priority=runs[0].priority)


@dataclass(frozen=True)
class Arrangement:
    """A way to serve that is measured.

    Attributes:
        name: for tables.
        workers: of the server.
        store: ``memory``, ``file`` or ``valkey``.
        has_proxy: whether HAProxy stands in front, with the configuration of ``docker/``.
        loads: to predict and to measure.
    """

    name: str
    workers: int
    store: str
    has_proxy: bool
    loads: tuple[Load, ...]

    @property
    def missing(self) -> str | None:
        """What this machine lacks for it."""
        if self.store == "valkey" and BINARY is None:
            return "no valkey-server"
        return "no haproxy" if self.has_proxy and shutil.which(PROGRAM) is None else None


def closed(sessions: int) -> Load:
    return Load(sessions, 0.0)


def streams(sessions: int, period_s: float = CHUNK_S) -> Load:
    return Load(sessions, period_s, TICK_S)


LIGHT = streams(40)
_MANY = streams(2_000, 2.0)
ARRANGEMENTS = (
    Arrangement(
        "memory", 1, "memory", False,
        (closed(2), closed(16), closed(32), closed(128), streams(100), streams(150), _MANY, streams(3_000, 2.0)),
    ),
    Arrangement("file", 1, "file", False, (closed(8), closed(32), closed(128), streams(50), streams(100), _MANY)),
    Arrangement("Valkey", 1, "valkey", False, (closed(8), closed(32), closed(128), streams(50), streams(100), _MANY)),
    Arrangement("memory, 2 workers", 2, "memory", False, (closed(16), closed(128), streams(100), streams(150), _MANY)),
    Arrangement("memory, proxy", 1, "memory", True, (closed(16), closed(128), streams(50), streams(100), _MANY)),
)  # fmt: skip


@contextmanager
def staged(arrangement: Arrangement, disk: Path) -> Iterator[tuple[Stage, str]]:
    """The server runs within this context, with store and proxy. Also the store's URL.

    Args:
        arrangement: that is measured.
        disk: folder for the store's files.
    """
    chunks = recorded(RECORDINGS, CHUNK_S)
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="hetsyn-capacity-")))
        url, store = running.enter_context(stored(arrangement.store, disk))
        options = ["--store", url, "--client-share", "1", "--workers", str(arrangement.workers)]
        server, target = running.enter_context(serve_speech(chunks, *options))
        proxy: list[int] = []
        if arrangement.has_proxy:
            address = Address("127.0.0.1", free_port())
            text = (ROOT / "docker/haproxy.cfg").read_text()
            one_thread = {"maxconn 4000": "maxconn 4000\n    nbthread 1"}
            file = folder / "haproxy.cfg"
            file.write_text(configuration(text, address.port, [target.address.port], one_thread))
            target = speech_target(address, chunks)
            missing = missing_answer(target, chunks.chunks[0])
            process = ServerProcess([PROGRAM, "-db", "-f", str(file)], {}, missing, folder / "haproxy.log")
            proxy = running.enter_context(process).pids()
        yield Stage(target, server, proxy, store, chunks), url


@contextmanager
def stored(store: str, disk: Path) -> Iterator[tuple[str, Sequence[int]]]:
    """URL and pids of a store: ``memory``, ``file`` or ``valkey``. It ends with this context."""
    if store == "memory":
        yield "memory://", ()
        return
    with tempfile.TemporaryDirectory(prefix="hetsyn-capacity-", dir=disk) as name:
        if store == "file":
            yield f"file://{name}/sessions.db", ()
            return
        with ValkeyServer(Path(name)) as valkey:
            yield valkey.url, valkey.pids


def engine_s(seconds: float) -> float:
    """Time of the engine alone for a chunk in a full batch."""
    with undisturbed(()):
        return engine_us(cases()[0], seconds, FULL) / 1e6


def bare_loop(seen: Sequence[Observed], compute_s: float) -> LoopCosts:
    """The costs of a loop without a store.

    Args:
        seen: closed loops of ``CALIBRATED`` sessions.
        compute_s: of the engine alone.
    """
    # The time of a full batch is known as a whole. What is not the engine's is taken to be each chunk's own.
    chunk_s = max(0.0, seen[-1].loop_s - compute_s)
    batches = tuple((n, max(0.0, n * (one.loop_s - chunk_s))) for n, one in zip(CALIBRATED, seen, strict=True))
    # a refused chunk has come over HTTP and gets an answer, as any other
    return LoopCosts(chunk_s, batches, refuse_s=chunk_s)


def cold_s(system: System, load: Load, seen: Observed) -> float:
    """What a turn after some time without work costs more.

    Args:
        system: one loop, whose costs are known but for this one.
        load: so light that most turns are such ones.
        seen: the load on the server.
    """
    expected = simulate(system, load)
    missing_s = seen.loop_s - expected.busy["loop"] / expected.answered_per_s
    return max(0.0, missing_s * expected.answered_per_s / expected.cold_turns_per_s)


def stored_loop(bare: LoopCosts, seen: Sequence[Observed]) -> LoopCosts:
    """The costs of a loop with a store: what the same closed loops take more than without."""
    more_s = [one.loop_s - bare.chunk_s - bare.batch_s(n) / n for n, one in zip(CALIBRATED, seen, strict=True)]
    commit_s = max(0.0, more_s[0] - more_s[-1]) * FULL / (FULL - 1)
    return replace(bare, commit_s=commit_s, record_s=max(0.0, more_s[0] - commit_s))


def system_of(arrangement: Arrangement, seen: Sequence[Observed], known: System, node: NodeCosts | None) -> System:
    """The arrangement as the simulation sees it.

    Args:
        arrangement: that was measured.
        seen: closed loops of ``CALIBRATED`` sessions.
        known: one worker without store and proxy.
        node: its store; None for memory.
    """
    full = seen[-1]
    system = replace(known, loops=arrangement.workers, client_s=full.client_s, node=node)
    if arrangement.workers > 1:
        # each batch has its share of the sessions, and what passing on to the other worker costs
        chunk_s = known.loop.chunk_s
        shares = [max(1, sessions // arrangement.workers) for sessions in CALIBRATED]
        batches = [(n, max(0.0, n * (one.loop_s - chunk_s))) for n, one in zip(shares, seen, strict=True)]
        most, most_s = batches[-1]
        batches.append((FULL, most_s * FULL / most))
        system = replace(system, loop=replace(known.loop, batches=tuple(batches)))
    if arrangement.has_proxy:
        system = replace(system, proxies=1, proxy_s=full.proxy_s, wire_s=2 * known.wire_s)
    if node is not None:
        system = replace(system, loop=stored_loop(known.loop, seen))
    return system


def bytes_of_a_record(stage: Stage) -> int:
    """Of a session in the middle of a recording."""
    return record_bytes(stage.target, stage.chunks)


def store_costs(store: str, disk: Path, size: int, seconds: float) -> NodeCosts:
    """The costs of a store by itself.

    Args:
        store: ``file`` or ``valkey``.
        disk: folder for its files.
        size: of a record, in bytes.
        seconds: of each measurement.
    """
    with stored(store, disk) as (url, pids), undisturbed(pids):
        return node_costs(url, pids, size, seconds)
