"""Does the search of `hetsyn bench --ramp` find the saturation of the shipped model again, with another seed?

One server; recordings in real time, chunks of 100 ms, p99 within ``--target-ms``.
``ratios`` has the largest saturation found over the smallest. Passed: within 10%.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contenders import RECORDINGS, serve_speech
from benchmarks.plots import plain, pyplot, save
from hetsyn_client.loadtest.load import recorded
from hetsyn_client.loadtest.ramp import Goal, RampSettings
from hetsyn_client.loadtest.run import RampResult, RunSettings, run_loop, saturate

CHUNK_S = 0.1
AGREEMENT = 1.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--searches", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each trial")
    parser.add_argument("--target-ms", type=float, default=100.0, help="p99 that the search holds")
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    ramp = RampSettings(max_trials=5, patience=0) if arguments.quick else RampSettings()
    seconds = 1.0 if arguments.quick else arguments.seconds
    console = Console(highlight=False)
    searches: list[RampResult] = []
    load = recorded(RECORDINGS, CHUNK_S)
    with serve_speech(load) as (_, target):
        for index in range(arguments.searches):
            settings = RunSettings(duration_s=seconds, warmup_s=0.5, seed=1_000 * index)
            searches.append(run_loop(saturate(target, load, Goal(arguments.target_ms, 99.0), settings, ramp)))
            saturation = searches[-1].saturation
            console.print(
                f"search {index + 1}: {saturation.streams} streams ({saturation.low} to {saturation.high}) with p99 "
                f"within {arguments.target_ms:g} ms, {len(searches[-1].trials)} trials"
            )
    streams = [search.saturation.streams for search in searches]
    ratio = max(streams) / max(1, min(streams))
    console.print(f"largest / smallest: {ratio:.3f}")
    results = {
        # a short search is not certain
        **({} if arguments.quick else {"passed": ratio <= AGREEMENT}),
        "searches": [_described(search) for search in searches],
        "ratios": {"largest saturation / smallest": ratio},
    }
    if arguments.plot is not None:
        plot(results, arguments.target_ms, arguments.plot)
    return results


def _described(search: RampResult) -> dict[str, Any]:
    saturation = search.saturation
    return {
        "streams": saturation.streams,
        "nine_tenths": [saturation.low, saturation.high],
        "is_certain": saturation.is_certain,
        "trials": [
            {
                "streams": trial.measurement.streams,
                "p99_ms": trial.measurement.latency.at(99.0),
                "holds": not trial.missed,
                "is_counted": trial.is_counted,
            }
            for trial in search.trials
        ],
    }


def plot(results: dict[str, Any], target_ms: float, path: Path) -> None:
    figure, axes = pyplot().subplots(figsize=(7, 4), layout="constrained")
    for index, search in enumerate(results["searches"]):
        colour = ("#0b6e4f", "#5b7fa6", "#b5651d")[index % 3]
        counted = [trial for trial in search["trials"] if trial["is_counted"]]
        axes.scatter([t["streams"] for t in counted], [t["p99_ms"] for t in counted], s=24, color=colour, alpha=0.7)
        label = f"search {index + 1}: {search['streams']}"
        axes.axvspan(*search["nine_tenths"], color=colour, alpha=0.12)
        axes.axvline(search["streams"], color=colour, linestyle=":", label=label)
    axes.axhline(target_ms, color="#c0392b", linewidth=1, linestyle="--")
    axes.set(yscale="log", xlabel="real-time streams of speech-digits", ylabel="p99 of the latency, ms")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False, title="most streams, and nine tenths of the belief", fontsize=9)
    plain(axes)
    save(figure, path)
