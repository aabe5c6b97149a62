"""Bodies that take too long, with a clock of milliseconds; ``test_bodies`` has their requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from service.admission.body import read_body
from service.admission.uploads import Upload, Uploads
from service.errors import Overloaded, ShuttingDown, TooSlow
from service.settings import Limits
from tests.support.clock import stopped_clock
from tests.support.in_process import ServeDirect


def make_uploads(max_bytes: int, timeout_s: float, **limits: Any) -> Uploads:
    return Uploads(Limits(max_upload_bytes=max_bytes, max_body_bytes=max_bytes, body_timeout_s=timeout_s, **limits))


async def read(uploads: Uploads, arrives: asyncio.Event, client: str = "") -> str:
    with Upload(uploads, client) as upload:
        try:
            async with uploads.begin(upload):
                await arrives.wait()
        except TimeoutError:
            raise uploads.late(upload) from None
        finally:
            uploads.end(upload)
        return "read"


async def test_each_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stopped_clock(monkeypatch)
    uploads, never, later = make_uploads(1000, 0.06), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(read(uploads, never))
    await clock.turn(0.03)
    second, third = (asyncio.create_task(read(uploads, event)) for event in (later, never))
    await clock.turn(0.04)
    with pytest.raises(TooSlow, match=r"not complete after 0\.06 s"):
        await first
    assert not second.done()
    later.set()
    assert await second == "read"
    await clock.turn(0.04)
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
    (upload,) = uploads._until_s
    upload.deadline.reschedule(asyncio.get_running_loop().time() - 1)
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
    (upload,) = uploads._until_s
    upload.deadline.reschedule(asyncio.get_running_loop().time())
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


async def test_one_client_has_a_share_of_the_bytes() -> None:
    uploads = Uploads(Limits(max_upload_bytes=1000, max_body_bytes=500))
    with Upload(uploads, "a") as first, Upload(uploads, "a") as second, Upload(uploads, "b") as other:
        uploads.take(first, 300)
        with pytest.raises(Overloaded, match="300 bytes of bodies of this client"):
            uploads.take(second, 201)
        uploads.take(second, 200)
        uploads.take(other, 500)
    assert uploads.bytes == 0
    with Upload(uploads, "a") as again:
        uploads.take(again, 500)


async def test_room_is_given_back() -> None:
    uploads = make_uploads(1000, 60.0)
    with Upload(uploads, "a") as first:
        uploads.take(first, 600)
        with Upload(uploads, "a") as second:
            uploads.take(second, 400)
            with pytest.raises(Overloaded, match="no room for more bytes of bodies"):
                uploads.take(first, 1)
            assert uploads.bytes == 1000
        assert uploads.bytes == 600
    assert uploads.bytes == 0


class Slow:
    """Bodies that hold bytes and do not end; each is older than the next."""

    def __init__(self, uploads: Uploads, sizes: Mapping[str, int]) -> None:
        self.uploads = uploads
        self.bodies = [asyncio.create_task(self._read(client[0], size)) for client, size in sizes.items()]

    async def _read(self, client: str, size: int) -> bytes:
        first = True

        async def receive() -> dict[str, Any]:
            nonlocal first
            if not first:
                await asyncio.Event().wait()
            first = False
            return {"type": "http.request", "body": bytes(size), "more_body": True}

        with Upload(self.uploads, client) as upload:
            return await read_body(receive, b"", 1000, upload)

    async def displaced(self) -> list[bool]:
        """Which of them have been displaced."""
        await asyncio.sleep(0.001)
        displaced = []
        for body in self.bodies:
            if body.done():
                with pytest.raises(TooSlow, match="when others needed its room"):
                    body.result()
            displaced.append(body.done())
            body.cancel()
        await asyncio.gather(*self.bodies, return_exceptions=True)
        assert not self.uploads.under_way
        return displaced


@pytest.mark.parametrize(
    ("sizes", "newcomer", "displaced"),
    [
        ({"a": 400, "b": 400}, ("c", 200), [False, False]),
        ({"a": 400, "b": 400}, ("c", 201), [True, False]),
        ({"a": 450, "b": 450}, ("c", 600), [True, True]),
        ({"a": 400, "b": 400}, ("b", 201), [False, True]),  # a client has 600 bytes
        ({"a0": 100, "b": 300, "a1": 300}, ("a", 300), [True, False, False]),
    ],
)
async def test_slow_bodies_make_room_for_the_bytes_of_others(
    sizes: dict[str, int], newcomer: tuple[str, int], displaced: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.admission.uploads.SLOW_S", 0.0)
    limits = Limits(max_upload_bytes=1000, max_body_bytes=600, client_share=0.6)
    uploads = Uploads(limits)
    slow = Slow(uploads, sizes)
    await asyncio.sleep(0)
    assert uploads.bytes == sum(sizes.values())
    with Upload(uploads, newcomer[0]) as upload:
        uploads.take(upload, newcomer[1])
        left = sum(size for size, goes in zip(sizes.values(), displaced, strict=True) if not goes)
        assert uploads.bytes == left + newcomer[1]
        assert await slow.displaced() == displaced
        assert uploads.bytes == newcomer[1]
    assert uploads.bytes == 0


async def test_bodies_that_are_not_slow_make_no_room() -> None:
    uploads = make_uploads(1000, 60.0)
    quick = Slow(uploads, {"a": 400, "b": 400})
    await asyncio.sleep(0)
    with Upload(uploads, "c") as upload, pytest.raises(Overloaded, match="no room for more bytes"):
        uploads.take(upload, 201)
    assert await quick.displaced() == [False, False]


async def test_slow_bodies_that_have_too_few_bytes_make_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.admission.uploads.SLOW_S", 0.0)
    uploads = make_uploads(1000, 60.0, client_share=1.0)
    with Upload(uploads, "a") as complete:
        uploads.take(complete, 800)
        slow = Slow(uploads, {"b": 100})
        await asyncio.sleep(0)
        with Upload(uploads, "c") as upload, pytest.raises(Overloaded, match="no room for more bytes"):
            uploads.take(upload, 201)
        assert await slow.displaced() == [False]


async def test_a_slow_body_takes_no_room_of_a_younger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.admission.uploads.SLOW_S", 0.0)
    uploads, arrives = make_uploads(1000, 60.0, client_share=1.0), asyncio.Event()

    async def receive() -> dict[str, Any]:
        await arrives.wait()
        return {"type": "http.request", "body": bytes(201), "more_body": True}

    with Upload(uploads, "a") as upload:
        older = asyncio.create_task(read_body(receive, b"", 1000, upload))
        await asyncio.sleep(0)
        younger = Slow(uploads, {"b": 400, "c": 400})
        await asyncio.sleep(0)
        arrives.set()
        with pytest.raises(Overloaded, match="no room for more bytes"):
            await older
    assert await younger.displaced() == [False, False]


async def test_what_a_displaced_body_still_receives_does_not_count() -> None:
    uploads = make_uploads(1000, 60.0, max_uploads=1)
    with Upload(uploads, "a") as displaced, Upload(uploads, "b") as newcomer:
        async with uploads.begin(displaced):
            uploads.take(displaced, 300)
            uploads.begin(newcomer)
            assert uploads.bytes == 0
            with pytest.raises(TooSlow, match="when others needed its room"):
                uploads.take(displaced, 300)
            uploads.end(displaced)
        uploads.end(newcomer)
    assert uploads.bytes == 0
    uploads.close()


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
    (upload,) = uploads._until_s
    while not upload.deadline.expired():
        await asyncio.sleep(0)
    uploads.end_soon()
    with pytest.raises(ShuttingDown):
        await reading


async def test_a_closed_server_leaves_no_timer_behind(serve: ServeDirect) -> None:
    server = serve()
    uploads = server.parts.uploads
    upload = Upload(uploads, "")
    uploads.begin(upload)
    uploads.end(upload)
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
