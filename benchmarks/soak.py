"""Two minutes of real-time streams at 80% of saturation: errors, latency, and the server's memory over time.

The search of ``hetsyn bench --ramp`` finds the saturation first, unless ``--streams`` gives it. A lead-in precedes the
two minutes: a server keeps an ended session's last reply for a minute (``ended_keep_s``), and its memory grows until
the first replies are dropped. ``ratios`` has the memory of the last quarter over that of the first; above 1 it grows.
Passed: no error, no chunk without an answer, and at most 2% of growth.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contenders import serve_speech
from benchmarks.plots import plain, pyplot, save
from benchmarks.scaling import CHUNK_S, resident_bytes
from hetsyn_client.loadtest.load import recorded
from hetsyn_client.loadtest.measurement import Measurement
from hetsyn_client.loadtest.ramp import Goal, RampSettings
from hetsyn_client.loadtest.run import OpenLoop, RunSettings, measure, run_loop, saturate
from tests.support.paths import RECORDINGS

SHARE = 0.8
SAMPLE_S = 1.0
LARGEST_GROWTH = 1.02  # the number of resident pages varies
LEAD_IN_S, QUICK_LEAD_IN_S = 90.0, 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--streams", type=int, help="streams at saturation; else searched for")
    parser.add_argument("--target-ms", type=float, default=100.0, help="p99 that the search holds")
    parser.add_argument("--plot", type=Path, help="where the plot goes, PNG")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    seconds = 15.0 if arguments.quick else arguments.seconds
    lead_in_s = QUICK_LEAD_IN_S if arguments.quick else LEAD_IN_S
    if arguments.smoke:
        seconds, lead_in_s = 3.0, 0.5
    ramp = RampSettings(max_trials=5, patience=0) if arguments.quick else RampSettings(max_trials=20)
    load = recorded(RECORDINGS, CHUNK_S)
    with serve_speech(load) as (server, target):
        saturation = 4 if arguments.smoke else arguments.streams
        if saturation is None:
            goal, settings = Goal(arguments.target_ms, 99.0), RunSettings(duration_s=3.0, warmup_s=0.5)
            saturation = run_loop(saturate(target, load, goal, settings, ramp)).saturation.streams
        streams = max(1, round(SHARE * saturation))
        memory: list[tuple[float, int]] = []
        over = threading.Event()
        began_s = time.monotonic()

        def watch() -> None:
            while not over.wait(SAMPLE_S):
                memory.append((time.monotonic() - began_s, resident_bytes(server)))

        sampler = threading.Thread(target=watch)
        sampler.start()
        try:
            measured = run_loop(
                measure(target, load, OpenLoop(streams), RunSettings(duration_s=seconds, warmup_s=lead_in_s))
            )
        finally:
            over.set()
            sampler.join()
    results = _summary(saturation, streams, measured, [(at_s - lead_in_s, size) for at_s, size in memory])
    if arguments.quick:
        del results["passed"]  # in a server's first seconds its memory grows in any case
    _print(results)
    if arguments.plot is not None:
        plot(results, arguments.plot)
    return results


def _summary(saturation: int, streams: int, measured: Measurement, memory: list[tuple[float, int]]) -> dict[str, Any]:
    settled = [value for at_s, value in memory if at_s >= 0]
    quarter = max(1, len(settled) // 4)
    early, late = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
    return {
        "passed": not measured.errors and not measured.unanswered and late / early <= LARGEST_GROWTH,
        "saturation_streams": saturation,
        "streams": streams,
        "seconds": measured.duration_s,
        "answered": measured.answered,
        "errors": measured.errors,
        "unanswered": measured.unanswered,
        "p50_ms": measured.latency.at(50.0),
        "p99_ms": measured.latency.at(99.0),
        "memory": [{"seconds": round(at_s, 1), "resident_bytes": value} for at_s, value in memory],
        "windows": [{"seconds": w.begin_s, "p50_ms": w.p50_ms, "p99_ms": w.p99_ms} for w in measured.windows],
        "ratios": {"resident memory, last quarter / first": late / early},
    }


def _print(results: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(
        f"{results['streams']} streams ({SHARE:.0%} of {results['saturation_streams']}) for "
        f"{results['seconds']:.0f} s: {results['answered']:,} chunks answered, errors {results['errors'] or 'none'}, "
        f"unanswered {results['unanswered']}, p50 {results['p50_ms']:.1f} ms, p99 {results['p99_ms']:.1f} ms"
    )
    for name, ratio in results["ratios"].items():
        console.print(f"{name}: {ratio:.3f}")


def plot(results: dict[str, Any], path: Path) -> None:
    figure, (memory, latency) = pyplot().subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
    memory.plot(
        [one["seconds"] for one in results["memory"]],
        [one["resident_bytes"] / 2**20 for one in results["memory"]],
        color="#0b6e4f",
    )
    memory.set_ylim(bottom=0)
    memory.set_ylabel("resident memory, MiB")
    for key, style in (("p50_ms", "-"), ("p99_ms", "--")):
        seconds = [one["seconds"] for one in results["windows"]]
        latency.plot(seconds, [one[key] for one in results["windows"]], style, color="#5b7fa6", label=key[:3])
    latency.set_ylim(bottom=0)
    latency.set(xlabel="seconds", ylabel="latency, ms")
    latency.legend(frameon=False)
    memory.set_title(f"{results['streams']} real-time streams of speech-digits, 80% of saturation", fontsize=10)
    plain(memory, latency)
    save(figure, path)
