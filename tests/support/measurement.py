"""A measurement of the load tester that no run made."""

from __future__ import annotations

import numpy as np

from hetsyn_client.loadtest.run import Distribution, Measurement


def measurement(streams: int = 10, latency_ms: float = 20.0) -> Measurement:
    """300 chunks in 3 s, of 1 to 7 times the latency, and one that was refused."""
    latencies_ms = np.array([latency_ms * (1 + n % 7) for n in range(300)])
    return Measurement(
        mode="open",
        streams=streams,
        duration_s=3.0,
        offered_per_s=310 / 3,
        achieved_per_s=97.0,
        answered=300,
        applied=320,
        errors={"refused (503)": 1},
        unanswered=0,
        latency=Distribution.of(latencies_ms),
        service=Distribution.of(latencies_ms - 1.0),
        over_time=[(0.0, 20.0, 140.0), (1.5, 80.0, 140.0)],
        generator_cpu_share=0.1,
        generator_cpu_us=40.0,
        generator_late_ms=0.5,
        sessions_left=0,
        stopped="",
    )
