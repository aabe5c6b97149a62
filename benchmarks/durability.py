"""The cost of durable sessions: throughput and latency with a file and with Valkey against memory.

The servers run side by side and take turns under the load generator of `hetsyn bench`: chunks of 100 ms of the shipped
recordings, in a closed loop at 1 and at 64 concurrent sessions. A ratio compares two loads of one round, and the median
over the rounds is reported.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import serve_speech
from benchmarks.load import SMOKE_CONCURRENCIES, SMOKE_RUN, Figures, closed_loop
from benchmarks.plots import plain, pyplot, save
from hetsyn_client.loadtest.load import recorded
from hetsyn_client.loadtest.run import RunSettings
from tests.support.paths import RECORDINGS
from tests.support.valkey import BINARY, MISSING, ValkeyServer

CHUNK_S = 0.1
CONCURRENCIES: tuple[int, ...] = (1, 64)
SMOKED = ("memory", "file, synchronous=full", "Valkey, always")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, help="rounds over all servers; medians are reported")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for other programs before each load"
    )
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    repeats, seconds = (1, 1.0) if arguments.quick else (arguments.repeats, arguments.seconds)
    settings, concurrencies = RunSettings(duration_s=seconds, warmup_s=0.4), CONCURRENCIES
    if arguments.smoke:
        settings, concurrencies = SMOKE_RUN, SMOKE_CONCURRENCIES
    console = Console(stderr=True)
    load = recorded(RECORDINGS, CHUNK_S)
    rounds: dict[str, dict[str, list[Figures]]] = {}
    with tempfile.TemporaryDirectory(prefix="hetsyn-durability-") as name, ExitStack() as running:
        folder = Path(name)
        servers = {
            title: running.enter_context(serve_speech(load, "--store", store))
            for title, store in _stores(folder, running, console)
            if not arguments.smoke or title in SMOKED
        }
        rounds = {title: {str(n): [] for n in concurrencies} for title in servers}
        for repeat in range(repeats):
            console.print(f"round {repeat + 1} of {repeats}", highlight=False)
            for concurrency in concurrencies:
                for title, (server, target) in servers.items():
                    figures = closed_loop(target, server, load, concurrency, settings, arguments.patience)
                    rounds[title][str(concurrency)].append(figures)
    results = summary(rounds)
    _print(results)
    if arguments.plot is not None:
        plot(results, arguments.plot)
    return results


def _stores(folder: Path, running: ExitStack, console: Console) -> Iterator[tuple[str, str]]:
    """Title and URL of each store. Valkey's servers end with ``running``."""
    yield "memory", "memory://"
    yield "file, synchronous=full", f"file://{folder / 'full.db'}"
    yield "file, synchronous=normal", f"file://{folder / 'normal.db'}?synchronous=normal"
    if BINARY is None:
        console.print(f"without Valkey: {MISSING}", highlight=False)
        return
    for appendfsync in ("everysec", "always"):
        data = folder / appendfsync
        data.mkdir()
        yield f"Valkey, {appendfsync}", running.enter_context(ValkeyServer(data, "--appendfsync", appendfsync)).url


def summary(rounds: dict[str, dict[str, list[Figures]]]) -> dict[str, Any]:
    """Medians, and each store's throughput and p50 relative to the first store's."""
    reference, *others = rounds
    stores = {
        title: {n: _median(figures) for n, figures in loads.items()} | {"rounds": _as_json(loads)}
        for title, loads in rounds.items()
    }
    ratios = {
        f"chunks a second at {n} sessions, {title} / {reference}": _paired(
            rounds[title][n], rounds[reference][n], lambda a, b: a.chunks_per_s / b.chunks_per_s
        )
        for n in rounds[reference]
        for title in others
    }
    added_ms = {
        f"p50 added at {n} sessions, {title}": _paired(
            rounds[title][n], rounds[reference][n], lambda a, b: a.p50_ms - b.p50_ms
        )
        for n in rounds[reference]
        for title in others
    }
    return {"stores": stores, "ratios": ratios, "added_ms": added_ms}


def _median(figures: Sequence[Figures]) -> dict[str, float]:
    return {name: statistics.median(asdict(one)[name] for one in figures) for name in asdict(figures[0])}


def _as_json(loads: dict[str, list[Figures]]) -> dict[str, list[dict[str, float]]]:
    return {n: [asdict(one) for one in figures] for n, figures in loads.items()}


def _paired(mine: Sequence[Figures], other: Sequence[Figures], compare: Callable[[Figures, Figures], float]) -> float:
    """The median over the rounds. A disturbance affects both loads of a round about equally."""
    return statistics.median(compare(a, b) for a, b in zip(mine, other, strict=True))


def _print(results: dict[str, Any]) -> None:
    console = Console(width=120)
    concurrencies = [n for n in next(iter(results["stores"].values())) if n != "rounds"]
    columns = [
        f"{what} at {n}" for n in concurrencies for what in ("chunks/s", "/ memory", "p50 ms", "p99 ms", "CPU ms")
    ]
    table = Table("store", *columns, title="speech-digits, chunks of 100 ms, closed loop through HTTP")
    for title, store in results["stores"].items():
        cells = []
        for n in concurrencies:
            ratio = results["ratios"].get(f"chunks a second at {n} sessions, {title} / memory", 1.0)
            figures = store[n]
            cells += [
                f"{figures['chunks_per_s']:,.0f}", f"{ratio:.0%}", f"{figures['p50_ms']:.2f}",
                f"{figures['p99_ms']:.1f}", f"{figures['cpu_ms']:.2f}",
            ]  # fmt: skip
        table.add_row(title, *cells)
    console.print(table)
    for name, value in results["added_ms"].items():
        console.print(f"{name}: {value:+.2f} ms", highlight=False)


def plot(results: dict[str, Any], path: Path) -> None:
    """Throughput against memory's, and p50, store by store, as a PNG."""
    figure, (speed, latency) = pyplot().subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    stores, height = results["stores"], 0.38
    reference = next(iter(stores))
    for n, shift, color in zip(CONCURRENCIES, (-height / 2, height / 2), ("#8fb9a8", "#0b6e4f"), strict=True):
        for row, title in enumerate(stores):
            ratio = results["ratios"].get(f"chunks a second at {n} sessions, {title} / {reference}", 1.0)
            figures = stores[title][str(n)]
            label = f"{n} session{'s' if n > 1 else ''}" if row == 0 else None
            speed.barh(row + shift, ratio, height, color=color, label=label)
            speed.annotate(
                f" {ratio:.0%}, {figures['chunks_per_s']:,.0f}/s", (ratio, row + shift), va="center", fontsize=8
            )
            latency.barh(row + shift, figures["p50_ms"], height, color=color)
            latency.annotate(f" {figures['p50_ms']:.2f} ms", (figures["p50_ms"], row + shift), va="center", fontsize=8)
    speed.set_yticks(range(len(stores)), list(stores))
    speed.invert_yaxis()
    speed.axvline(0.6, color="#c0392b", lw=1, linestyle="--")
    speed.set_xlim(0, 1.35)
    speed.set_title("chunks a second, of memory's in the same round (line: target, 60%)", fontsize=9)
    latency.set_xscale("log")
    latency.set_xlim(right=4 * max(store[str(n)]["p50_ms"] for store in stores.values() for n in CONCURRENCIES))
    latency.set_title("p50 of a chunk's latency, ms", fontsize=9)
    speed.legend(frameon=False, fontsize=8, loc="lower right")
    plain(speed, latency, grid="x")
    save(figure, path)
