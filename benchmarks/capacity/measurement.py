"""What servers, stores and the engine of this machine do and take.

The CPU time is that of the main threads, which run the event loops, while chunks are measured: first chunks of many
sessions, and deletions, cost more, and come before and after.
"""

from __future__ import annotations

import re
import statistics
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from benchmarks.capacity.arrangements import CHUNK_S, Stage, stored
from benchmarks.capacity.processor import main_thread_s, process_s, undisturbed
from benchmarks.capacity.stores import FULL, node_costs
from benchmarks.capacity.system import Load, NodeCosts
from benchmarks.durability import record_bytes
from benchmarks.load import EXCHANGE_TIMEOUT_S, CountingTarget, LoadError
from benchmarks.way_in import cases, engine_us
from hetsyn_client.loadtest.recorder import Recorder
from hetsyn_client.loadtest.run import ClosedLoop, OpenLoop, RunSettings, Watch, measure, run_loop
from hetsyn_client.loadtest.target import Address

WARM_UP_S = 0.3


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
        lag_s: median of how late it sent.
        mean_batch: chunks of a batch, warm-up included.
    """

    answered_per_s: float
    p50_ms: float
    p99_ms: float
    loop_s: float
    proxy_s: float
    client_s: float
    lag_s: float
    mean_batch: float


class _Spent(NamedTuple):
    chunks: int
    loop_s: float
    proxy_s: float


class _Batches(NamedTuple):
    number: float
    chunks: float


def _batches(server: Address) -> _Batches:
    """Batches of a server so far, from its metrics."""
    url = f"http://{server.host}:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=EXCHANGE_TIMEOUT_S) as reply:
        text = reply.read().decode()
    number, chunks = (
        sum(float(value) for value in re.findall(rf"^hetsyn_batch_chunks_{part}{{.*}} (\S+)$", text, re.MULTILINE))
        for part in ("count", "sum")
    )
    return _Batches(number, chunks)


class _Window(Watch):
    """CPU time and chunks between the first and the last look within the measured time."""

    def __init__(self, target: CountingTarget, server: Sequence[int], proxy: Sequence[int]) -> None:
        self._target = target
        self._server = server
        self._proxy = proxy
        self._first: _Spent | None = None
        self._last: _Spent | None = None
        self._recorder: Recorder | None = None

    def goes_on(self, recorder: Recorder, now_s: float) -> None:
        if now_s < recorder.begin_s:
            return
        now = _Spent(self._target.applied, main_thread_s(self._server), process_s(self._proxy))
        self._first, self._last = self._first or now, now
        self._recorder = recorder

    @property
    def lag_s(self) -> float:
        """Median of how late the load generator sent. Not known while it sends: it takes milliseconds."""
        return self._recorder.lag_ms(50.0) / 1e3 if self._recorder is not None else 0.0

    def of_a_chunk_s(self) -> tuple[float, float]:
        """Time of the loops and of the proxy for a chunk.

        Raises:
            LoadError: none was answered within the window.
        """
        if self._first is None or self._last is None or self._last.chunks == self._first.chunks:
            raise LoadError("no chunk was answered while CPU time was measured: take more --seconds")
        chunks = self._last.chunks - self._first.chunks
        return (self._last.loop_s - self._first.loop_s) / chunks, (self._last.proxy_s - self._first.proxy_s) / chunks


def observe(stage: Stage, load: Load, seconds: float, seed: int) -> Observed:
    """Put a server under a load.

    Raises:
        LoadError: a chunk failed.
    """
    target = CountingTarget(stage.target)
    chunks = replace(stage.chunks, period_s=load.period_s or CHUNK_S)
    mode = OpenLoop(load.sessions) if load.period_s else ClosedLoop(load.sessions)
    # a session's first chunk costs more, so each has had one when the measured time begins
    settings = RunSettings(duration_s=seconds, warmup_s=max(WARM_UP_S, 1.1 * load.period_s), seed=seed)
    pids = stage.server.pids()
    window = _Window(target, pids, stage.proxy)
    before = _batches(stage.server_address)
    with undisturbed((*pids, *stage.proxy, *stage.store)):
        measured = run_loop(measure(target, chunks, mode, settings, watch=window))
    after = _batches(stage.server_address)
    if not measured.answered or measured.errors:
        raise LoadError(f"{measured.answered} answered, errors: {measured.errors}")
    loop_s, proxy_s = window.of_a_chunk_s()
    return Observed(
        measured.achieved_per_s,
        measured.service.at(50.0),
        measured.service.at(99.0),
        loop_s,
        proxy_s,
        (measured.generator.cpu_us_a_chunk or 0.0) / 1e6,
        window.lag_s,
        (after.chunks - before.chunks) / (after.number - before.number),
    )


def typical(runs: Sequence[Observed]) -> Observed:
    """The median of each figure."""
    return Observed(
        **{field.name: statistics.median(getattr(run, field.name) for run in runs) for field in fields(Observed)}
    )


def engine_s(seconds: float) -> float:
    """Time of the engine alone for a chunk in a full batch."""
    with undisturbed(()):
        return engine_us(cases()[0], seconds, FULL) / 1e6


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


def typical_costs(runs: Sequence[NodeCosts]) -> NodeCosts:
    """The median of each cost."""
    times = ("turn_s", "command_s", "record_s")
    return replace(runs[0], **{name: statistics.median(getattr(run, name) for run in runs) for name in times})
