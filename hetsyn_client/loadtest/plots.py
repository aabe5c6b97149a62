"""The report's plots, as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from hetsyn_client.loadtest.measurement import Measurement
from hetsyn_client.loadtest.ramp import Goal
from hetsyn_client.loadtest.run import JudgedTrial, RampResult

BLUE, ORANGE, RED, GREEN, GREY = "#2f6fb0", "#d9822b", "#c23b3b", "#3a8f5c", "#8a8f98"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hetsyn",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
SIZE_INCHES = (4.8, 3.0)  # letters stay readable on a phone
KINDS = ("held", "failed", "not counted")
TAIL_SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001, 0.00001)


def latency_over_load(search: RampResult) -> str:
    """Percentiles of every trial over its number of streams, with the target and the saturation."""

    def draw(axes: Axes) -> None:
        trials = [t for t in search.trials if t.measurement.latency.count]
        for percentile, colour in ((50.0, BLUE), (search.goal.percentile, ORANGE)):
            for kind in KINDS:
                chosen = [t.measurement for t in trials if _kind(t) == kind]
                _points(axes, kind, colour, [m.streams for m in chosen], [m.latency.at(percentile) for m in chosen])
            _points(axes, "held", colour, [], [], f"p{percentile:g}")
        for kind in KINDS[1:]:
            _points(axes, kind, GREY, [], [], kind)
        _target(axes, search.goal)
        known = search.saturation
        axes.axvspan(known.low, known.high, color=GREEN, alpha=0.15, linewidth=0)
        axes.axvline(known.streams, color=GREEN, linewidth=1, label="saturation")
        _log_milliseconds(axes)
        axes.set_xlim(left=0)
        axes.set_xlabel("streams in real time")
        axes.set_ylabel("latency, ms")
        axes.legend(ncols=2, fontsize=8)

    return _svg(draw)


def throughput_over_load(search: RampResult) -> str:
    """Chunks a second of every trial over its number of streams, with those that were due."""

    def draw(axes: Axes) -> None:
        measurements = [t.measurement for t in search.trials]
        most = max((m.streams for m in measurements), default=1)
        rate = max((m.offered_per_s or 0.0) / m.streams for m in measurements) if measurements else 0.0
        axes.plot([0, most], [0, most * rate], color=GREY, linewidth=1, label="offered")
        for kind in KINDS:
            chosen = [t.measurement for t in search.trials if _kind(t) == kind]
            _points(axes, kind, BLUE, [m.streams for m in chosen], [m.achieved_per_s for m in chosen])
        _points(axes, "held", BLUE, [], [], "achieved")
        axes.axvline(search.saturation.streams, color=GREEN, linewidth=1, label="saturation")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("streams in real time")
        axes.set_ylabel("chunks a second")
        axes.legend(fontsize=8)

    return _svg(draw)


def latency_over_time(measurement: Measurement, goal: Goal | None = None) -> str:
    """Percentiles of each second of the run."""

    def draw(axes: Axes) -> None:
        windows = [w for w in measurement.windows if w.max_ms > 0]
        times = [w.begin_s + 0.5 for w in windows]
        for name, colour, values in (
            ("max", GREY, [w.max_ms for w in windows]),
            ("p99", ORANGE, [w.p99_ms for w in windows]),
            ("p50", BLUE, [w.p50_ms for w in windows]),
        ):
            axes.plot(times, values, marker="o", markersize=3, color=colour, label=name)
        _target(axes, goal)
        _log_milliseconds(axes)
        _seconds(axes, measurement)
        axes.set_ylabel("latency, ms")
        axes.legend(ncols=3, fontsize=8)

    return _svg(draw)


def throughput_over_time(measurement: Measurement) -> str:
    """Answers and errors of every second."""

    def draw(axes: Axes) -> None:
        windows = measurement.windows
        spans = [max(1e-3, min(1.0, measurement.duration_s - w.begin_s)) for w in windows]
        begins = [w.begin_s for w in windows]
        answered = [w.answered / span for w, span in zip(windows, spans, strict=True)]
        errors = [w.errors / span for w, span in zip(windows, spans, strict=True)]
        axes.bar(begins, answered, spans, align="edge", color=BLUE, edgecolor="white", label="answered")
        if any(errors):
            axes.bar(begins, errors, spans, bottom=answered, align="edge", color=RED, edgecolor="white", label="errors")
        if measurement.offered_per_s is not None:
            axes.axhline(measurement.offered_per_s, color=GREY, linewidth=1, linestyle="--", label="offered")
        _seconds(axes, measurement)
        axes.set_ylim(bottom=0, top=1.25 * max([*answered, measurement.offered_per_s or 0.0, 1.0]))
        axes.set_ylabel("chunks a second")
        axes.legend(ncols=3, fontsize=8, loc="upper right")

    return _svg(draw)


def percentile_curve(measurement: Measurement, goal: Goal | None = None) -> str:
    """Latency over the share of slower chunks, on a scale that stretches the tail."""

    def draw(axes: Axes) -> None:
        curves = [("latency", ORANGE, measurement.latency)]
        if measurement.mode == "open":
            curves = [("from when due", ORANGE, measurement.latency), ("from when sent", BLUE, measurement.service)]
        for name, colour, distribution in curves:
            shares = [1 - percentile / 100 for percentile, _ in distribution.curve]
            axes.plot(shares, [value for _, value in distribution.curve], color=colour, label=name)
        _target(axes, goal)
        if goal is not None:
            axes.axvline(1 - goal.percentile / 100, color=RED, linewidth=1, linestyle=":")
        axes.set_xscale("log")
        smallest = min((1 - p / 100 for p, _ in measurement.latency.curve), default=0.01)
        axes.set_xlim(1.0, smallest)
        shown = [share for share in TAIL_SHARES if share >= smallest]
        axes.set_xticks(shown, [f"p{100 * (1 - share):.6g}" for share in shown])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
        _log_milliseconds(axes)
        axes.set_xlabel("percentile")
        axes.set_ylabel("latency, ms")
        axes.legend(fontsize=8)

    return _svg(draw)


def histogram(measurement: Measurement, goal: Goal | None = None) -> str:
    """Chunks by latency."""

    def draw(axes: Axes) -> None:
        bins = measurement.latency.bins
        axes.bar(
            [low for low, _, _ in bins],
            [count for _, _, count in bins],
            [high - low for low, high, _ in bins],
            align="edge",
            color=BLUE,
            edgecolor="white",
            linewidth=0.5,
        )
        if goal is not None:
            axes.axvline(goal.target_ms, color=RED, linewidth=1, linestyle="--", label="target")
            axes.legend(fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("latency, ms")
        axes.set_ylabel("chunks")

    return _svg(draw)


def _target(axes: Axes, goal: Goal | None) -> None:
    if goal is not None:
        axes.axhline(goal.target_ms, color=RED, linewidth=1, linestyle="--", label="target")
        axes.update_datalim([(0.0, goal.target_ms / 2), (0.0, goal.target_ms * 2)], updatex=False)


def _kind(trial: JudgedTrial) -> str:
    return "held" if not trial.missed else "failed" if trial.is_counted else "not counted"


def _points(
    axes: Axes, kind: str, colour: str, x: Sequence[float], y: Sequence[float], label: str | None = None
) -> None:
    """Trials: filled circles held, empty circles failed, crosses do not count."""
    axes.plot(
        x,
        y,
        linestyle="",
        marker="x" if kind == "not counted" else "o",
        markersize=5,
        color=colour,
        alpha=0.5 if kind == "not counted" else 1.0,
        markerfacecolor=colour if kind == "held" else "white",
        label=label,
    )


def _seconds(axes: Axes, measurement: Measurement) -> None:
    axes.set_xlim(0, max(measurement.duration_s, 1e-3))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("time, s")


def _log_milliseconds(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _svg(draw: Callable[[Axes], None]) -> str:
    """The svg element alone. Drawn without pyplot: no global state, no window."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
