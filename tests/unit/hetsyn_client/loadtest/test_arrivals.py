from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetsyn_client.loadtest.arrivals import first_chunks, first_session_chunks, random_schedule


def test_phases_fill_the_period_and_depend_on_the_seed_alone() -> None:
    schedule = random_schedule(1_000, 0.1, seed=1)
    assert list(schedule.phases_s) == sorted(schedule.phases_s)
    assert 0 <= schedule.phases_s[0] < 0.01
    assert 0.09 < schedule.phases_s[-1] < 0.1
    assert schedule == random_schedule(1_000, 0.1, seed=1)
    assert schedule != random_schedule(1_000, 0.1, seed=2)


@given(streams=st.integers(1, 20), seed=st.integers(0, 100))
def test_the_walk_is_every_chunk_in_order_of_time(streams: int, seed: int) -> None:
    schedule = random_schedule(streams, 0.1, seed)
    walked = list(islice(schedule.walk(), 3 * streams))
    everything = [(schedule.due_s(stream, chunk), stream) for stream in range(streams) for chunk in range(3)]
    assert walked == sorted(everything)


@given(until_s=st.floats(-1, 10), seed=st.integers(0, 100))
def test_due_before_counts_what_is_due(until_s: float, seed: int) -> None:
    schedule = random_schedule(3, 0.1, seed)
    for stream in range(3):
        count = sum(schedule.due_s(stream, chunk) < until_s for chunk in range(120))
        assert schedule.due_before(stream, until_s) == pytest.approx(count, abs=0)


def test_first_sessions_differ_in_length_and_streams_begin_in_indices_of_their_own() -> None:
    lengths = first_session_chunks(1_000, 50, seed=0)
    assert (min(lengths), max(lengths)) == (1, 50)
    indices = first_chunks(1_000, 7, seed=0)
    assert set(indices) == set(range(7))
