"""What a run has found: a line while it goes on, a table, sentences, JSON, and a page with the latency over time."""

from __future__ import annotations

import io
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hetsyn_client.loadtest.run import BUSY_SHARE, PERCENTILES, Measurement, Record

FORMAT_VERSION = 2
COLOURS = {"max": "#8a8f98", "p99": "#d9822b", "p50": "#2f6fb0"}


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


def as_html(settings: Mapping[str, Any], m: Measurement) -> str:
    """Write a page that needs nothing else: a table, the latency over time, and the settings."""
    head = "".join(f"<th>{column}" for column in COLUMNS)
    body = "".join(f"<tr><th>{name}<td>{'<td>'.join(values)}" for name, values in rows(m).items())
    facts = "".join(f"<tr><th>{name.replace('_', ' ')}<td>{escape(str(value))}" for name, value in settings.items())
    remarks = "".join(f"<p>{escape(note)}" for note in notes(m))
    ended = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.platform()}"
    return _PAGE.format(
        title=escape(headline(m)), head=head, body=body, plot=latency_plot(m), remarks=remarks, facts=facts,
        ended=escape(ended),
    )  # fmt: skip


def latency_plot(m: Measurement) -> str:
    """Draw the percentiles of each second of the run, as SVG. Without pyplot: no global state, no window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    answered = [window for window in m.windows if window.answered]
    for name, colour in COLOURS.items():
        values = [getattr(window, f"{name}_ms") for window in answered]
        axes.plot([window.begin_s + 0.5 for window in answered], values, "o-", markersize=3, color=colour, label=name)
    axes.set(yscale="log", xlabel="time, s", ylabel="latency, ms", xlim=(0, max(m.duration_s, 1e-3)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(color="#e6e8eb")
    axes.legend(ncols=3, frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return text.getvalue()[text.getvalue().index("<svg") :]


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>hetsyn bench</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ddd; font-weight: normal }}
th:first-child {{ text-align: left }}
svg {{ width: 100%; height: auto }}
</style>
<h1>{title}</h1>
<div><table><tr>{head}{body}</table></div>
{remarks}
<h2>Latency over time</h2>
{plot}
<h2>Settings</h2>
<table>{facts}</table>
<p>{ended}
</html>
"""
