"""Permits, and work whose caller went away."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from service.admission.permits import Admission
from service.admission.uploads import Uploads
from service.errors import OutOfOrder, Overloaded, ShuttingDown
from service.settings import Limits


def admission(permits: int = 1) -> Admission:
    return Admission(permits, Uploads(Limits(max_upload_bytes=1000, max_body_bytes=1000)))


async def request(admission: Admission, work: Any) -> Any:
    with admission:
        return await admission.complete(work)


async def abandon(admission: Admission, work: Any) -> None:
    """Cancel a request once its work has begun."""
    caller = asyncio.create_task(request(admission, work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_request_has_one_permit() -> None:
    permits = admission()
    with permits:
        assert permits.in_flight == 1
        with pytest.raises(Overloaded, match="1 requests are waiting"), permits:
            raise AssertionError("admitted")
    assert permits.in_flight == 0


async def test_abandoned_work_is_done_and_keeps_its_permit_until_then() -> None:
    permits, goes_on, done = admission(), asyncio.Event(), []

    async def work() -> None:
        await goes_on.wait()
        done.append(True)

    await abandon(permits, work())
    gc.collect()  # only the admission holds the task now
    assert permits.in_flight == 1
    goes_on.set()
    async with asyncio.timeout(10):
        await permits.finish()
    assert done == [True]
    assert permits.in_flight == 0


async def test_the_error_of_abandoned_work_is_not_reported_as_a_defect() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    permits, goes_on = admission(), asyncio.Event()

    async def work() -> None:
        await goes_on.wait()
        raise OutOfOrder("chunk 3 was expected", expected_seq=3)

    await abandon(permits, work())
    goes_on.set()
    async with asyncio.timeout(10):
        await permits.finish()
    await asyncio.sleep(0)
    gc.collect()
    assert reported == []


async def test_work_that_ended_with_its_caller_gives_one_permit_back() -> None:
    permits = admission()

    async def work() -> None:
        caller.cancel()  # the caller is cancelled in the round in which its work ends

    caller = asyncio.create_task(request(permits, work()))
    with pytest.raises(asyncio.CancelledError):
        await caller
    async with asyncio.timeout(10):
        await permits.finish()
    assert permits.in_flight == 0


async def test_a_server_that_stops_finishes_what_it_has() -> None:
    permits, goes_on = admission(2), asyncio.Event()
    caller = asyncio.create_task(request(permits, goes_on.wait()))
    await asyncio.sleep(0)
    stopping = asyncio.create_task(permits.stop())
    await asyncio.sleep(0)
    assert not permits.is_ready
    with pytest.raises(ShuttingDown), permits:
        raise AssertionError("admitted")
    assert not stopping.done()
    goes_on.set()
    async with asyncio.timeout(10):
        await stopping
    assert await caller is True
