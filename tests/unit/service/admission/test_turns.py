"""Clients take turns at the places, and a place is never lost."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from math import inf

import pytest

from service.admission.turns import Turns, on_thread
from service.errors import Overloaded


class Works:
    """Works of several clients, in the order in which they ran. Each ends when it is told to."""

    def __init__(self, places: int) -> None:
        self.turns = Turns(places)
        self.ran: list[str] = []
        self.ends = asyncio.Event()

    async def work(self, client: str, name: str) -> None:
        async with self.turns.turn(client):
            self.ran.append(name)
            await self.ends.wait()


async def rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_client_waits_for_one_work_of_each_other_client() -> None:
    works = Works(1)
    tasks = [asyncio.create_task(works.work("many", f"many{n}")) for n in range(4)]
    await rounds()
    tasks += [asyncio.create_task(works.work(client, client)) for client in ("a", "b")]
    await rounds()
    assert works.ran == ["many0"]
    works.ends.set()
    await asyncio.gather(*tasks)
    assert works.ran == ["many0", "many1", "a", "b", "many2", "many3"]


async def test_work_that_has_begun_goes_before_its_clients_other_work_and_not_before_other_clients() -> None:
    works = Works(1)

    async def begun() -> None:
        await works.turns.wait("many", inf, is_begun=True)
        works.ran.append("again")
        works.turns.give_back()

    tasks = [asyncio.create_task(works.work("many", f"many{n}")) for n in range(3)]
    await rounds()
    tasks += [asyncio.create_task(works.work("a", "a")), asyncio.create_task(begun())]
    await rounds()
    works.ends.set()
    await asyncio.gather(*tasks)
    assert works.ran == ["many0", "again", "a", "many1", "many2"]


async def test_a_turn_that_does_not_come_is_refused() -> None:
    works = Works(1)
    task = asyncio.create_task(works.work("a", "a"))
    await rounds()
    with pytest.raises(Overloaded, match="waited too long"):
        async with works.turns.turn("b", time.monotonic()):
            pytest.fail("there was a place")
    works.ends.set()
    await task
    async with works.turns.turn("b", time.monotonic()):
        pass


async def test_who_leaves_takes_no_place_with_it() -> None:
    works = Works(2)
    tasks = [asyncio.create_task(works.work("a", f"a{n}")) for n in range(6)]
    await rounds()
    assert works.ran == ["a0", "a1"]
    tasks[3].cancel()  # waits
    await rounds()
    tasks[0].cancel()  # its place goes to the next
    works.ends.set()
    tasks[4].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert works.ran == ["a0", "a1", "a2", "a5"]
    async with works.turns.turn("b"), works.turns.turn("c"):
        pass


async def test_a_place_that_comes_as_its_work_is_cancelled_is_passed_on() -> None:
    works = Works(1)
    first, second, third = (asyncio.create_task(works.work(client, client)) for client in "abc")
    await rounds()
    works.ends.set()
    await asyncio.sleep(0)  # the first ends, and gives its place to the second
    second.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert works.ran[-1] == "c"


async def test_large_work_keeps_others_waiting_until_its_places_are_back() -> None:
    turns = Turns(2)
    assert turns.take(5)
    large, left, small = (asyncio.create_task(turns.wait(*who)) for who in (("a", inf, 3), ("b", inf, 9), ("c", inf)))
    await rounds()
    turns.give_back(3)
    await rounds()
    assert not large.done()
    turns.give_back(2)
    await rounds()
    assert large.done()
    assert not turns.take()
    turns.give_back(3)
    left.cancel()  # its places come at the same moment
    await rounds()
    assert small.done()
    assert turns.take()
    assert not turns.take()


async def test_a_cancelled_caller_keeps_its_place_until_its_thread_ends() -> None:
    turns, runs, ends = Turns(1), threading.Event(), threading.Event()

    def work() -> None:
        runs.set()
        assert ends.wait(10)

    async def decode() -> None:
        async with turns.turn("a"):
            await on_thread(work)

    task = asyncio.create_task(decode())
    assert await asyncio.to_thread(runs.wait, 10)
    task.cancel()
    await rounds()
    with pytest.raises(Overloaded, match="waited too long"):
        async with turns.turn("b", time.monotonic()):
            pytest.fail("there was a place")
    ends.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with turns.turn("b", time.monotonic()):
        pass


async def test_an_error_on_a_thread_whose_caller_was_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    runs, ends = threading.Event(), threading.Event()

    def work() -> None:
        runs.set()
        assert ends.wait(10)
        raise Overloaded("nobody hears of it")

    task = asyncio.create_task(on_thread(work))
    assert await asyncio.to_thread(runs.wait, 10)
    task.cancel()
    await rounds()
    ends.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    assert not caplog.records
