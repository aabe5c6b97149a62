"""What a search says of trials that are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hetsyn_client.loadtest.report import conclusion, tried
from hetsyn_client.loadtest.search import Found, Trial, next_streams
from tests.support.measurement import measurement

HELD = Trial(measurement(800), "")
IDLE = Trial(measurement(820), "p99 above 100 ms")
BUSY = Trial(replace(IDLE.measurement, generator_cpu_share=0.97), IDLE.missed)
LATE = Trial(replace(IDLE.measurement, generator_late_ms=40.0), IDLE.missed)
CTRL_C = Trial(IDLE.measurement, "interrupted")
EARLY = ": the search ended early"


@pytest.mark.parametrize(
    ("trials", "doubt"),
    [
        ([HELD, IDLE, IDLE, IDLE], ""),
        ([HELD, LATE, IDLE, BUSY], ""),  # once the generator had time, and the load was too much
        ([HELD, LATE, BUSY, LATE], ": at 820 the load generator was busy or late itself"),
        ([HELD, IDLE, CTRL_C], EARLY),
        ([HELD], EARLY),
    ],
)
def test_the_figure_is_a_lower_bound_where_the_generator_was_the_limit(trials: list[Trial], doubt: str) -> None:
    least = "at least " if doubt else ""
    assert conclusion(Found(100.0, trials)) == f"{least}800 real-time streams with p99 below 100 ms{doubt}"


def test_a_busy_generator_shows_in_its_trial() -> None:
    assert tried(LATE) == "820 streams: p99 above 100 ms; the load generator was busy or late"
    assert tried(HELD) == "800 streams: held, p50 80.0 ms, p99 140.0 ms"


def test_ctrl_c_ends_a_search() -> None:
    assert next_streams([HELD, CTRL_C]) is None
