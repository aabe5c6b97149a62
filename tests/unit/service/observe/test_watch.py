"""The time of a chunk, by part."""

from __future__ import annotations

import time

import pytest

from service.observe.watch import Watch


async def _fails() -> None:
    raise ConnectionError


async def _stored() -> str:
    return "stored"


async def test_the_parts_are_all_of_the_time() -> None:
    started_s = time.perf_counter()
    watch = Watch(started_s - 10.0)
    watch.engine_s += 2.0
    assert await watch.stored(_stored()) == "stored"
    assert watch.store_s > 0
    total_s = watch.queue_s + watch.engine_s + watch.store_s
    assert 10.0 <= total_s <= 10.0 + time.perf_counter() - started_s


async def test_a_commit_that_fails_counts_too() -> None:
    watch = Watch()
    with pytest.raises(ConnectionError):
        await watch.stored(_fails())
    assert watch.store_s > 0


def test_no_part_is_negative() -> None:
    watch = Watch()
    watch.engine_s = 1e9
    assert watch.queue_s == 0.0
