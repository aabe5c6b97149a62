"""Work for a client ends when the client goes."""

from __future__ import annotations

import asyncio

import pytest

from service.admission.body import ClientDisconnect
from service.admission.presence import Presence


async def work(presence: Presence, goes_on: asyncio.Event) -> str:
    with presence:
        await goes_on.wait()
    await asyncio.sleep(0)
    return "answered"


async def test_work_for_a_client_that_goes_ends() -> None:
    presence = Presence()
    working = asyncio.create_task(work(presence, asyncio.Event()))
    await asyncio.sleep(0)
    presence.leave()
    with pytest.raises(ClientDisconnect):
        await working


async def test_no_work_begins_for_a_client_that_has_gone() -> None:
    presence = Presence()
    presence.leave()
    with pytest.raises(ClientDisconnect):
        await work(presence, asyncio.Event())


async def test_work_that_is_done_is_not_disturbed() -> None:
    presence, goes_on = Presence(), asyncio.Event()
    goes_on.set()
    working = asyncio.create_task(work(presence, goes_on))
    await asyncio.sleep(0)
    presence.leave()
    assert await working == "answered"
    assert presence.is_gone


async def test_a_cancellation_by_others_is_one() -> None:
    working = asyncio.create_task(work(Presence(), asyncio.Event()))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
