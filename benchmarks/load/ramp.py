"""Find the largest number of real-time streams at which a server keeps a latency goal.

1. Multiply the number of streams by a factor until a trial fails.
2. Then use probabilistic bisection. The belief gives each possible saturation point a probability. Each trial
   multiplies it by the likelihood of the trial's outcome. Numbers near the edge are therefore tried again, and no
   single trial decides.

Noise adds latency and never removes it: other programs make a good load fail, and hardly anything makes a bad load
hold. A trial that held therefore weighs more than a trial that failed. The next load is the one with the largest mutual
information between its outcome and the saturation point. The search ends when nine tenths of the belief lie within the
tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.cpu_contention import CpuContention, CpuUsage
from hetsyn_client.loadtest.load import Load
from hetsyn_client.loadtest.run import Loop, Measurement, Record, RunSettings, measure
from hetsyn_client.loadtest.senders import Way

FALSE_FAILURE = 0.2  # probability that a load below saturation fails
FALSE_HOLD = 0.02  # probability that a load above saturation holds
WIDTH = 0.02  # relative width of the edge, where a load sometimes holds and sometimes fails
STEP = 0.005  # between possible saturation points, on a logarithmic scale
SPREAD = log(2.0)  # of the belief before the first trial: from half the estimate to twice the estimate
CANDIDATES = 64
QUANTILES = (0.05, 0.5, 0.95)

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Goal:
    """What a server must keep under a load: a latency, no errors, and throughput.

    Attributes:
        target_ms: highest latency that is allowed at the percentile.
        percentile: one of ``PERCENTILES``.
        achieved_share: smallest share of the due chunks that must be answered in the measured time.
    """

    target_ms: float
    percentile: float
    achieved_share: float = 0.99

    def missed(self, measurement: Measurement) -> str:
        """Say why a measurement misses the goal; "" if it keeps the goal."""
        if measurement.stopped:
            return measurement.stopped
        if measurement.failures:
            return ", ".join([*measurement.errors, *(["unanswered"] if measurement.unanswered else [])])
        if not measurement.answered:
            return "nothing was answered"
        latency_ms = measurement.latency.percentiles[self.percentile]
        if latency_ms > self.target_ms:
            return f"p{self.percentile:g} {latency_ms:.0f} ms"
        offered = measurement.offered_per_s
        if offered is not None:
            # at the end as many chunks are under way as fall due within one latency
            under_way = offered * measurement.latency.percentiles[50.0] / 1000 / measurement.duration_s
            if measurement.achieved_per_s + under_way < self.achieved_share * offered:
                return f"{measurement.achieved_per_s / offered:.1%} of the chunks"
        return ""


@dataclass(frozen=True)
class RampSettings:
    """Settings of the search.

    Attributes:
        estimate: expected saturation in streams; the search begins at half of it. None: a closed loop measures it.
        growth: factor between two trials until the first failure.
        tolerance: the search ends when the upper end of the belief is at most this share above the lower end.
        max_streams: largest number of streams to try.
        max_trials: largest number of trials; then the search ends, certain or not.
        patience: number of failed trials that may be left out because other programs were busy. 0: no trial is left
            out, and none waits for other programs.
    """

    estimate: float | None = None
    growth: float = 1.4
    tolerance: float = 0.08
    max_streams: int = 10_000
    max_trials: int = 40
    patience: int = 20


@dataclass(frozen=True)
class RampTrial:
    """A number of streams, and whether the server kept the goal."""

    streams: int
    holds: bool


@dataclass(frozen=True)
class Saturation:
    """The result of a search so far.

    Attributes:
        streams: median of the belief; 0 if not even one stream holds.
        low: lower end of nine tenths of the belief.
        high: upper end of nine tenths of the belief.
        is_certain: whether the belief lies within the tolerance.
        is_beyond: whether the saturation lies above ``max_streams``.
    """

    streams: int
    low: int
    high: int
    is_certain: bool
    is_beyond: bool


def next_streams(trials: Sequence[RampTrial], settings: RampSettings) -> int | None:
    """Choose the number of streams to try next; None when the search is over."""
    if len(trials) >= settings.max_trials:
        return None
    if not trials:
        return min(settings.max_streams, max(1, round(_estimate(settings) / 2)))
    last = trials[-1].streams
    if all(trial.holds for trial in trials) and last < settings.max_streams:
        return min(settings.max_streams, ceil(last * settings.growth))
    if saturation(trials, settings).is_certain:
        return None
    points = _points(settings)
    return _most_informative(points, _belief(points, trials, settings))


def saturation(trials: Sequence[RampTrial], settings: RampSettings) -> Saturation:
    """Summarise the belief after these trials."""
    points = _points(settings)
    belief = _belief(points, trials, settings)
    low, median, high = (int(n) for n in points[np.searchsorted(np.cumsum(belief), QUANTILES)])
    is_narrow = high - low <= settings.tolerance * low
    # the last point stands for all larger ones
    return Saturation(median, low, high, bool(trials) and is_narrow, is_narrow and high == settings.max_streams)


def _estimate(settings: RampSettings) -> float:
    return min(max(settings.estimate or 1.0, 1.0), float(settings.max_streams))


def _points(settings: RampSettings) -> Float64Array:
    """List the possible saturation points [points]: whole numbers, ascending from 0."""
    top = settings.max_streams
    return np.unique([0.0, *np.round(np.geomspace(1, top, max(2, ceil(log(top) / STEP))))])


def _holding(points: Float64Array, streams: Float64Array | int) -> Float64Array:
    """Compute the probability that a trial with ``streams`` holds, for saturation at each of the points."""
    above = np.clip(np.log((points + 0.5) / streams) / WIDTH, -50, 50)
    holds: Float64Array = FALSE_HOLD + (1 - FALSE_FAILURE - FALSE_HOLD) / (1 + np.exp(-above))
    return holds


def _belief(points: Float64Array, trials: Sequence[RampTrial], settings: RampSettings) -> Float64Array:
    """Compute the probability of each saturation point [points]."""
    distance = np.log((points + 0.5) / _estimate(settings)) / SPREAD
    # points are evenly spread on a logarithmic scale, and so is the belief before the first trial
    breadth = np.log1p(np.gradient(points) / (points + 0.5))
    weight = np.log(breadth) - np.log1p(distance**2)  # long tails: the estimate may be far off
    for trial in trials:
        holds = _holding(points, trial.streams)
        weight += np.log(holds if trial.holds else 1 - holds)
    belief: Float64Array = np.exp(weight - weight.max())
    belief /= belief.sum()
    return belief


def _most_informative(points: Float64Array, belief: Float64Array) -> int:
    """Choose the number of streams that tells most of the saturation point: the largest mutual information."""
    cumulated = np.cumsum(belief)
    first, last = np.searchsorted(cumulated, (0.02, 0.98))
    loads = np.unique(np.linspace(max(1.0, points[first]), points[last] + 1, CANDIDATES).round())
    holding = _holding(points, loads[:, None])
    gain = _entropy(holding @ belief) - _entropy(holding) @ belief
    return min(int(points[-1]), int(loads[gain.argmax()]))


def _entropy(probability: Float64Array) -> Float64Array:
    """Compute the entropy of a binary outcome, in nats."""
    rest = 1 - probability
    entropy: Float64Array = -(probability * np.log(probability) + rest * np.log(rest))
    return entropy


# a short closed loop measures about what the server can do; a search begins at half of that
PROBE_STREAMS, PROBE_WARMUP_S, PROBE_S = 32, 1.0, 2.0
QUIET_TIMEOUT_S = 15.0  # the longest wait for other programs before a trial


@dataclass(frozen=True)
class JudgedTrial:
    """A trial of a search, measured and judged.

    Attributes:
        measurement: what the load generator measured.
        usage: use of the machine's cores meanwhile; None where it is not known.
        missed: why the trial missed the goal; "" if it held.
        is_counted: False if other programs, or the load generator itself, may have made the trial fail.
    """

    measurement: Measurement
    usage: CpuUsage | None
    missed: str
    is_counted: bool


@dataclass(frozen=True)
class RampResult:
    """The result of a search: the saturation, and the trials in order."""

    goal: Goal
    saturation: Saturation
    trials: tuple[JudgedTrial, ...]


async def saturate(
    way: Callable[[], Way],
    pids: Callable[[], Iterable[int]],
    load: Load,
    goal: Goal,
    settings: RunSettings,
    ramp: RampSettings,
) -> RampResult:
    """Search for the largest number of real-time streams at which a server keeps the goal.

    Args:
        way: makes what carries the chunks of a trial to the server.
        pids: of the server's processes, beside which others may use the cores.
        load: chunks to send.
        goal: what the server must keep.
        settings: duration, warm-up and session length of each trial.
        ramp: settings of the search.
    """
    if ramp.estimate is None:
        probing = replace(settings, duration_s=PROBE_S, warmup_s=PROBE_WARMUP_S)
        probe = await measure(way(), load, Loop(PROBE_STREAMS, is_open=False), probing)
        ramp = replace(ramp, estimate=probe.achieved_per_s * load.period_s)
    judged: list[JudgedTrial] = []
    trials: list[RampTrial] = []
    patience = ramp.patience
    contention = CpuContention(pids)
    while (streams := next_streams(trials, ramp)) is not None:
        if patience:
            await contention.until_quiet(QUIET_TIMEOUT_S)
        contention.usage()
        measured = await _trial(way(), load, goal, settings, streams)
        usage = contention.usage()
        missed = goal.missed(measured)
        is_disturbed = usage is not None and not usage.is_quiet
        is_in_doubt = bool(missed) and (is_disturbed or measured.is_generator_late) and patience > 0
        patience -= is_in_doubt
        judged.append(JudgedTrial(measured, usage, missed, not is_in_doubt))
        if not is_in_doubt:
            trials.append(RampTrial(streams, not missed))
    return RampResult(goal, saturation(trials, ramp), tuple(judged))


async def _trial(way: Way, load: Load, goal: Goal, settings: RunSettings, streams: int) -> Measurement:
    """Measure one number of streams, and end early once too many chunks are late for the goal."""
    late_at_most = (1 - goal.percentile / 100) * streams * settings.duration_s / load.period_s + 1

    def watch(record: Record, now_s: float) -> str | None:  # noqa: ARG001
        latencies_s = np.array(record.answered_s) - np.array(record.due_s)
        late = (1e3 * latencies_s[np.array(record.due_s) >= record.begin_s] > goal.target_ms).sum()
        return f"p{goal.percentile:g} above {goal.target_ms:g} ms" if late > late_at_most else None

    return await measure(way, load, Loop(streams, is_open=True), settings, watch)
