"""Bodies that take too long, with a clock of milliseconds; ``test_bodies`` has their requests."""

from __future__ import annotations

import asyncio

import pytest

from service.admission.uploads import Upload, Uploads
from service.errors import Overloaded, ShuttingDown, TooSlow


async def read(uploads: Uploads, arrives: asyncio.Event) -> str:
    with Upload(uploads) as upload:
        deadline = upload.uploads.begin()
        try:
            async with deadline:
                await arrives.wait()
        except TimeoutError:
            raise uploads.late() from None
        finally:
            uploads.end(deadline)
        return "read"


async def test_each_has_its_own_time() -> None:
    uploads, never, later = Uploads(1000, 0.06), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(read(uploads, never))
    await asyncio.sleep(0.03)
    second, third = (asyncio.create_task(read(uploads, event)) for event in (later, never))
    with pytest.raises(TooSlow, match=r"not complete after 0\.06 s"):
        await first
    assert not second.done()
    later.set()
    assert await second == "read"
    with pytest.raises(TooSlow):
        await third


async def test_one_that_is_cancelled_is_cancelled() -> None:
    uploads = Uploads(1000, 0.01)
    reading = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    both = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    (deadline,) = uploads._reading
    deadline.reschedule(asyncio.get_running_loop().time() - 1)
    both.cancel()  # of the two the caller's counts
    with pytest.raises(asyncio.CancelledError):
        await both
    assert not uploads._reading


async def test_the_end_of_a_server_interrupts_what_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.admission.uploads.ENDING_S", 0.01)
    uploads = Uploads(1000, 60.0)
    reading = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    uploads.end_soon()
    uploads.end_soon()
    with pytest.raises(ShuttingDown):
        await reading
    with pytest.raises(ShuttingDown):  # one that begins now has no more time than the others
        await read(uploads, asyncio.Event())
    uploads.close()
    uploads.close()


def test_room_is_given_back() -> None:
    uploads = Uploads(1000, 60.0)
    with Upload(uploads) as first:
        first.take(600)
        with Upload(uploads) as second:
            second.take(400)
            with pytest.raises(Overloaded, match="1000 bytes of bodies"):
                first.take(1)
            assert uploads.bytes == 1000
        assert uploads.bytes == 600
    assert uploads.bytes == 0


def test_it_may_be_used_from_another_loop_after_it_was_closed() -> None:
    uploads = Uploads(1000, 0.02)

    async def body() -> None:
        with pytest.raises(TooSlow):
            await read(uploads, asyncio.Event())
        leaves = asyncio.create_task(read(uploads, asyncio.Event()))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        uploads.close()

    for _ in range(2):
        asyncio.run(body())


async def test_all_are_interrupted_however_they_overlap() -> None:
    """One that is interrupted already is still there when the next is due."""
    uploads, never = Uploads(1000, 0.05), asyncio.Event()
    reading = []
    for _ in range(400):
        reading.append(asyncio.create_task(read(uploads, never)))
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        results = await asyncio.gather(*reading, return_exceptions=True)
    assert {type(result) for result in results} == {TooSlow}


async def test_a_server_may_end_while_one_is_interrupted() -> None:
    uploads = Uploads(1000, 0.01)
    reading = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    (deadline,) = uploads._reading
    while not deadline.expired():
        await asyncio.sleep(0)
    uploads.end_soon()
    with pytest.raises(ShuttingDown):
        await reading
