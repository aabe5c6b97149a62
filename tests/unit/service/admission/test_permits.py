"""Permits for requests in flight: how many there are, in all and for one client."""

from __future__ import annotations

import asyncio

import pytest

from service.admission.budget import Admission, Budget
from service.errors import Overloaded, ShuttingDown
from service.settings import Limits
from tests.support.clock import Clock


def admission(permits: int = 1, client_share: float = 1.0) -> Admission:
    budget = Budget(Limits(max_waiting=permits, client_share=client_share))
    return Admission(budget, queue_timeout_s=10.0, clock=Clock(100.0))


async def test_a_request_has_one_permit() -> None:
    permits = admission()
    with permits.permit("a"):
        assert permits.in_flight == 1
        with pytest.raises(Overloaded, match="as many requests as it takes"), permits.permit("b"):
            raise AssertionError("admitted")
        with pytest.raises(Overloaded, match="as many requests as it takes"):
            permits.check("b")
    assert permits.in_flight == 0


async def test_a_permit_says_when_the_work_has_to_begin() -> None:
    with admission().permit("a") as permit:
        assert (permit.client, permit.due_s) == ("a", 110.0)


async def test_one_client_takes_no_more_than_its_share() -> None:
    permits = admission(5, client_share=0.5)
    with permits.permit("a"), permits.permit("a"):
        with pytest.raises(Overloaded, match="2 requests of this client are waiting"), permits.permit("a"):
            raise AssertionError("admitted")
        with pytest.raises(Overloaded, match="2 requests of this client are waiting"):
            permits.check("a")
        with permits.permit("b"), permits.permit("b"), permits.permit("c"):
            assert permits.in_flight == 5
    with permits.permit("a"):
        assert permits.in_flight == 1


async def test_a_permit_goes_back_whatever_became_of_the_request() -> None:
    permits = admission()

    async def request() -> None:
        with permits.permit("a"):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(request())
    await asyncio.sleep(0)
    assert permits.in_flight == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await permits.finish()
    with permits.permit("a"):
        assert permits.in_flight == 1


async def test_a_server_that_stops_finishes_what_it_has() -> None:
    permits, goes_on = admission(2), asyncio.Event()

    async def request() -> bool:
        with permits.permit("a"):
            return await goes_on.wait()

    caller = asyncio.create_task(request())
    await asyncio.sleep(0)
    stopping = asyncio.create_task(permits.stop())
    while permits.admits:
        await asyncio.sleep(0)
    assert not permits.is_ready
    with pytest.raises(ShuttingDown), permits.permit("a"):
        raise AssertionError("admitted")
    assert not stopping.done()
    goes_on.set()
    async with asyncio.timeout(60):
        await stopping
    assert await caller is True
