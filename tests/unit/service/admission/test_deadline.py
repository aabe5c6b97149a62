"""A deadline that is put off, comes closer, or is closed."""

from __future__ import annotations

import asyncio

from service.admission.connections import Deadline


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_it_is_late_once_and_not_before_its_time() -> None:
    late = asyncio.Event()
    deadline = Deadline(late.set)
    due_s = now_s() + 0.02
    deadline.set(due_s)
    deadline.set(due_s)
    await late.wait()
    assert now_s() >= due_s
    late.clear()
    deadline.set(now_s() + 0.01)  # again
    await late.wait()


async def test_one_that_is_put_off_waits_longer_and_one_that_comes_closer_less_long() -> None:
    late: list[str] = []
    both = asyncio.Event()

    def sooner() -> None:
        late.append("sooner")

    def later() -> None:
        late.append("later")
        both.set()

    put_off, closer = Deadline(later), Deadline(sooner)
    start_s = now_s()
    put_off.set(start_s)
    put_off.set(start_s + 0.05)
    closer.set(start_s + 3600)
    closer.set(start_s + 0.01)
    await both.wait()
    assert late == ["sooner", "later"]
    assert now_s() >= start_s + 0.05


async def test_one_that_is_closed_or_has_no_time_calls_nobody() -> None:
    late = asyncio.Event()
    closed, timeless, other = Deadline(late.set), Deadline(late.set), asyncio.Event()
    for deadline in (closed, timeless):
        deadline.set(now_s())
    closed.close()
    timeless.due_s = float("inf")
    last = Deadline(other.set)
    last.set(now_s() + 0.01)
    await other.wait()
    assert not late.is_set()
