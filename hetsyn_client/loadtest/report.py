"""The results as one HTML file that needs nothing else."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from hetsyn_client.loadtest import plots
from hetsyn_client.loadtest.measurement import PERCENTILES, Measurement
from hetsyn_client.loadtest.ramp import Goal
from hetsyn_client.loadtest.run import JudgedTrial, RampResult
from hetsyn_client.loadtest.view import notes, verdict


def as_html(settings: Mapping[str, Any], result: Measurement | RampResult) -> str:
    """A page with the verdict first, then tables and plots. It fits a phone."""
    title = f"hetsyn bench: {settings.get('model', settings.get('url', ''))}"
    goal = result.goal if isinstance(result, RampResult) else _goal(settings, result)
    found = verdict(result, str(settings.get("transport", "infer")), goal)
    parts = [f"<h1>{escape(found[0].upper() + found[1:])}</h1>", f"<p class=lead>{escape(title)}</p>"]
    if isinstance(result, RampResult):
        parts.append(_search(result))
        chosen = result.at_saturation
        if chosen is not None:
            parts.append(f"<h2>The largest load that held: {chosen.streams:,} streams</h2>")
            parts.append(_measurement(chosen, goal))
    else:
        parts.append(_measurement(result, goal))
    parts.append("<h2>Settings</h2>" + _facts({name.replace("_", " "): value for name, value in settings.items()}))
    parts.append(f"<p class=foot>{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, ")
    parts.append(f"{escape(platform.platform())}</p>")
    return _PAGE.format(title=escape(title), body="\n".join(parts))


def _goal(settings: Mapping[str, Any], measurement: Measurement) -> Goal | None:
    """What one load had to hold."""
    if measurement.mode == "closed" or "target_ms" not in settings:
        return None
    return Goal(settings["target_ms"], settings["percentile"])


def _search(search: RampResult) -> str:
    return (
        _figures(
            ("Latency over load", plots.latency_over_load(search)),
            ("Throughput over load", plots.throughput_over_load(search)),
        )
        + "<details><summary>All trials</summary>"
        + _trials(search.trials)
        + "</details>"
    )


def _measurement(measurement: Measurement, goal: Goal | None) -> str:
    offered = measurement.offered_per_s
    generator = measurement.generator
    facts = {
        "achieved": f"{measurement.achieved_per_s:,.1f} chunks/s",
        **({} if offered is None else {"offered": f"{offered:,.1f} chunks/s"}),
        "measured": f"{measurement.duration_s:.1f} s, {measurement.answered:,} chunks answered",
        "errors": f"{measurement.failures:,}",
        "load generator": f"{generator.cpu_share:.0%} of a core, sends {generator.lag_p99_ms:.1f} ms late (p99), "
        f"{generator.connections} connections"
        + ("" if generator.cpu_us_a_chunk is None else f", {generator.cpu_us_a_chunk:.0f} µs of CPU a chunk"),
        **({} if generator.server_cores is None else {"server": f"{generator.server_cores:.2f} cores"}),
    }
    remarks = "".join(f"<p class=note>{escape(note)}</p>" for note in notes(measurement))
    if not measurement.latency.count:
        return _facts(facts) + remarks
    return (
        _facts(facts)
        + remarks
        + _percentiles(measurement)
        + _figures(
            ("Latency over time", plots.latency_over_time(measurement, goal)),
            ("Throughput over time", plots.throughput_over_time(measurement)),
            ("Percentiles", plots.percentile_curve(measurement, goal)),
            ("Histogram of latency", plots.histogram(measurement, goal)),
        )
    )


def _percentiles(measurement: Measurement) -> str:
    rows = [("latency, from when a chunk was due", measurement.latency)]
    if measurement.mode == "closed":
        rows = [("latency", measurement.latency)]
    elif measurement.service.count:
        rows.append(("from when it was sent", measurement.service))
    head = "".join(f"<th>p{percentile:g}" for percentile in PERCENTILES)
    body = "".join(
        f"<tr><td>{name}"
        + "".join(f"<td>{value:,.1f}" for _, value in distribution.percentiles)
        + f"<td>{distribution.max_ms:,.1f}<td>{distribution.mean_ms:,.1f}"
        for name, distribution in rows
    )
    return f"<div class=wide><table><tr><th>ms{head}<th>max<th>mean{body}</table></div>"


def _trials(trials: tuple[JudgedTrial, ...]) -> str:
    rows = "".join(
        f"<tr><td>{t.measurement.streams:,}<td>{t.measurement.offered_per_s or 0:,.0f}"
        f"<td>{t.measurement.achieved_per_s:,.0f}<td>{_at(t.measurement, 50.0)}<td>{_at(t.measurement, 99.0)}"
        f"<td>{t.measurement.duration_s:.1f}<td>{escape(t.missed or 'holds')}{'' if t.is_counted else ' (not counted)'}"
        for t in trials
    )
    head = "<th>streams<th>offered/s<th>achieved/s<th>p50 ms<th>p99 ms<th>s<th>verdict"
    return f"<div class=wide><table><tr>{head}{rows}</table></div>"


def _at(measurement: Measurement, percentile: float) -> str:
    return f"{measurement.latency.at(percentile):,.1f}" if measurement.latency.count else "-"


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}<td>{escape(str(value))}" for name, value in facts.items() if value is not None
    )
    return f"<table class=facts>{rows}</table>"


def _figures(*figures: tuple[str, str]) -> str:
    drawn = "".join(f"<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>" for name, svg in figures)
    return f"<div class=figures>{drawn}</div>"


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2430; background: #fff; max-width: 1060px;
       margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.4rem; line-height: 1.3; margin-bottom: .3rem }}
h2 {{ font-size: 1.15rem; margin-top: 2rem }}
.lead {{ color: #6b7280; margin-top: 0 }}
.wide {{ overflow-x: auto }}
.wide th, .wide td {{ white-space: nowrap }}
.wide td:first-child {{ white-space: normal; min-width: 5rem }}
.facts td {{ overflow-wrap: anywhere }}
.note {{ background: #fff4e2; border-left: 3px solid #d9822b; padding: .4rem .8rem }}
.foot {{ color: #6b7280; font-size: .85rem }}
table {{ border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums }}
th, td {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #e6e8eb; font-weight: normal }}
th {{ color: #6b7280 }}
th:first-child, td:first-child, td:last-child, .facts th, .facts td {{ text-align: left }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 1.2rem }}
figure {{ margin: 0 }}
figcaption {{ font-weight: 600; margin-bottom: .2rem }}
svg {{ width: 100%; height: auto }}
summary {{ cursor: pointer; margin-top: .8rem }}
@media (max-width: 500px) {{
  body {{ margin: 1rem auto }}
  h1 {{ font-size: 1.2rem }}
  th, td {{ padding: .2rem .4rem }}
}}
</style>
{body}
</html>
"""
