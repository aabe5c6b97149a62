"""What a run measured, as plain values that go into JSON and plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["open", "closed"]

LATE_MS = 15.0
DISTURBING_CORES = 0.15
# a listener that uses less hands its requests on, to processes that are unknown
SEEN_CORES = 0.05
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class Distribution:
    """Of a time in milliseconds.

    percentiles: (percentile, ms) of ``PERCENTILES``. curve: the same, finer towards 100.
    bins: (low_ms, high_ms, count), evenly wide on a logarithmic scale.
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
        """The value at a percentile, which must be one of ``percentiles`` or ``curve``."""
        return dict((*self.curve, *self.percentiles))[percentile]


@dataclass(frozen=True)
class Window:
    """A second of the run, by the time of the answers. begin_s: from the start of what was measured."""

    begin_s: float
    answered: int
    errors: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Generator:
    """How the load generator itself did; where it is the limit, the figures are not the server's.

    cpu_share: of one core. lag_p99_ms: how much later than due a chunk was handed to a connection, where nothing
    of its stream was under way. connections: open at the end. connection_waits: chunks that found none free.
    server_cores, other_cores: what the server, and what other programs, used of the machine that they share with
    the generator; None where unknown.
    """

    cpu_share: float
    lag_p99_ms: float
    connections: int
    connection_waits: int
    server_cores: float | None = None
    other_cores: float | None = None

    @property
    def is_late(self) -> bool:
        return self.lag_p99_ms > LATE_MS

    @property
    def is_disturbed(self) -> bool:
        """Other programs took from the server, which is known where the server itself was seen to work."""
        return (self.server_cores or 0.0) > SEEN_CORES and (self.other_cores or 0.0) > DISTURBING_CORES

    @property
    def is_limit(self) -> bool:
        return self.is_late or self.cpu_share > 0.85


@dataclass(frozen=True)
class Measurement:
    """One run at one load.

    streams: in real time in an open loop; at once in a closed one. duration_s: measured, without the warm-up.
    offered_per_s: chunks that were due; None in a closed loop. achieved_per_s: chunks that were answered well.
    latency: of every chunk, from when it was due (open loop) or sent. service: the same from when it was sent.
    answered: well, of the chunks of the measured time. errors: by kind. unanswered: chunks that were due and
    had no answer when the run was over; they count in ``latency`` with the time that they had waited by then.
    sessions_left: that the server did not confirm to have dropped. stopped: why the run ended early, or "".
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
        return sum(self.errors.values()) + self.unanswered
