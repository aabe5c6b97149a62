"""The terminal's display during a run, and the tables after it."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hetsyn_client.loadtest.measurement import PERCENTILES, Measurement
from hetsyn_client.loadtest.ramp import Goal, Saturation
from hetsyn_client.loadtest.recorder import Recorder
from hetsyn_client.loadtest.run import ClosedLoop, JudgedTrial, OpenLoop, RampResult, RunSettings, Watch

REFRESH_S = 0.5  # drawing delays sending
BAR_WIDTH = 30


class View(Watch):
    """A live display on a terminal; elsewhere one line for each trial of a search."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._title = ""
        self._total_s = 0.0
        self._drawn_s = 0.0
        self._trials: list[JudgedTrial] = []
        self._known: Saturation | None = None

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def begins(self, mode: OpenLoop | ClosedLoop, settings: RunSettings) -> None:
        if isinstance(mode, OpenLoop):
            self._title = f"{mode.streams:,} streams in real time"
        else:
            self._title = f"closed loop of {mode.streams:,}"
        self._total_s = settings.duration_s

    def goes_on(self, recorder: Recorder, now_s: float) -> None:
        if self._live is None or now_s < self._drawn_s + REFRESH_S:
            return
        self._drawn_s = now_s
        parts: list[RenderableType] = [trial_table(self._trials)] if self._trials else []
        if self._known is not None and self._known.high < 2 * self._known.low:
            parts.append(Text(f"saturation between {self._known.low:,} and {self._known.high:,} streams"))
        self._live.update(Group(*parts, self._progress(recorder, now_s)), refresh=True)

    def waits(self) -> None:
        if self._live is not None:
            self._live.update(Text("waits until other programs are idle"), refresh=True)

    def judged(self, trial: JudgedTrial, known: Saturation) -> None:
        self._trials.append(trial)
        self._known = known
        if self._live is None:
            m = trial.measurement
            self._console.print(
                f"{m.streams:7,} streams: {_milliseconds(m, 50.0)} median, {_milliseconds(m, 99.0)} p99: "
                f"{_verdict(trial)}",
                highlight=False,
                soft_wrap=True,
            )

    def _progress(self, recorder: Recorder, now_s: float) -> Text:
        elapsed_s = now_s - recorder.begin_s
        if elapsed_s < 0:
            return Text(f"{self._title}: warms up, {-elapsed_s:.1f} s", style="dim")
        filled = round(BAR_WIDTH * min(1.0, elapsed_s / max(self._total_s, 1e-9)))
        line = Text(f"{self._title}  ").append("█" * filled, style="green")
        line.append("░" * (BAR_WIDTH - filled), style="dim").append(f" {elapsed_s:.0f} of {self._total_s:g} s")
        errors = sum(recorder.errors.values())
        line.append(f"\n{recorder.answered_in_time / max(elapsed_s, 0.1):,.0f} chunks/s")
        if recorder.windows:
            last = recorder.windows[-1]
            line.append(f", last second: p50 {last.p50_ms:.1f} ms, p99 {last.p99_ms:.1f} ms, max {last.max_ms:.1f} ms")
        if errors:
            line.append(f", {errors:,} errors", style="bold red")
        return line


def measurement_table(measurement: Measurement) -> Table:
    """Percentiles of one run, from when chunks were due and from when they were sent."""
    table = Table(title=_headline(measurement), title_justify="left")
    table.add_column("ms")
    for percentile in PERCENTILES:
        table.add_column(f"p{percentile:g}", justify="right")
    table.add_column("max", justify="right")
    rows = [("latency, from when due", measurement.latency), ("of it, from when sent", measurement.service)]
    if measurement.mode == "closed":
        rows = [("latency", measurement.latency)]
    for name, distribution in rows:
        if distribution.count:
            values = [f"{value:.1f}" for _, value in distribution.percentiles]
            table.add_row(name, *values, f"{distribution.max_ms:.1f}")
    return table


