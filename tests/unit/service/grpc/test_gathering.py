from __future__ import annotations

import asyncio

import pytest

from service.grpc.gathering import BATCHES, GAP_S, MOST_S, Gathering
from tests.support.clock import Clock, stopped_clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return stopped_clock(monkeypatch)


class Calls:
    """Calls whose chunks are computed when the test says so."""

    def __init__(self) -> None:
        self.gathering = Gathering()
        self.went_on: list[int] = []
        self.computed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def arrive(self, *numbers: int) -> None:
        self._tasks += [asyncio.create_task(self._call(number)) for number in numbers]
        for _ in range(3):
            await asyncio.sleep(0)

    async def finish(self) -> None:
        self.computed.set()
        await asyncio.gather(*self._tasks)
        self.computed.clear()
        self._tasks.clear()

    async def _call(self, number: int) -> None:
        with self.gathering.call() as call:
            await call.others()
            self.went_on.append(number)
            await self.computed.wait()


async def three_more_go_on_together(calls: Calls) -> None:
    """After the first three: two wait for the last one."""
    await calls.finish()
    await calls.arrive(3, 4)
    assert calls.went_on == [0, 1, 2]
    await calls.arrive(5)
    assert calls.went_on == [0, 1, 2, 3, 4, 5]
    await calls.finish()


@pytest.mark.usefixtures("clock")
async def test_a_client_that_is_alone_waits_for_nobody() -> None:
    calls = Calls()
    for number in range(3):
        await calls.arrive(number)
        assert calls.went_on == list(range(number + 1))
        await calls.finish()


async def test_as_many_go_on_together_as_were_in_flight(clock: Clock) -> None:
    calls = Calls()
    await calls.arrive(0)
    await calls.arrive(1, 2)  # while the first is computed: three are in flight
    assert calls.went_on == [0]
    await clock.turn(2 * MOST_S)  # nobody else comes
    assert calls.went_on == [0, 1, 2]
    await three_more_go_on_together(calls)


async def test_calls_that_keep_coming_delay_the_first_for_a_bounded_time(clock: Clock) -> None:
    calls = Calls()
    await calls.arrive(*range(200))
    await clock.turn(2 * MOST_S)
    await calls.finish()
    number = 200
    while len(calls.went_on) == 200 and number < 399:
        await calls.arrive(number)
        number += 1
        await clock.turn(GAP_S / 4)
    assert len(calls.went_on) > 200  # before as many waited as were in flight
    await calls.finish()


async def test_those_who_went_away_are_forgotten(clock: Clock) -> None:
    calls = Calls()
    await calls.arrive(0, 1, 2)
    await clock.turn(2 * MOST_S)
    await calls.finish()
    for number in range(3, 3 + 2 * BATCHES):
        await calls.arrive(number)
        if len(calls.went_on) <= number:
            await clock.turn(2 * MOST_S)
        await calls.finish()
    last = 3 + 2 * BATCHES
    await calls.arrive(last)
    assert calls.went_on[-1] == last
    await calls.finish()


async def test_nobody_waits_for_a_long_call_again_and_again(clock: Clock) -> None:
    """A short call beside it waited for ``GAP_S`` each time."""
    short = Calls()
    with short.gathering.call() as call:
        await call.others()
        await short.arrive(0)
        await clock.turn(2 * MOST_S)  # once: the long one might have been a short one
        assert short.went_on == [0]
        await short.finish()
        for number in range(1, 3 * BATCHES):
            await short.arrive(number)
            assert short.went_on[-1] == number
            await short.finish()
        await short.arrive(1_000)
    await short.arrive(1_001)
    assert short.went_on[-1] == 1_000  # two are in flight again, and both are short
    await clock.turn(2 * MOST_S)
    assert short.went_on[-1] == 1_001
    await short.finish()


async def test_those_who_come_back_together_wait_for_each_other_beside_a_long_call(clock: Clock) -> None:
    calls = Calls()
    with calls.gathering.call() as call:
        await call.others()
        await calls.arrive(0, 1, 2)
        await clock.turn(2 * MOST_S)
        await three_more_go_on_together(calls)


async def test_whoever_leaves_keeps_nobody_waiting(clock: Clock) -> None:
    calls = Calls()
    await calls.arrive(0)
    leaving = asyncio.create_task(calls._call(1))
    await calls.arrive(2)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await clock.turn(2 * MOST_S)
    assert calls.went_on == [0, 2]
    await calls.finish()
