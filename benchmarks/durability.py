"""The cost of durable sessions: throughput and latency with a file and with Valkey against memory, and float16.

The servers run side by side and take turns under the load generator of `hetsyn bench`: chunks of 100 ms of the shipped
recordings, in a closed loop at 1 and at 64 concurrent sessions. A ratio compares two loads of one round, and the median
over the rounds is reported. Then recordings go to a server that stores float32 and to a server that stores float16
(``--store-dtype float16``), and their answers are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import serve_speech
from benchmarks.load import Figures, closed_loop, exchange
from benchmarks.plots import plain, pyplot, save
from hetsyn_client.loadtest.load import Load, recorded
from hetsyn_client.loadtest.run import RunSettings
from hetsyn_client.loadtest.target import HetsynTarget
from tests.support.paths import RECORDINGS
from tests.support.recordings import cut, digit
from tests.support.valkey import BINARY, MISSING, ValkeyServer

CHUNK_S = 0.1
CONCURRENCIES = (1, 64)
AT_ONCE = 8


@dataclass(frozen=True)
class Accuracy:
    """float16 against float32 in the store.

    Attributes:
        recordings: number of recordings.
        right_float32: share of the recordings that are labelled as their file's name says, with float32.
        right_float16: the same with float16.
        labels_that_differ: recordings that get another label with float16.
        largest_shift: largest change of a probability in the last reply, over all recordings.
        median_shift: median over the recordings of the largest change of a probability.
        record_bytes_float32: size of an open session's record.
        record_bytes_float16: the same with float16.
    """

    recordings: int
    right_float32: float
    right_float16: float
    labels_that_differ: int
    largest_shift: float
    median_shift: float
    record_bytes_float32: int
    record_bytes_float16: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, help="rounds over all servers; medians are reported")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for other programs before each load"
    )
    parser.add_argument("--data", type=Path, help="a folder of digit_speaker_take.wav, for float16's accuracy")
    parser.add_argument("--data-count", type=int, default=300, help="how many of them, evenly picked")
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    repeats, seconds = (1, 1.0) if arguments.quick else (arguments.repeats, arguments.seconds)
    settings = RunSettings(duration_s=seconds, warmup_s=0.4)
    console = Console(stderr=True)
    load = recorded(RECORDINGS, CHUNK_S)
    rounds: dict[str, dict[str, list[Figures]]] = {}
    with tempfile.TemporaryDirectory(prefix="hetsyn-durability-") as name, ExitStack() as running:
        folder = Path(name)
        servers = {
            title: running.enter_context(serve_speech(load, "--store", store))
            for title, store in _stores(folder, running, console)
        }
        rounds = {title: {str(n): [] for n in CONCURRENCIES} for title in servers}
        for repeat in range(repeats):
            console.print(f"round {repeat + 1} of {repeats}", highlight=False)
            for concurrency in CONCURRENCIES:
                for title, (server, target) in servers.items():
                    figures = closed_loop(target, server, load, concurrency, settings, arguments.patience)
                    rounds[title][str(concurrency)].append(figures)
    results = summary(rounds)
    sets = {"shipped recordings": sorted(RECORDINGS.glob("*.wav"))}
    if arguments.data is not None:
        recordings = sorted(arguments.data.rglob("*.wav"))
        count = min(len(recordings), 20 if arguments.quick else arguments.data_count)
        sets[f"{count} of {arguments.data.name}"] = [recordings[i * len(recordings) // count] for i in range(count)]
    results["float16"] = {name: asdict(one) for name, one in accuracy(sets, load).items()}
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


def accuracy(sets: dict[str, list[Path]], load: Load) -> dict[str, Accuracy]:
    """The effect of float16 in the store, on recordings by title. Every chunk goes through the store's bytes."""
    with tempfile.TemporaryDirectory(prefix="hetsyn-float16-") as name, ExitStack() as running:
        folder = Path(name)
        targets = [
            running.enter_context(serve_speech(load, "--store", f"file://{folder / kind}.db", *options))[1]
            for kind, options in (("float32", ()), ("float16", ("--store-dtype", "float16")))
        ]
        accuracies = {}
        for title, paths in sets.items():
            with ThreadPoolExecutor(AT_ONCE) as threads:
                float32, float16 = (
                    list(threads.map(lambda path, t=target: _last_reply(t, path), paths)) for target in targets
                )
            probabilities = [np.array([reply["probabilities"] for reply in one]) for one in (float32, float16)]
            shift = np.abs(probabilities[0] - probabilities[1]).max(axis=1)
            names = [digit(path) for path in paths]
            right = [_right(one, names) for one in (float32, float16)]
            differ = sum(a["label"] != b["label"] for a, b in zip(float32, float16, strict=True))
            sizes = [record_bytes(target, load) for target in targets]
            accuracies[title] = Accuracy(
                recordings=len(paths),
                right_float32=right[0],
                right_float16=right[1],
                labels_that_differ=differ,
                largest_shift=float(shift.max()),
                median_shift=float(np.median(shift)),
                record_bytes_float32=sizes[0],
                record_bytes_float16=sizes[1],
            )
        return accuracies


def _right(replies: Sequence[dict[str, Any]], names: Sequence[str]) -> float:
    return [reply["label"] == name for reply, name in zip(replies, names, strict=True)].count(True) / len(names)


def _last_reply(target: HetsynTarget, path: Path) -> dict[str, Any]:
    _, chunks = cut(path, CHUNK_S)
    session, body = f"float-{path.stem}", b""
    for seq, chunk in enumerate(chunks):
        body = exchange(target.address, target.request(session, seq, chunk, is_last=seq == len(chunks) - 1))
    reply: dict[str, Any] = json.loads(body)
    return reply


def record_bytes(target: HetsynTarget, load: Load) -> int:
    """Size of the record of a session in the middle of a recording."""
    exchange(target.address, target.request("measured", 0, load.chunks[0], is_last=False))
    connection = HTTPConnection(target.address.host, target.address.port)
    connection.request("GET", "/sessions/measured/state")
    size = len(connection.getresponse().read())
    connection.close()
    drop = target.drop("measured")
    assert drop is not None
    exchange(target.address, drop)
    return size


def _print(results: dict[str, Any]) -> None:
    console = Console(width=120)
    columns = [
        f"{what} at {n}" for n in CONCURRENCIES for what in ("chunks/s", "/ memory", "p50 ms", "p99 ms", "CPU ms")
    ]
    table = Table("store", *columns, title="speech-digits, chunks of 100 ms, closed loop through HTTP")
    for title, store in results["stores"].items():
        cells = []
        for n in map(str, CONCURRENCIES):
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
    for name, one in results["float16"].items():
        console.print(
            f"float16, {name}: {one['labels_that_differ']} of {one['recordings']} labels differ, right "
            f"{one['right_float16']:.1%} (float32 {one['right_float32']:.1%}), a probability shifts by "
            f"{one['median_shift']:.1e}, at most {one['largest_shift']:.1e}; a record has "
            f"{one['record_bytes_float16']:,} bytes (float32 {one['record_bytes_float32']:,})",
            highlight=False,
            soft_wrap=True,
        )


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
