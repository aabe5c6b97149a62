"""The histograms of chunks: what they add up to, and how many series they make."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.observe.drops import MOST_LINES, Drop, DropLog
from service.observe.timings import MOST_MODELS, OTHER, SECONDS, Histogram, Timings
from service.observe.watch import Ran, Watch
from tests.support.clock import Clock

LENGTHS = st.floats(0, 20)


@given(st.lists(st.tuples(LENGTHS, st.integers(1, 5))))
def test_each_bucket_has_the_values_up_to_its_bound(values: list[tuple[float, int]]) -> None:
    histogram = Histogram(SECONDS)
    for value, times in values:
        histogram.observe(value, times)
    for bound, count in histogram.cumulative():
        assert count == sum(times for value, times in values if bound is None or value <= bound)
    assert histogram.total == pytest.approx(sum(value * times for value, times in values))


def test_a_request_is_its_queue_its_engine_and_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.perf_counter", lambda: 110.0)
    ran = Ran(101.0, 0.5, 1.0).and_then(Ran(103.0, 0.25, 0.5))
    watch, timings = Watch(100.0, ran, 0.125), Timings()
    timings.has_store = True
    assert timings.applied("http", "digits", [watch]) == 110.0
    ((transport, model, times),) = timings.by_label()
    assert (transport, model) == ("http", "digits")
    assert (watch.ran.begun_s, watch.ran.batches) == (101.0, 1.5)
    assert times.request.total == 10.0
    assert (times.queue.total, times.engine.total, times.commit.total) == (9.125, 0.75, 0.125)
    timings.has_store = False
    timings.applied("http", "digits", [watch])
    assert sum(times.commit.counts) == 1


def test_a_thousand_models_do_not_make_a_thousand_series() -> None:
    timings = Timings()
    for number in range(1_000):
        timings.applied("http", f"model-{number}", [Watch(0.0)])
        timings.applied("grpc", f"model-{number}", [Watch(0.0)])
        timings.batch(f"model-{number}", 1)
    series = {(transport, model): sum(times.request.counts) for transport, model, times in timings.by_label()}
    assert len(series) == 2 * (MOST_MODELS + 1)
    assert sum(series.values()) == 2_000
    assert series["http", "model-0"] == 1
    assert series["http", OTHER] == 1_000 - MOST_MODELS
    sizes = {model: sum(histogram.counts) for model, histogram in timings.batches()}
    assert (len(sizes), sizes[OTHER]) == (MOST_MODELS + 1, 1_000 - MOST_MODELS)


def test_a_line_says_which_session_was_dropped_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hetsyn.sessions")
    DropLog()(Drop("a", "memory", "digits", "1", 1, 61.0004, 60.0))
    (record,) = caplog.records
    assert record.getMessage() == "session 'a' was dropped: memory"
    assert record.levelno == logging.WARNING
    members = {name: record.__dict__[name] for name in ("session", "drop", "model", "chunks", "age_s")}
    assert members == {"session": "a", "drop": "memory", "model": "digits", "chunks": 1, "age_s": 61.0}


def test_thousands_of_drops_do_not_make_thousands_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hetsyn.sessions")
    clock = Clock(0.0)
    drop_log = DropLog(clock)
    for _ in range(5_000):
        drop_log(Drop("a", "idle"))
    assert len(caplog.records) == MOST_LINES
    clock.now_s += 1
    drop_log(Drop("a", "idle"))
    assert caplog.records[MOST_LINES].getMessage().startswith(f"{5_000 - MOST_LINES} more sessions")
    assert len(caplog.records) == MOST_LINES + 2
