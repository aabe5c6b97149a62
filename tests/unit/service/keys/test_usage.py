from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import KeyLimitReached
from service.keys.document import KeyLimits
from service.keys.usage import BURST_S, Bucket, Usage


@given(st.floats(0.5, 1000), st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_no_more_passes_than_the_rate_and_one_burst(rate: float, gaps: list[float]) -> None:
    bucket, now_s, passed = Bucket(rate), 0.0, 0
    for gap in gaps:
        now_s += gap
        if bucket.wait_s(now_s) == 0:
            bucket.take(1)
            passed += 1
    assert passed <= rate * now_s + max(1.0, rate * BURST_S) + 1


@given(st.floats(0.5, 1000), st.floats(1, 1e6))
def test_whoever_waits_as_long_as_told_passes(rate: float, amount: float) -> None:
    bucket = Bucket(rate)
    assert bucket.wait_s(0.0) == 0
    bucket.take(amount)
    wait_s = bucket.wait_s(0.0)
    assert bucket.wait_s(wait_s) == pytest.approx(0, abs=1e-6)
    assert wait_s <= amount / rate + 1


def test_without_a_limit_nothing_waits() -> None:
    bucket = Bucket(inf)
    bucket.take(1e300)
    assert bucket.wait_s(0.0) == 0


def test_a_request_beyond_a_limit_says_which_and_when() -> None:
    usage = Usage("alice", KeyLimits(requests_per_s=2, bytes_per_s=100))
    usage.request(0, 0.0)
    usage.request(0, 0.0)
    with pytest.raises(KeyLimitReached, match="key 'alice' may send 2 requests a second: try again in 1 s"):
        usage.request(0, 0.0)
    usage.request(1000, 1.0)
    with pytest.raises(KeyLimitReached, match="100 bytes a second: try again in 9 s") as caught:
        usage.request(0, 1.5)
    usage.request(0, 1.5 + caught.value.retry_after_s)


def test_other_limits_count_at_once() -> None:
    usage = Usage("alice", KeyLimits())
    for _ in range(1000):
        usage.request(10**9, 0.0)
    usage.change(KeyLimits(requests_per_s=1, max_streams=1))
    usage.request(0, 0.0 + 1)
    with pytest.raises(KeyLimitReached):
        usage.request(0, 1.0)
    usage.open_stream()
    with pytest.raises(KeyLimitReached, match="has 1 streams open"):
        usage.open_stream()
    usage.close_stream()
    usage.open_stream()
