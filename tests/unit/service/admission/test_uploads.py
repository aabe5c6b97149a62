"""Bodies that take too long, with a clock of milliseconds; ``test_bodies`` has their requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.admission.body import read_body
from service.admission.uploads import Upload, Uploads
from service.errors import Overloaded, ShuttingDown, TooSlow
from service.settings import Limits
from tests.support.server import ServeDirect


def make_uploads(max_bytes: int, timeout_s: float, **limits: Any) -> Uploads:
    return Uploads(Limits(max_upload_bytes=max_bytes, max_body_bytes=max_bytes, body_timeout_s=timeout_s, **limits))


async def read(uploads: Uploads, arrives: asyncio.Event, client: str = "") -> str:
    with Upload(uploads, client) as upload:
        deadline = upload.uploads.begin(client)
        try:
            async with deadline:
                await arrives.wait()
        except TimeoutError:
            raise uploads.late(deadline) from None
        finally:
            uploads.end(deadline)
        return "read"


async def test_each_has_its_own_time() -> None:
    uploads, never, later = make_uploads(1000, 0.06), asyncio.Event(), asyncio.Event()
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
    uploads = make_uploads(1000, 0.01)
    reading = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    both = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    (deadline,) = uploads._until_s
    deadline.reschedule(asyncio.get_running_loop().time() - 1)
    both.cancel()  # of the two the caller's counts
    with pytest.raises(asyncio.CancelledError):
        await both
    assert not uploads._until_s


async def test_the_end_of_a_server_interrupts_what_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.admission.uploads.ENDING_S", 0.01)
    uploads = make_uploads(1000, 60.0)
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


@pytest.mark.parametrize("clients", ["aaaa", "abcd"])
async def test_one_more_displaces_the_oldest(clients: str) -> None:
    limits = {"max_uploads": 6, "client_share": 0.5} if clients == "aaaa" else {"max_uploads": 3}
    uploads, rest = make_uploads(1000, 60.0, **limits), asyncio.Event()
    oldest, *younger = (asyncio.create_task(read(uploads, rest, client)) for client in clients)
    with pytest.raises(TooSlow, match="when others needed its room"):
        await oldest
    assert uploads.under_way == 3
    rest.set()
    assert await asyncio.gather(*younger) == ["read"] * 3
    assert uploads.under_way == 0


async def test_one_that_is_displaced_as_its_time_ends_is_interrupted_once() -> None:
    uploads, never = make_uploads(1000, 0.01, max_uploads=1), asyncio.Event()
    first = asyncio.create_task(read(uploads, never))
    await asyncio.sleep(0)
    uploads._interrupt()
    (deadline,) = uploads._until_s
    deadline.reschedule(asyncio.get_running_loop().time())
    second = asyncio.create_task(read(uploads, never))
    for task in (first, second):
        with pytest.raises(TooSlow, match=r"after 0\.01 s"):
            await task


async def test_the_end_waits_for_the_bodies_under_way() -> None:
    uploads, arrives = make_uploads(1000, 60.0), asyncio.Event()
    reading = asyncio.create_task(read(uploads, arrives))
    await asyncio.sleep(0)
    uploads.end_soon()
    finishing = asyncio.create_task(uploads.finish())
    await asyncio.sleep(0)
    assert not finishing.done()
    arrives.set()
    await finishing
    assert await reading == "read"
    await uploads.finish()
    uploads.close()


def test_one_client_has_a_share_of_the_bytes() -> None:
    uploads = Uploads(Limits(max_upload_bytes=1000, max_body_bytes=500))
    with Upload(uploads, "a") as first, Upload(uploads, "a") as second, Upload(uploads, "b") as other:
        first.take(300)
        with pytest.raises(Overloaded, match="300 bytes of bodies from this address"):
            second.take(201)
        second.take(200)
        other.take(500)
    assert uploads.bytes == 0
    with Upload(uploads, "a") as again:
        again.take(500)


def test_room_is_given_back() -> None:
    uploads = make_uploads(1000, 60.0)
    with Upload(uploads, "a") as first:
        first.take(600)
        with Upload(uploads, "a") as second:
            second.take(400)
            with pytest.raises(Overloaded, match="1000 bytes of bodies"):
                first.take(1)
            assert uploads.bytes == 1000
        assert uploads.bytes == 600
    assert uploads.bytes == 0


def test_it_may_be_used_from_another_loop_after_it_was_closed() -> None:
    uploads = make_uploads(1000, 0.02)

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
    uploads, never = make_uploads(1000, 0.05), asyncio.Event()
    reading = []
    for _ in range(400):
        reading.append(asyncio.create_task(read(uploads, never)))
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        results = await asyncio.gather(*reading, return_exceptions=True)
    assert {type(result) for result in results} == {TooSlow}


async def test_a_server_may_end_while_one_is_interrupted() -> None:
    uploads = make_uploads(1000, 0.01)
    reading = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    (deadline,) = uploads._until_s
    while not deadline.expired():
        await asyncio.sleep(0)
    uploads.end_soon()
    with pytest.raises(ShuttingDown):
        await reading


async def test_a_closed_server_leaves_no_timer_behind(serve: ServeDirect) -> None:
    server = serve()
    uploads = server.parts.uploads
    uploads.end(uploads.begin(""))
    timer = uploads._timer
    assert timer is not None
    await server.close()
    assert timer.cancelled()


async def test_a_body_that_is_there_needs_no_time_and_one_that_waits_is_under_way() -> None:
    uploads, arrives = make_uploads(1000, 60.0), asyncio.Event()

    async def receive() -> dict[str, Any]:
        for _ in range(2):  # waits twice within one call
            await asyncio.sleep(0)
        await arrives.wait()
        return {"type": "http.request", "body": b"late", "more_body": False}

    async def at_once() -> dict[str, Any]:
        return {"type": "http.request", "body": b"soon", "more_body": False}

    with Upload(uploads, "a") as upload:
        reading = asyncio.create_task(read_body(receive, b"", 1000, upload))
        for _ in range(5):
            await asyncio.sleep(0)
        assert uploads.under_way == 1
        assert await read_body(at_once, b"", 1000, upload) == b"soon"
        arrives.set()
        assert await reading == b"late"
        cancelled = asyncio.create_task(read_body(asyncio.Event().wait, b"", 1000, upload))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    assert uploads.under_way == 0
    uploads.close()
