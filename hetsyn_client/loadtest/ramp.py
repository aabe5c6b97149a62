"""The largest number of real-time streams that holds a latency target: which load to try next. Pure.

1. Grow by a factor, from the start until a load fails.
2. From there on, bisect what is believed and not what was seen last. The belief is a probability for each
   possible saturation point; a trial changes it by how likely its outcome was (probabilistic bisection). Loads
   near the edge are so tried again until the answer does not hang on one trial.

Noise only ever adds latency: another program on the machine makes a good load fail, and hardly anything makes a
bad one hold. A trial that held is therefore worth more than one that failed. The next load is the one
whose outcome is expected to say most, and the search ends when nine tenths of it lie within the tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from hetsyn_client.errors import InputError
from hetsyn_client.loadtest.measurement import PERCENTILES, Measurement

FALSE_FAILURE = 0.2  # how often a load below saturation fails
FALSE_HOLD = 0.02  # how often one above holds
WIDTH = 0.02  # relative width of the edge: there a load does now this and now that
STEP = 0.005  # of the possible saturation points, on a logarithmic scale
SPREAD = log(2.0)  # of what is believed in advance: half the estimate, or twice
CANDIDATES = 64
QUANTILES = (0.05, 0.5, 0.95)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Goal:
    """What a load has to hold: a latency at one of ``PERCENTILES``, no errors, and throughput.

    achieved_share: of the chunks that were due.

    Raises:
        InputError: another percentile.
    """

    target_ms: float
    percentile: float
    achieved_share: float = 0.99

    def __post_init__(self) -> None:
        if self.percentile not in PERCENTILES:
            known = ", ".join(f"{percentile:g}" for percentile in PERCENTILES)
            raise InputError(f"percentile {self.percentile:g} is not measured: take one of {known}")

    def missed(self, measurement: Measurement) -> str:
        """Why the measurement fails the goal; "" if it holds."""
        if measurement.stopped:
            return measurement.stopped
        if measurement.failures:
            return ", ".join([*measurement.errors, *(["unanswered"] if measurement.unanswered else [])])
        if not measurement.answered:
            return "nothing was answered"
        latency_ms = measurement.latency.at(self.percentile)
        if latency_ms > self.target_ms:
            return f"p{self.percentile:g} {latency_ms:.0f} ms"
        offered = measurement.offered_per_s
        if offered is not None:
            # at the end some are under way: as many as fall due within the time that an answer takes
            under_way = offered * measurement.latency.at(50.0) / 1000 / measurement.duration_s
            if measurement.achieved_per_s + under_way < self.achieved_share * offered:
                return f"{measurement.achieved_per_s / offered:.1%} of the chunks"
        return ""


@dataclass(frozen=True)
class RampSettings:
    """estimate: where the saturation may be; the search begins at half of it. None: a closed loop says.

    growth: factor between loads before the first failure. tolerance: the search ends when the upper end of
    the belief is at most this share above the lower. max_streams: no more are tried.
    max_trials: the search ends, however far it is. patience: trials that failed while other programs were busy and are
    not counted, at most; 0 waits for nobody.
    """

    estimate: float | None = None
    growth: float = 1.4
    tolerance: float = 0.08
    max_streams: int = 10_000
    max_trials: int = 40
    patience: int = 20


@dataclass(frozen=True)
class Trial:
    streams: int
    holds: bool


@dataclass(frozen=True)
class Saturation:
    """streams: the median of the belief; 0 if not even one holds. low, high: nine tenths of the belief.

    is_certain: the search came to its end. is_beyond: more hold than may be tried.
    """

    streams: int
    low: int
    high: int
    is_certain: bool
    is_beyond: bool


def next_streams(trials: Sequence[Trial], settings: RampSettings) -> int | None:
    """The load to try next; None when the search is over."""
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
    return _most_telling(points, _belief(points, trials, settings))


def saturation(trials: Sequence[Trial], settings: RampSettings) -> Saturation:
    """What the trials make believe."""
    points = _points(settings)
    belief = _belief(points, trials, settings)
    low, median, high = (int(n) for n in points[np.searchsorted(np.cumsum(belief), QUANTILES)])
    is_narrow = high - low <= settings.tolerance * low
    # the last point stands for all beyond it
    return Saturation(median, low, high, bool(trials) and is_narrow, is_narrow and high == settings.max_streams)


def _estimate(settings: RampSettings) -> float:
    return min(max(settings.estimate or 1.0, 1.0), float(settings.max_streams))


def _points(settings: RampSettings) -> Floats:
    """Possible saturation points: whole numbers, from 0 on."""
    top = settings.max_streams
    return np.unique([0.0, *np.round(np.geomspace(1, top, max(2, ceil(log(top) / STEP))))])


def _holding(points: Floats, streams: Floats | int) -> Floats:
    """How likely a load holds, if saturation is at the points."""
    above = np.clip(np.log((points + 0.5) / streams) / WIDTH, -50, 50)
    holds: Floats = FALSE_HOLD + (1 - FALSE_FAILURE - FALSE_HOLD) / (1 + np.exp(-above))
    return holds


def _belief(points: Floats, trials: Sequence[Trial], settings: RampSettings) -> Floats:
    distance = np.log((points + 0.5) / _estimate(settings)) / SPREAD
    # a point far up stands for more whole numbers than one far down, but for no more on a logarithmic scale
    breadth = np.log1p(np.gradient(points) / (points + 0.5))
    weight = np.log(breadth) - np.log1p(distance**2)  # long tails: the estimate may be far out
    for trial in trials:
        holds = _holding(points, trial.streams)
        weight += np.log(holds if trial.holds else 1 - holds)
    belief: Floats = np.exp(weight - weight.max())
    belief /= belief.sum()
    return belief


def _most_telling(points: Floats, belief: Floats) -> int:
    """The load whose outcome says most: the greatest mutual information with the saturation point."""
    cumulated = np.cumsum(belief)
    first, last = np.searchsorted(cumulated, (0.02, 0.98))
    loads = np.unique(np.linspace(max(1.0, points[first]), points[last] + 1, CANDIDATES).round())
    holding = _holding(points, loads[:, None])
    gain = _entropy(holding @ belief) - _entropy(holding) @ belief
    return min(int(points[-1]), int(loads[gain.argmax()]))


def _entropy(probability: Floats) -> Floats:
    """Of an outcome of two, in nats."""
    rest = 1 - probability
    entropy: Floats = -(probability * np.log(probability) + rest * np.log(rest))
    return entropy
