"""Measurements of the load tester that no run made."""

from __future__ import annotations

from functools import cache

from hetsyn_client.loadtest.measurement import Generator, Measurement
from hetsyn_client.loadtest.recorder import Recorder

GENERATOR = Generator(cpu_share=0.1, lag_p99_ms=0.5, connections=3, connection_waits=0)
QUIET = Generator(cpu_share=0.1, lag_p99_ms=0.5, connections=3, connection_waits=0, server_cores=0.8, other_cores=0.01)


@cache
def measurement(streams: int = 10, latency_ms: float = 20.0) -> Measurement:
    """300 chunks in 3 s, of 1 to 7 times the latency, and one that was refused."""
    recorder = Recorder(0.0, 3.0)
    for n in range(300):
        due_s = n / 100
        recorder.answered(due_s, due_s + 0.001, due_s + latency_ms / 1000 * (1 + n % 7))
    recorder.failed("refused (503)", 1.0, 1.1)
    return recorder.measurement("open", streams, 310, QUIET, 0, "")
