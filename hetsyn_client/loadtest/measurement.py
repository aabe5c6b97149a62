"""The figures of a run, as plain values that go into JSON and plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hetsyn_client.loadtest.cpu_contention import QUIET_CORES

Mode = Literal["open", "closed"]

LATE_MS = 15.0
# a listening process that uses less is a proxy, and the processes that do the work are not known
SEEN_CORES = 0.05
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class Distribution:
    """Distribution of a time.

    Attributes:
        count: number of values.
        mean_ms: their mean.
        max_ms: the largest.
        percentiles: (percentile, ms) for each of ``PERCENTILES``.
        curve: (percentile, ms), in steps that become finer towards 100.
        bins: (low_ms, high_ms, count), of equal width on a logarithmic scale.
        encoded: the HDR histogram of microseconds, in the format that HdrHistogram's libraries share.
    """

    count: int
    mean_ms: float
    max_ms: float
    percentiles: tuple[tuple[float, float], ...]
    curve: tuple[tuple[float, float], ...]
    bins: tuple[tuple[float, float, int], ...]
    encoded: str

    def at(self, percentile: float) -> float:
        """The value in ms at a percentile (0 to 100), which must be one of ``percentiles`` or ``curve``."""
        return dict((*self.curve, *self.percentiles))[percentile]


@dataclass(frozen=True)
class Window:
    """The answers of one second of the run.

    Attributes:
        begin_s: from the beginning of the measured time.
        answered: chunks answered well.
        errors: chunks that failed.
        p50_ms: median latency of the answered chunks, from when each was due.
        p99_ms: 99th percentile of the same.
        max_ms: maximum of the same.
    """

    begin_s: float
    answered: int
    errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Generator:
    """The load generator itself. Where it is the limit, the figures are not the server's.

    Attributes:
        cpu_share: its CPU time as a share of one core.
        lag_p99_ms: how much later than due it sent a chunk of a stream with no other chunk under way, 99th percentile.
        connections: open at the end.
        connection_waits: chunks that found no free connection.
        cpu_us_a_chunk: its CPU time an answer, in microseconds; None where nothing was answered.
        server_cores: cores that the server used, if it runs on this machine; else None.
        other_cores: cores that all other programs used, if the server runs on this machine; else None.
    """

    cpu_share: float
    lag_p99_ms: float
    connections: int
    connection_waits: int
    cpu_us_a_chunk: float | None = None
    server_cores: float | None = None
    other_cores: float | None = None

    @property
    def is_late(self) -> bool:
        return self.lag_p99_ms > LATE_MS

    @property
    def is_disturbed(self) -> bool:
        """Whether other programs took CPU time from the server. Unknown, and False, behind a proxy."""
        return (self.server_cores or 0.0) > SEEN_CORES and (self.other_cores or 0.0) > QUIET_CORES

    @property
    def is_limit(self) -> bool:
        return self.is_late or self.cpu_share > 0.85


@dataclass(frozen=True)
class Measurement:
    """One run at one load.

    Attributes:
        mode: open or closed loop.
        streams: streams in real time in an open loop; concurrent streams in a closed loop.
        duration_s: measured time, without the warm-up.
        offered_per_s: chunks that were due a second; None in a closed loop.
        achieved_per_s: chunks that were answered well a second, by the time of the answer.
        answered: chunks answered well, of those that were due in the measured time.
        errors: number of failed chunks, by kind.
        unanswered: chunks that were due and had no answer at the end. ``latency`` counts each with its waiting time.
        latency: of every chunk, from when it was due (open loop) or sent (closed loop).
        service: of every chunk, from when it was sent.
        windows: the run second by second.
        generator: the load generator itself.
        sessions_left: sessions whose deletion the server did not confirm.
        stopped: why the run ended early, or "".
    """

    mode: Mode
    streams: int
    duration_s: float
    offered_per_s: float | None
    achieved_per_s: float
    answered: int
    errors: dict[str, int]
    unanswered: int
    latency: Distribution
    service: Distribution
    windows: tuple[Window, ...]
    generator: Generator
    sessions_left: int
    stopped: str

    @property
    def failures(self) -> int:
        """Chunks without a good answer."""
        return sum(self.errors.values()) + self.unanswered
