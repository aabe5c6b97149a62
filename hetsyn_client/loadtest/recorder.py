"""Records latencies in HDR histograms, from when a chunk was due and not from when it was sent.

A tool that waits for an answer before it sends again sends fewest requests while the server is slow, and so leaves out
the worst latencies ("coordinated omission"). In an open loop the latency therefore counts from the intended time. A
closed loop has no intended time. With an expected interval between requests, the histogram adds the requests that a
slow one held up (``record_corrected_value``).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from hdrh.histogram import HdrHistogram

from hetsyn_client.loadtest.histogram import Histogram, Integers, corrected, microseconds
from hetsyn_client.loadtest.measurement import PERCENTILES, Distribution, Generator, Measurement, Mode, Window

WINDOW_S = 1.0
BINS_A_DECADE = 20
# up to 99.999; four steps halve the distance to 100
CURVE = (0.0, *(100.0 * (1 - 2 ** (-n / 4)) for n in range(1, 67)))


class Recorder:
    """Counts and latencies of one run. All times are seconds of one clock.

    Args:
        begin_s: beginning of the measured time.
        end_s: its end. Chunks that are due outside are not measured.
        late_s: chunks with a higher latency are counted in ``late``.
        expected_interval_s: corrects for coordinated omission, as if each stream had meant to send at this interval.

    Attributes:
        late: chunks later than ``late_s``.
        answered_in_time: chunks answered within the measured time. They make the throughput.
        answered_count: chunks answered, of those that were due in the measured time.
        unanswered_count: chunks never answered, of those that were due in the measured time.
        errors: failed chunks by kind.
        windows: the seconds that are over.
    """

    def __init__(
        self, begin_s: float, end_s: float, late_s: float = float("inf"), expected_interval_s: float | None = None
    ) -> None:
        self.begin_s = begin_s
        self.end_s = end_s
        self.late = 0
        self.answered_in_time = 0
        self.answered_count = 0
        self.unanswered_count = 0
        self.errors: Counter[str] = Counter()
        self.windows: list[Window] = []
        self._late_s = late_s
        self._interval_us = int(microseconds([expected_interval_s])[0]) if expected_interval_s else 0
        self._latency = Histogram()
        self._service = Histogram()
        self._lag = Histogram()
        self._latencies_s: list[float] = []  # of the present window, as the next two
        self._services_s: list[float] = []
        self._lags_s: list[float] = []
        self._waits_s: list[float] = []  # of chunks that were never answered
        self._window_begin_s = begin_s
        self._window_answered = 0
        self._window_errors = 0

    def lagged(self, lag_s: float) -> None:
        """A chunk was sent so much later than it was due."""
        self._lags_s.append(lag_s)

    def answered(self, intended_s: float, sent_s: float, now_s: float) -> None:
        if now_s >= self._window_begin_s + WINDOW_S:
            self.roll(now_s)
        if self.begin_s <= now_s < self.end_s:
            self.answered_in_time += 1
            self._window_answered += 1
        if self.begin_s <= intended_s < self.end_s:
            self.answered_count += 1
            latency_s = now_s - intended_s
            if latency_s > self._late_s:
                self.late += 1
            self._latencies_s.append(latency_s)
            self._services_s.append(now_s - sent_s)

    def failed(self, error: str, intended_s: float, now_s: float) -> None:
        if now_s >= self._window_begin_s + WINDOW_S:
            self.roll(now_s)
        if self.begin_s <= intended_s < self.end_s:
            self.errors[error] += 1
            self._window_errors += 1

    def unanswered(self, intended_s: float, now_s: float) -> None:
        """A chunk has no answer, and the run is over."""
        if self.begin_s <= intended_s < self.end_s:
            self.unanswered_count += 1
            self._waits_s.append(now_s - intended_s)

    def roll(self, now_s: float) -> None:
        """Close the windows that are over. Answers after the end go into the last window."""
        while now_s >= self._window_begin_s + WINDOW_S and self._window_begin_s + WINDOW_S < self.end_s:
            self._close_window()

    def stop(self, now_s: float) -> None:
        """End the measured time now."""
        self.end_s = min(self.end_s, max(now_s, self.begin_s))

    def measurement(
        self, mode: Mode, streams: int, offered: int | None, generator: Generator, sessions_left: int, stopped: str
    ) -> Measurement:
        """All figures, once the run is over.

        Args:
            mode: open or closed loop.
            streams: number of streams.
            offered: chunks that were due; None in a closed loop.
            generator: the load generator itself.
            sessions_left: sessions whose deletion was not confirmed.
            stopped: why the run ended early, or "".
        """
        self._close_window()
        self._latency.add(microseconds(self._waits_s))
        duration_s = self.end_s - self.begin_s
        span_s = max(duration_s, 1e-9)
        return Measurement(
            mode=mode,
            streams=streams,
            duration_s=duration_s,
            offered_per_s=None if offered is None else offered / span_s,
            achieved_per_s=self.answered_in_time / span_s,
            answered=self.answered_count,
            errors=dict(self.errors),
            unanswered=self.unanswered_count,
            latency=_distribution(self._latency.hdr()),
            service=_distribution(self._service.hdr()),
            windows=tuple(self.windows),
            generator=generator,
            sessions_left=sessions_left,
            stopped=stopped,
        )

    def lag_ms(self, percentile: float) -> float:
        self._lag.add(microseconds(self._lags_s))
        self._lags_s.clear()
        return float(self._lag.hdr().get_value_at_percentile(percentile)) / 1000

    def _fold(self) -> Integers:
        """Count the times of the present window. Its latencies in microseconds."""
        latencies = corrected(microseconds(self._latencies_s), self._interval_us)
        self._latency.add(latencies)
        self._service.add(microseconds(self._services_s))
        self._lag.add(microseconds(self._lags_s))
        for times in (self._latencies_s, self._services_s, self._lags_s):
            times.clear()
        return latencies

    def _close_window(self) -> None:
        latencies = self._fold()
        p50, p99 = np.percentile(latencies, (50, 99), method="inverted_cdf") if len(latencies) else (0, 0)
        self.windows.append(
            Window(
                begin_s=self._window_begin_s - self.begin_s,
                answered=self._window_answered,
                errors=self._window_errors,
                p50_ms=float(p50) / 1000,
                p99_ms=float(p99) / 1000,
                max_ms=float(latencies.max(initial=0)) / 1000,
            )
        )
        self._window_answered = self._window_errors = 0
        self._window_begin_s += WINDOW_S


def _distribution(histogram: HdrHistogram) -> Distribution:
    count = histogram.get_total_count()
    if not count:
        return Distribution(0, 0.0, 0.0, (), (), (), "")
    # finer percentiles than one in `count` are equal
    curve = [p for p in CURVE if (100.0 - p) * count >= 100.0]
    values = histogram.get_percentile_to_value_dict([*PERCENTILES, *curve])
    return Distribution(
        count=count,
        mean_ms=histogram.get_mean_value() / 1000,
        max_ms=histogram.get_max_value() / 1000,
        percentiles=tuple((p, values[p] / 1000) for p in PERCENTILES),
        curve=tuple((p, values[p] / 1000) for p in curve),
        bins=_bins(histogram),
        encoded=histogram.encode().decode("ascii"),
    )


def _bins(histogram: HdrHistogram) -> tuple[tuple[float, float, int], ...]:
    recorded = [(item.value_iterated_to, item.count_at_value_iterated_to) for item in histogram.get_recorded_iterator()]
    values = np.array([value for value, _ in recorded], np.float64) / 1000
    counts = np.array([count for _, count in recorded], np.int64)
    bins = np.floor(np.log10(values) * BINS_A_DECADE).astype(int)
    return tuple(
        (
            10 ** (low / BINS_A_DECADE),
            10 ** ((low + 1) / BINS_A_DECADE),
            int(counts[bins == low].sum()),
        )
        for low in range(bins.min(), bins.max() + 1)
    )
