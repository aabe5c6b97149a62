"""Real-time streams of one `hetsyn serve` over `/infer`, `/stream` and `/streams`, in turns, on two models.

A stream is a session that sends a chunk of 100 ms every 100 ms; the streams are not synchronised. A search finds the
most streams that hold the limit of the p99. Server and load generator share the machine. The CPU time of each a chunk
is that of the largest load that held, or else of the smallest tried.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load.contenders import (
    DENSITY,
    MODEL,
    newest_speech,
    serve,
    shd_load,
)
from benchmarks.load.cpu_contention import CpuUsage
from benchmarks.load.load import SearchLimits, find_streams
from hetsyn_client.access import Access
from hetsyn_client.loadtest.load import Load, Served, recorded
from hetsyn_client.loadtest.run import Measurement, RunSettings, run_loop
from hetsyn_client.loadtest.senders import WAYS, Transport, Way
from service.contract.artifact import Artifact
from tests.support.paths import RECORDINGS
from tests.support.servers.target import Address, HetsynTarget

LIMIT_MS = 100.0
CHUNK_S = 0.1
BASE = "infer"
TRANSPORTS = (BASE, "stream", "streams")
# all streams come from one address
OPTIONS = ("--client-share", "1")


@dataclass(frozen=True)
class Case:
    """A model, and what it gets.

    Attributes:
        load: the chunks.
    """

    artifact: Artifact
    load: Load

    def target(self, address: Address) -> HetsynTarget:
        manifest = self.artifact.manifest
        return HetsynTarget(address, self.load.content_type, manifest.name, manifest.version)

    def way(self, transport: str, address: Address) -> Way:
        manifest = self.artifact.manifest
        served = Served(manifest.name, manifest.input.channels, manifest.input.step_s, None)
        return WAYS[Transport(transport)](Access.checked(address.url), served, self.load)


def cases(one: bool = False) -> list[Case]:
    """Make random spikes for the SHD-size model and, unless one load is enough, recordings for the speech model."""
    spikes = Case(Artifact.open(MODEL), shd_load())
    return [spikes] if one else [spikes, Case(newest_speech(), recorded(RECORDINGS, CHUNK_S))]


def run(repeats: int, settings: RunSettings, limits: SearchLimits, loads: Sequence[Case]) -> dict[str, Any]:
    """Measure all transports, and print them. The results as JSON values.

    Args:
        repeats: rounds over all transports.
        settings: of each trial.
        limits: of each search.
        loads: what each transport gets.
    """
    console = Console(stderr=True)
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for repeat in range(repeats):
        for case in loads:
            name = case.artifact.manifest.name
            with serve(case.target, case.load.chunks[0], *OPTIONS) as (server, target):
                for transport in TRANSPORTS:
                    console.print(f"round {repeat + 1} of {repeats}: {name}, {transport}", highlight=False)
                    found = search(case, transport, target.address, server.pids, settings, limits)
                    rounds.setdefault(name, {}).setdefault(transport, []).append(found)
    results = summary(rounds)
    results["settings"] = {
        "chunk_ms": 1000 * CHUNK_S,
        "limit_ms": LIMIT_MS,
        "density": DENSITY,
        "session_chunks": settings.session_chunks,
        "seconds": settings.duration_s,
        "serve": list(OPTIONS),
    }
    show(results)
    return results


def search(
    case: Case,
    transport: str,
    address: Address,
    pids: Callable[[], Iterable[int]],
    settings: RunSettings,
    limits: SearchLimits,
) -> dict[str, Any]:
    """Search for the most streams of a server over one interface. The trials as JSON values.

    Args:
        pids: gives the server's processes.
    """
    way = partial(case.way, transport, address)
    found, usages = run_loop(find_streams(way, pids, case.load, LIMIT_MS, settings, limits))
    trials = [
        trial.as_json() | _cpu(trial.measurement, usage) for trial, usage in zip(found.trials, usages, strict=True)
    ]
    return found.as_json() | {"trials": trials}


def _cpu(measured: Measurement, usage: CpuUsage | None) -> dict[str, Any]:
    """CPU microseconds a chunk of the server and of the load generator, and cores of other programs."""
    return {
        "server_us": 1e6 * usage.server_s / measured.applied if usage is not None and measured.applied else None,
        "generator_us": measured.generator_cpu_us,
        "other_cores": None if usage is None else usage.other_cores,
    }


def summary(rounds: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Medians of the rounds, and ratios to ``/infer``.

    Args:
        rounds: by model and transport.
    """
    models: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    for model, by_transport in rounds.items():
        typical = {transport: _typical(taken) for transport, taken in by_transport.items()}
        models[model] = typical
        base = typical[BASE]
        for transport, figures in typical.items():
            if transport != BASE:
                ratios[f"{model}: streams, {transport} / {BASE}"] = figures["streams"] / max(1, base["streams"])
    return {"models": models, "ratios": ratios, "rounds": rounds}


def _typical(taken: Sequence[dict[str, Any]]) -> dict[str, Any]:
    chosen = [_chosen(one["trials"]) for one in taken]
    streams = [one["streams"] for one in taken]
    return {
        "streams": statistics.median(streams),
        "streams_of_rounds": streams,
        "is_least": any(one["why_at_least"] for one in taken),
        "server_us": _median(trial["server_us"] for trial in chosen),
        "generator_us": _median(trial["generator_us"] for trial in chosen),
        "other_cores": max((trial["other_cores"] or 0.0 for trial in chosen), default=0.0),
    }


def _chosen(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Choose the largest load that held; if none did, the smallest."""
    held = [trial for trial in trials if not trial["missed"]]
    if held:
        return max(held, key=lambda trial: int(trial["streams"]))
    return min(trials, key=lambda trial: int(trial["streams"]))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def show(results: dict[str, Any]) -> None:
    """Print the results."""
    console = Console()
    heading = f"streams <{LIMIT_MS:g} ms"
    columns = (heading, "of rounds", "/infer", "server µs", "generator µs", "others")
    table = Table(
        "model", "transport", *columns, title="real-time streams of one server, a chunk of 100 ms each 100 ms"
    )
    for model, by_transport in results["models"].items():
        base = max(1, by_transport[BASE]["streams"])
        for transport, figures in by_transport.items():
            table.add_row(
                model,
                f"/{transport}",
                _at_least(figures) + f"{figures['streams']:g}",
                ", ".join(f"{count:g}" for count in figures["streams_of_rounds"]),
                f"{figures['streams'] / base:.2f}",
                "-" if figures["server_us"] is None else f"{figures['server_us']:.0f}",
                "-" if figures["generator_us"] is None else f"{figures['generator_us']:.0f}",
                f"{figures['other_cores']:.2f}",
            )
    console.print(table)


def _at_least(figures: dict[str, Any]) -> str:
    return "≥ " if figures["is_least"] else ""
