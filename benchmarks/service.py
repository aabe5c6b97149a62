"""Real-time streams that `hetsyn serve` holds, against the exact step with a dict of states and an empty endpoint.

A stream is a session that sends 25 steps (100 ms) of packed events every 100 ms; the streams are not synchronised.
Measured of each server in turn: the most streams that hold a p99 under 50 ms and under 100 ms, by the search of
``hetsyn bench --find-streams``; chunks a second in a closed loop at concurrency 16 and 64; and the server's CPU time a
chunk. Latency counts from when a chunk was due. ``ratios`` has ours over the dict's, and over the empty endpoint's.

With `--transports`, the same search over `/infer`, `/stream` and `/streams` of one server, in turns, on two models.
With `--stores`, closed loops at 1 and 64 sessions, with each store.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import stores, transports
from benchmarks.load.contenders import MODEL, STEPS, Contender, dict_server, empty, ours, shd_load
from benchmarks.load.load import (
    SMOKE_CONCURRENCIES,
    SMOKE_RUN,
    Figures,
    SearchLimits,
    StreamTarget,
    closed_loop,
    find_streams,
    typical,
)
from benchmarks.load.requests import RequestWay
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.run import RunSettings, run_loop
from tests.support.servers.server_process import ServerProcess

LIMITS_MS = (50.0, 100.0)
CONCURRENCIES = (16, 64)
STORE_CONCURRENCIES = (1, 64)


@dataclass(frozen=True)
class Effort:
    """The length of a benchmark.

    Attributes:
        repeats: rounds over all servers.
        limits_ms: limits of the p99, a search for each.
        patience_s: the longest wait for other programs before a closed loop.
        settings: of each run.
        limits: of each search.
    """

    repeats: int
    limits_ms: tuple[float, ...]
    patience_s: float
    settings: RunSettings
    limits: SearchLimits
    concurrencies: tuple[int, ...] = CONCURRENCIES


QUICK = Effort(1, LIMITS_MS[-1:], 0.0, RunSettings(duration_s=0.8, warmup_s=0.3), SearchLimits(4, 0.0))
SMOKE = Effort(1, LIMITS_MS[-1:], 0.0, SMOKE_RUN, SearchLimits(1, 0.0), SMOKE_CONCURRENCIES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all servers; medians are reported")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds of each load")
    parser.add_argument(
        "--patience", type=float, default=15.0, help="seconds to wait for other programs before each load"
    )
    parser.add_argument("--trials", type=int, default=40, help="most trials of a search")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--transports", action="store_true", help="/infer, /stream and /streams in place of the servers"
    )
    instead.add_argument("--stores", action="store_true", help="memory, file and Valkey in place of the servers")
    parser.add_argument("--session-chunks", type=int, default=50, help="with --transports: length of a session")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = RunSettings(duration_s=arguments.seconds, warmup_s=0.5)
    effort = Effort(
        arguments.repeats,
        LIMITS_MS,
        arguments.patience,
        settings,
        SearchLimits(arguments.trials, arguments.patience),
    )
    if arguments.quick:
        effort = SMOKE if arguments.smoke else QUICK
    if arguments.transports:
        settings = replace(effort.settings, session_chunks=arguments.session_chunks)
        return transports.run(effort.repeats, settings, effort.limits, transports.cases(arguments.smoke))
    if arguments.stores:
        concurrencies = SMOKE_CONCURRENCIES if arguments.smoke else STORE_CONCURRENCIES
        return stores.run(effort.repeats, effort.settings, effort.patience_s, concurrencies, is_smoke=arguments.smoke)
    from benchmarks.steps.step_graph import write_step_graph  # imports torch: the others need none

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="hetsyn-service-") as name:
        folder = Path(name)
        step_graph = folder / "step.onnx"
        write_step_graph(MODEL, step_graph)
        contenders = [ours(), dict_server(step_graph), empty()]
        load = shd_load()
        rounds: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contenders}
        for repeat in range(effort.repeats):
            for contender in contenders:
                console.print(f"round {repeat + 1} of {effort.repeats}: {contender.title}", highlight=False)
                with contender.serve(folder / f"{contender.name}.log") as (server, target):
                    rounds[contender.name].append(_measure(target, server, load, effort))
    results = summary(contenders, rounds)
    _print(results)
    return results


def _measure(target: StreamTarget, server: ServerProcess, load: Load, effort: Effort) -> dict[str, Any]:
    """Measure one round of one server."""
    closed = {
        str(n): asdict(closed_loop(target, server, load, n, effort.settings, effort.patience_s))
        for n in effort.concurrencies
    }
    way = partial(RequestWay, target)
    searches = {
        f"{limit:g}": run_loop(find_streams(way, server.pids, load, limit, effort.settings, effort.limits))[0].as_json()
        for limit in effort.limits_ms
    }
    return {
        "closed": closed,
        "streams": {limit: search["streams"] for limit, search in searches.items()},
        "searches": searches,
    }


def summary(contenders: Sequence[Contender], rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Typical figures of each server, and ratios. contenders: ours, the dict, and the empty endpoint."""
    servers: dict[str, Any] = {}
    for one in contenders:
        taken = rounds[one.name]
        servers[one.name] = {
            "title": one.title,
            "streams": {limit: statistics.median(r["streams"][limit] for r in taken) for limit in taken[0]["streams"]},
            "closed": {n: asdict(typical([Figures(**one["closed"][n]) for one in taken])) for n in taken[0]["closed"]},
        }
    mine, by_dict, nothing = (servers[one.name] for one in contenders)
    streams = {
        f"streams with p99 under {limit} ms, ours / dict": count / max(1, by_dict["streams"][limit])
        for limit, count in mine["streams"].items()
    }
    speed = {
        f"chunks a second at concurrency {n}, ours / {name}": mine["closed"][n]["chunks_per_s"]
        / other["closed"][n]["chunks_per_s"]
        for name, other in (("dict", by_dict), ("empty", nothing))
        for n in mine["closed"]
    }
    cpu = {
        f"CPU time a chunk at concurrency {n}, dict / ours": by_dict["closed"][n]["cpu_ms"] / load["cpu_ms"]
        for n, load in mine["closed"].items()
    }
    return {"servers": servers, "ratios": streams | speed | cpu, "rounds": rounds}


def _print(results: dict[str, Any]) -> None:
    console = Console()
    first = next(iter(results["servers"].values()))
    limits, concurrencies = list(first["streams"]), list(first["closed"])
    table = Table(
        "server",
        *(f"streams <{limit} ms" for limit in limits),
        *(f"chunks/s at {n}" for n in concurrencies),
        *(f"CPU ms at {n}" for n in concurrencies),
        title=f"streams of a chunk of {STEPS} steps every 100 ms; p99; CPU a chunk",
    )
    for server in results["servers"].values():
        closed = [server["closed"][n] for n in concurrencies]
        table.add_row(
            server["title"],
            *(f"{server['streams'][limit]:g}" for limit in limits),
            *(f"{load['chunks_per_s']:,.0f}" for load in closed),
            *(f"{load['cpu_ms']:.2f}" for load in closed),
        )
    console.print(table)
    busiest = max(load["others_cores"] for server in results["servers"].values() for load in server["closed"].values())
    console.print(f"cores that other programs kept busy: up to {busiest:.2f}", highlight=False)
    for name, ratio in results["ratios"].items():
        console.print(f"{name}: {ratio:.2f}", highlight=False)