def trial_table(trials: list[JudgedTrial] | tuple[JudgedTrial, ...]) -> Table:
    """The trials of a search, one a row."""
    table = Table()
    for heading in ("streams", "offered/s", "achieved/s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for trial in trials:
        m = trial.measurement
        table.add_row(
            f"{m.streams:,}",
            f"{m.offered_per_s or 0:,.0f}",
            f"{m.achieved_per_s:,.0f}",
            f"{m.latency.at(50.0):.1f}" if m.latency.count else "-",
            f"{m.latency.at(99.0):.1f}" if m.latency.count else "-",
            Text(_verdict(trial), style="red" if trial.missed else "green"),
        )
    return table


def notes(measurement: Measurement) -> list[str]:
    """Sentences about errors, and about doubts that the load generator raises."""
    sentences = []
    if measurement.errors:
        sentences.append(
            "errors: " + ", ".join(f"{count:,} {kind}" for kind, count in sorted(measurement.errors.items()))
        )
    if measurement.unanswered:
        sentences.append(
            f"{measurement.unanswered:,} chunks had no answer at the end; "
            "they count with the time that they had waited by then"
        )
    generator = measurement.generator
    if generator.is_limit:
        sentences.append(
            f"the load generator was busy or late itself (CPU {generator.cpu_share:.0%}, chunks sent up to "
            f"{generator.lag_p99_ms:.1f} ms late, p99): give it a machine of its own"
        )
    if generator.is_disturbed:
        sentences.append(f"other programs used {generator.other_cores:.1f} cores of this machine meanwhile")
    if measurement.sessions_left:
        sentences.append(f"{measurement.sessions_left:,} sessions may be left on the server; it drops them when idle")
    if measurement.stopped:
        sentences.append(f"ended early: {measurement.stopped}")
    return sentences


def saturation_line(search: RampResult) -> str:
    """The result of a search, in a sentence."""
    known, goal = search.saturation, search.goal
    target = f"p{goal.percentile:g} within {goal.target_ms:g} ms"
    if known.is_beyond:
        return f"{known.streams:,} streams hold {target}; more were not tried (--max-streams)"
    if known.streams == 0 and known.is_certain:
        return f"not even one stream holds {target}"
    if not known.is_certain:
        return f"the search ended early: from {known.low:,} to {known.high:,} streams hold {target} (90% sure)"
    return f"saturation: {known.streams:,} streams hold {target} (90% sure: {known.low:,} to {known.high:,})"


def verdict(result: Measurement | RampResult, transport: str, goal: Goal | None = None) -> str:
    """What a run has found, in a sentence.

    Args:
        result: of one load, or of a search.
        transport: over which the chunks went.
        goal: that one load had; None for a closed loop.
    """
    if isinstance(result, RampResult):
        return f"{saturation_line(result)}, over /{transport}"
    chunks = f"{result.streams:,} {'streams' if result.streams > 1 else 'stream'}"
    if not result.answered:
        return f"no chunk got a good answer over /{transport}"
    if goal is None or result.mode == "closed":
        return f"{result.achieved_per_s:,.0f} chunks/s over /{transport}, of {chunks} that each wait for their answer"
    target = f"p99 within {goal.target_ms:g} ms".replace("p99", f"p{goal.percentile:g}")
    found = f"p{goal.percentile:g} {result.latency.at(goal.percentile):,.1f} ms"
    if missed := goal.missed(result):
        return f"{chunks} do not hold {target} over /{transport}: {found if missed.startswith('p') else missed}"
    return f"{chunks} hold {target} over /{transport}: {found}"


def _headline(m: Measurement) -> str:
    what = f"{m.streams:,} streams in real time" if m.mode == "open" else f"closed loop of {m.streams:,}"
    offered = f" of {m.offered_per_s:,.0f}" if m.offered_per_s is not None else ""
    return f"{what}: {m.achieved_per_s:,.0f}{offered} chunks/s over {m.duration_s:.1f} s"


def _verdict(trial: JudgedTrial) -> str:
    if not trial.missed:
        return "holds"
    return trial.missed if trial.is_counted else f"{trial.missed}, not counted: the machine was busy"


def _milliseconds(measurement: Measurement, percentile: float) -> str:
    return f"{measurement.latency.at(percentile):.1f} ms" if measurement.latency.count else "-"
