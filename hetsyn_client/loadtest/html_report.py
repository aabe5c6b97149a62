"""Writes a run as one HTML file that loads nothing: figures, latency over time, and latency by percentile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log, log2

from hetsyn_client.loadtest.report import headline, latencies, notes, rows
from hetsyn_client.loadtest.run import Measurement

WIDTH, HEIGHT, LEFT, TOP = 690.0, 200.0, 60.0, 30.0  # px of a plot's area, and of the margins
ROUND = [digit * 10.0**power for power in range(-2, 8) for digit in (1, 2, 5)]
MOST_TICKS = 10
STYLE = """:root{color-scheme:light dark;--text:#222;--faint:#666;--line:#ddd;--back:#fff;--a:#0b6e4f;--b:#c2571a}
@media(prefers-color-scheme:dark){:root{--text:#eee;--faint:#aaa;--line:#3a3a3a;--back:#161616;--a:#4fc3a1;--b:#f0a060}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:770px;margin:2em auto;
padding:0 12px}
h1{font-size:20px}table{border-spacing:0}td,th{padding:2px 14px 2px 0;text-align:right}td:first-child{text-align:left}
svg{width:100%;margin-top:1em}text{fill:var(--faint);font-size:12px}.name{fill:var(--text);font-weight:600}
path{fill:none;stroke:var(--line)}.a{stroke:var(--a)}.b{stroke:var(--b)}text.a{fill:var(--a)}text.b{fill:var(--b)}
path.a,path.b{stroke-width:1.8;stroke-linecap:round}text.a,text.b{stroke:none}"""


def as_html(about: Sequence[str], m: Measurement) -> str:
    """Write the page. ``about`` says what was measured, in sentences."""
    step_s = min(n for n in ROUND if n * MOST_TICKS >= m.duration_s)
    seconds = {n * step_s: f"{n * step_s:g}" for n in range(MOST_TICKS + 1) if n * step_s <= m.duration_s + 1e-9}
    over_time = {"p50": [(s, p50) for s, p50, _ in m.over_time], "p99": [(s, p99) for s, _, p99 in m.over_time]}
    # from p50 on, each halving of the chunks that are slower is as wide
    places = {percentile: log2(50 / (100 - percentile)) for percentile in m.latency.percentiles}
    percents = {place: f"{percentile:g}" for percentile, place in places.items()}
    by_percentile = {
        name: [(places[percentile], ms) for percentile, ms in found.percentiles.items()]
        for name, found in latencies(m).items()
    }
    plots = ""
    if m.over_time:
        plots = _plot("Latency over time", "time since the measurement began, s", seconds, over_time)
        plots += _plot("Latency by percentile", "percent of the chunks that were faster", percents, by_percentile)
    table = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows(m))
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in (*about, *notes(m)))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>hetsyn bench</title><style>{STYLE}</style><h1>{headline(m)}</h1>{sentences}"
        f"<table>{table}</table>{plots}</html>\n"
    )


def _plot(
    name: str, x_name: str, ticks: Mapping[float, str], lines: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """Draw lines of milliseconds, on a logarithmic axis, over a linear axis from 0 to the last tick or point."""
    values = [max(ms, ROUND[0]) for line in lines.values() for _, ms in line]
    low, high = max(n for n in ROUND if n <= min(values)), min(n for n in ROUND if n > max(values))
    last = max(*ticks, *(x for line in lines.values() for x, _ in line))

    def at(x: float, ms: float) -> str:
        return f"{LEFT + WIDTH * x / last:.1f} {TOP + HEIGHT * (1 - log(max(ms, low) / low) / log(high / low)):.1f}"

    def text(x: float, ms: float, shift: str, words: str, more: str = "") -> str:
        across, down = at(x, ms).split()
        return f'<text x="{across}" y="{down}" {shift} {more}>{words}</text>'

    drawn = [f'<path d="M{at(0, n)}L{at(last, n)}"/>' for n in ROUND if low <= n <= high]
    drawn += [text(0, n, 'dx="-8" dy="4" text-anchor="end"', f"{n:g} ms") for n in ROUND if low <= n <= high]
    drawn += [text(x, low, 'dy="18" text-anchor="middle"', label) for x, label in ticks.items()]
    drawn += [
        text(last, low, 'dy="36" text-anchor="end"', x_name),
        text(0, high, 'dx="-50" dy="-14"', name, 'class="name"'),
    ]
    for colour, shift, (label, line) in zip("ab", (-150, 0), lines.items(), strict=False):
        drawn.append(f'<path class="{colour}" d="M{"L".join(at(x, ms) for x, ms in line)}h0"/>')  # one point is a dot
        drawn.append(text(last, high, f'dx="{shift}" dy="-14" text-anchor="end"', f"— {label}", f'class="{colour}"'))
    return f'<svg viewBox="0 0 {LEFT + WIDTH + 20:g} {TOP + HEIGHT + 44:g}" role="img">{"".join(drawn)}</svg>'
