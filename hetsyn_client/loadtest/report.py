"""What a run has found: a line while it goes on, a table, sentences and JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hetsyn_client.loadtest.run import BUSY_SHARE, PERCENTILES, Measurement, Record

FORMAT_VERSION = 2


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
    """Describe load and throughput in a line."""
    what = f"{m.streams:,} streams in real time" if m.mode == "open" else f"closed loop of {m.streams:,}"
    offered = f" of {m.offered_per_s:,.0f}" if m.offered_per_s is not None else ""
    return f"{what}: {m.achieved_per_s:,.0f}{offered} chunks/s over {m.duration_s:.1f} s"


def rows(m: Measurement) -> dict[str, list[str]]:
    """Format the percentiles and the maximum, from when chunks were due and from when they were sent."""
    found = {"latency": m.latency}
    if m.mode == "open":
        found = {"latency, from when due": m.latency, "of it, from when sent": m.service}
    return {
        name: [f"{value:,.1f}" for _, value in one.percentiles] + [f"{one.max_ms:,.1f}"]
        for name, one in found.items()
        if one.count
    }


COLUMNS = ("ms", *(f"p{percentile:g}" for percentile in PERCENTILES), "max")


def show(console: Console, m: Measurement) -> None:
    """Print the table, and what should be known."""
    table = Table(title=headline(m), title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "ms" else "right")
    for name, values in rows(m).items():
        table.add_row(name, *values)
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
    if m.is_generator_late or m.generator_cpu_share > BUSY_SHARE:
        sentences.append(
            f"the load generator was busy or late itself (CPU {m.generator_cpu_share:.0%}, chunks sent up to "
            f"{m.generator_late_ms:.1f} ms late, p99): give it a machine of its own"
        )
    if m.sessions_left:
        sentences.append(f"{m.sessions_left:,} sessions may be left on the server; it drops them when idle")
    if m.stopped:
        sentences.append(f"ended early: {m.stopped}")
    return sentences


def as_json(settings: Mapping[str, Any], m: Measurement) -> dict[str, Any]:
    """Write all settings and figures as JSON values."""
    return {
        "format_version": FORMAT_VERSION,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "generator": {"python": platform.python_version(), "system": platform.platform()},
        "measurement": asdict(m),
    }
