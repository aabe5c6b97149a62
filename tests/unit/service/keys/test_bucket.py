from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.keys.keys import Bucket


@given(st.floats(0.5, 1000), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_no_more_passes_than_the_rate_and_one_burst(rate: float, gaps: list[float]) -> None:
    bucket, now_s, passed = Bucket(rate), 0.0, 0
    for gap in gaps:
        now_s += gap
        if bucket.wait_s(now_s) == 0:
            bucket.take(1)
            passed += 1
    assert passed <= rate * now_s + max(1.0, rate) + 1


@given(st.floats(0.5, 1000), st.integers(1, 10**6))
def test_whoever_waits_as_long_as_told_passes(rate: float, amount: int) -> None:
    bucket = Bucket(rate)
    assert bucket.wait_s(0.0) == 0
    bucket.take(amount)
    wait_s = bucket.wait_s(0.0)
    assert bucket.wait_s(wait_s) == pytest.approx(0, abs=1e-6)
    assert wait_s <= amount / rate + 1


def test_without_a_limit_nothing_waits() -> None:
    bucket = Bucket(inf)
    bucket.take(10**300)
    assert bucket.wait_s(0.0) == 0


def test_another_rate_counts_at_once() -> None:
    bucket = Bucket(inf)
    for _ in range(1000):
        bucket.take(1)
    bucket.change(1)
    assert bucket.wait_s(1.0) == 0
    bucket.take(1)
    assert bucket.wait_s(1.0) > 0
