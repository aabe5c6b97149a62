from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from hetsyn_client.loadtest.measurement import Measurement
from hetsyn_client.loadtest.recorder import Recorder
from tests.support.measurement import GENERATOR


def measured(recorder: Recorder, offered: int | None = None) -> Measurement:
    return recorder.measurement("closed" if offered is None else "open", 1, offered, GENERATOR, 0, "")


@settings(max_examples=8)
@given(st.lists(st.floats(1e-6, 60.0), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_latencies_to_three_digits(latencies_s: list[float]) -> None:
    recorder = Recorder(0.0, 1.0)
    for latency_s in latencies_s:
        recorder.answered(0.5, 0.5, 0.5 + latency_s)
    distribution = measured(recorder).latency
    assert distribution.count == len(latencies_s)
    for percentile, value_ms in distribution.percentiles:
        # the library rounds the rank half up
        rank = max(1, int(percentile / 100 * len(latencies_s) + 0.5))
        assert value_ms == pytest.approx(1000 * sorted(latencies_s)[rank - 1], rel=2e-3, abs=2e-3)
    assert distribution.max_ms == pytest.approx(1000 * max(latencies_s), rel=2e-3, abs=2e-3)
    assert sum(count for _, _, count in distribution.bins) == len(latencies_s)


def test_latency_counts_from_when_a_chunk_was_due() -> None:
    recorder = Recorder(0.0, 10.0)
    recorder.answered(intended_s=1.0, sent_s=1.9, now_s=2.0)
    result = measured(recorder, offered=1)
    assert result.latency.max_ms == pytest.approx(1000, rel=1e-3)
    assert result.service.max_ms == pytest.approx(100, rel=1e-3)


def test_what_is_due_outside_the_measured_time_is_left_out_but_throughput_goes_by_the_answer() -> None:
    recorder = Recorder(1.0, 2.0)
    recorder.answered(0.9, 0.9, 1.1)  # of the warm-up, answered in time
    recorder.answered(1.9, 1.9, 2.1)
    recorder.answered(2.0, 2.0, 2.2)
    recorder.failed("timeout", 0.5, 1.5)
    recorder.failed("timeout", 1.5, 3.0)
    result = measured(recorder)
    assert (result.answered, result.achieved_per_s, result.errors) == (1, 1.0, {"timeout": 1})


def test_what_was_never_answered_counts_with_the_time_that_it_waited() -> None:
    recorder = Recorder(0.0, 1.0)
    recorder.answered(0.1, 0.1, 0.2)
    recorder.unanswered(0.5, 3.5)
    recorder.unanswered(1.5, 3.5)
    result = measured(recorder, offered=2)
    assert (result.unanswered, result.failures, result.latency.count) == (1, 1, 2)
    assert result.latency.max_ms == pytest.approx(3000, rel=1e-3)
    assert result.service.count == 1


def test_a_closed_loop_is_corrected_for_what_it_did_not_ask() -> None:
    """One stall of a second at an expected interval of 100 ms stands for ten requests."""
    recorder = Recorder(0.0, 10.0, expected_interval_s=0.1)
    recorder.answered(0.0, 0.0, 1.0)
    distribution = measured(recorder).latency
    assert distribution.count == 10
    assert distribution.at(50.0) == pytest.approx(500, rel=0.01)


def test_windows_are_seconds_by_the_answer() -> None:
    recorder = Recorder(10.0, 12.5)
    for now_s in (10.2, 10.4, 12.1, 13.0):
        recorder.answered(now_s - 0.1, now_s - 0.1, now_s)
    recorder.failed("status 500", 12.2, 12.3)
    recorder.roll(13.0)
    windows = measured(recorder).windows
    assert [(w.begin_s, w.answered, w.errors) for w in windows] == [(0.0, 2, 0), (1.0, 0, 0), (2.0, 1, 1)]
    assert windows[0].max_ms == pytest.approx(100, rel=1e-2)
    assert windows[1].p99_ms == 0


def test_late_chunks_are_counted_as_they_come() -> None:
    recorder = Recorder(0.0, 1.0, late_s=0.1)
    for latency_s in (0.05, 0.2, 0.3):
        recorder.answered(0.5, 0.5, 0.5 + latency_s)
    assert recorder.late == 2


def test_stopping_shortens_what_is_measured() -> None:
    recorder = Recorder(0.0, 10.0)
    recorder.answered(0.5, 0.5, 0.6)
    recorder.stop(2.0)
    recorder.answered(3.0, 3.0, 3.1)
    result = measured(recorder, offered=20)
    assert (result.duration_s, result.answered, result.achieved_per_s, result.offered_per_s) == (2.0, 1, 0.5, 10.0)


def test_a_run_stopped_before_it_began_is_empty() -> None:
    recorder = Recorder(5.0, 10.0)
    recorder.stop(1.0)
    result = measured(recorder, offered=0)
    assert (result.duration_s, result.answered, result.latency.count) == (0.0, 0, 0)


def test_the_encoded_histogram_can_be_read_by_the_library() -> None:
    recorder = Recorder(0.0, 1.0)
    for latency_ms in range(1, 101):
        recorder.answered(0.5, 0.5, 0.5 + latency_ms / 1000)
    result = measured(recorder)
    decoded = HdrHistogram.decode(result.latency.encoded)
    assert decoded.get_total_count() == 100
    assert decoded.get_value_at_percentile(50) / 1000 == result.latency.at(50.0)
    assert np.isclose(recorder.lag_ms(99.0), 0.0)
