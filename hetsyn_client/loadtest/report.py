"""Reports a run: a line of progress, a table, sentences and JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hetsyn_client.loadtest.run import PERCENTILES, Distribution, Measurement, Record
from hetsyn_client.loadtest.search import Found, Trial

FORMAT_VERSION = 4


def progress(record: Record, now_s: float) -> str:
    """Describe the run so far in a line."""
    elapsed_s = now_s - record.begin_s
    if elapsed_s < 0:
        return f"warms up, {-elapsed_s:.1f} s"
    rate = len(record.answered_s) / max(elapsed_s, 0.1)
    recent = 1e3 * (np.array(record.answered_s[-1_000:]) - np.array(record.due_s[-1_000:]))
    latency = "" if not len(recent) else ", p50 {:.1f} ms, p99 {:.1f} ms".format(*np.percentile(recent, (50, 99)))
    errors = f", {record.errors.total():,} errors" if record.errors else ""
    return f"{elapsed_s:.0f} of {record.end_s - record.begin_s:.0f} s: {rate:,.0f} chunks/s{latency}{errors}"


def headline(m: Measurement) -> str:
    """Say what the load was, and the throughput."""
    offered = "" if m.offered_per_s is None else f" of {m.offered_per_s:,.0f}"
    what = f"{m.streams:,} streams in real time" if m.mode == "open" else f"closed loop of {m.streams:,}"
    return f"{what}: {m.achieved_per_s:,.0f}{offered} chunks/s over {m.duration_s:.1f} s"


def latencies(m: Measurement) -> dict[str, Distribution]:
    """Name the times that have values."""
    named = {"latency, from when due": m.latency, "of it, from when sent": m.service}
    named = named if m.mode == "open" else {"latency": m.latency}
    return {name: found for name, found in named.items() if found.count}


def rows(m: Measurement) -> list[list[str]]:
    """Write the table of percentiles, its head first."""
    head = ["ms", *(f"p{percentile:g}" for percentile in PERCENTILES), "max"]
    return [
        head,
        *(
            [name, *(f"{ms:,.1f}" for ms in (*found.percentiles.values(), found.max_ms))]
            for name, found in latencies(m).items()
        ),
    ]


def show(console: Console, m: Measurement) -> None:
    """Print load, throughput, percentiles and notes."""
    (first, *others), *found = rows(m)
    table = Table(first, title=headline(m), title_justify="left")
    for column in others:
        table.add_column(column, justify="right")
    for row in found:
        table.add_row(*row)
    console.print(table)
    for note in notes(m):
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)


def notes(m: Measurement) -> list[str]:
    """Write sentences about errors, and about doubts that the load generator raises."""
    sentences = []
    if m.errors:
        sentences.append("errors: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(m.errors.items())))
    if m.unanswered:
        sentences.append(f"{m.unanswered:,} chunks had no answer at the end; they count with the time that they waited")
    if m.is_generator_busy:
        sentences.append(
            f"the load generator was busy or late itself (CPU {m.generator_cpu_share:.0%}, chunks sent up to "
            f"{m.generator_late_ms:.1f} ms late, p99): wait until other programs leave the processors, or give it a "
            "machine of its own"
        )
    if m.sessions_left:
        sentences.append(f"{m.sessions_left:,} sessions may be left on the server; it drops them when idle")
    if m.stopped:
        sentences.append(f"ended early: {m.stopped}")
    return sentences


def tried(trial: Trial) -> str:
    """Describe a trial of a search in a line."""
    percentiles = trial.measurement.latency.percentiles
    outcome = trial.missed or f"held, p50 {percentiles[50.0]:,.1f} ms, p99 {percentiles[99.0]:,.1f} ms"
    busy = "; the load generator was busy or late" if trial.measurement.is_generator_busy else ""
    return f"{trial.streams:,} streams: {outcome}{busy}"


def conclusion(found: Found) -> str:
    """Say what a search has found."""
    least, why = ("at least ", f": {found.why_at_least}") if found.why_at_least else ("", "")
    return f"{least}{found.streams:,} real-time streams with p99 below {found.limit_ms:g} ms{why}"


def as_json(settings: Mapping[str, Any], m: Measurement) -> dict[str, Any]:
    """Write all settings and figures as JSON values."""
    return {
        "format_version": FORMAT_VERSION,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "generator": {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()},
        "measurement": asdict(m),
    }
