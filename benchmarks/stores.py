"""``benchmarks service --stores``: what sessions in a file, in Valkey and in a cluster cost, against memory.

The servers run side by side and take turns under closed loops: chunks of 100 ms of the shipped recordings. A ratio
compares two loads of one round, and the median over the rounds is reported.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load.contenders import serve_speech
from benchmarks.load.load import Figures, closed_loop
from hetsyn_client.loadtest.load import recorded
from hetsyn_client.loadtest.run import RunSettings
from tests.support.paths import RECORDINGS
from tests.support.stores.valkey import BINARY, MISSING, ValkeyServer

CHUNK_S = 0.1
MEMORY = "memory"
SMOKED = (MEMORY, "file, synchronous=full", "Valkey, always")


def run(
    repeats: int, settings: RunSettings, patience_s: float, concurrencies: Sequence[int], *, is_smoke: bool
) -> dict[str, Any]:
    """Measure all stores, and print the table."""
    console = Console(stderr=True)
    load = recorded(RECORDINGS, CHUNK_S)
    with tempfile.TemporaryDirectory(prefix="hetsyn-stores-") as folder, ExitStack() as running:
        servers = {
            title: running.enter_context(serve_speech(load, "--store", store))
            for title, store in _stores(Path(folder), running, console, is_smoke=is_smoke)
            if not is_smoke or title in SMOKED
        }
        rounds: dict[str, dict[int, list[Figures]]] = {title: {n: [] for n in concurrencies} for title in servers}
        for repeat in range(repeats):
            console.print(f"round {repeat + 1} of {repeats}", highlight=False)
            for n in concurrencies:
                for title, (server, target) in servers.items():
                    rounds[title][n].append(closed_loop(target, server, load, n, settings, patience_s))
    results = {"stores": {title: _summary(loads, rounds[MEMORY]) for title, loads in rounds.items()}}
    _print(results, concurrencies)
    return results


def _stores(folder: Path, running: ExitStack, console: Console, *, is_smoke: bool) -> Iterator[tuple[str, str]]:
    """Title and URL of each store. Valkey's servers end with ``running``."""
    yield MEMORY, "memory://"
    yield "file, synchronous=full", f"file://{folder / 'full.db'}"
    yield "file, synchronous=normal", f"file://{folder / 'normal.db'}?synchronous=normal"
    if BINARY is None:
        console.print(f"without Valkey: {MISSING}", highlight=False)
        return
    for appendfsync in ("everysec", "always"):
        (data := folder / appendfsync).mkdir()
        yield f"Valkey, {appendfsync}", running.enter_context(ValkeyServer(data, "--appendfsync", appendfsync)).url
    if is_smoke:
        return
    from tests.support.stores.valkey_cluster import ValkeyCluster

    for replicas in (0, 1):
        (data := folder / f"cluster-{replicas}").mkdir()
        cluster = running.enter_context(ValkeyCluster(data))
        yield f"cluster of three primaries, replicas={replicas}", f"{cluster.url}?replicas={replicas}"


def _summary(loads: dict[int, list[Figures]], memory: dict[int, list[Figures]]) -> dict[str, Any]:
    """Medians by the number of sessions; throughput and p50 beside memory's in the same round."""
    found: dict[str, Any] = {}
    for n, rounds in loads.items():
        pairs = list(zip(rounds, memory[n], strict=True))
        found[str(n)] = {
            **{name: statistics.median(getattr(one, name) for one in rounds) for name in asdict(rounds[0])},
            "share_of_memory": statistics.median(mine.chunks_per_s / other.chunks_per_s for mine, other in pairs),
            "p50_added_ms": statistics.median(mine.p50_ms - other.p50_ms for mine, other in pairs),
            "rounds": [asdict(one) for one in rounds],
        }
    return found


def _print(results: dict[str, Any], concurrencies: Sequence[int]) -> None:
    columns = [f"{what} at {n}" for n in concurrencies for what in ("chunks/s", "/ memory", "p50 added", "p99 ms")]
    table = Table("store", *columns, title="speech-digits, chunks of 100 ms, closed loop through HTTP")
    for title, store in results["stores"].items():
        cells = []
        for n in concurrencies:
            one = store[str(n)]
            cells += [f"{one['chunks_per_s']:,.0f}", f"{one['share_of_memory']:.0%}"]
            cells += [f"{one['p50_added_ms']:+.2f} ms", f"{one['p99_ms']:.1f}"]
        table.add_row(title, *cells)
    Console(width=140).print(table)
