"""Bodies that take too long, with a clock of milliseconds, or are too long; ``test_bodies`` has their requests."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import pytest

from service.admission.budget import Admission, Budget
from service.admission.uploads import Upload, Uploads
from service.errors import ShuttingDown, TooLarge, TooSlow
from service.settings import Limits
from tests.support.clock import stopped_clock


def make_uploads(timeout_s: float = 60.0, max_bytes: int = 1000) -> Uploads:
    budget = Budget(Limits(max_held_bytes=max_bytes, max_body_bytes=max_bytes))
    return Uploads(Admission(budget), timeout_s)


async def read(uploads: Uploads, arrives: asyncio.Event, client: str = "") -> str:
    with Upload(uploads, client) as upload:
        async with upload.under_way():
            await arrives.wait()
        return "read"


async def test_each_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = stopped_clock(monkeypatch)
    uploads, never, later = make_uploads(0.06), asyncio.Event(), asyncio.Event()
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
    uploads = make_uploads()
    reading = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not uploads.under_way


async def test_a_server_may_end_while_one_is_interrupted() -> None:
    uploads = make_uploads(0.01)
    reading = asyncio.create_task(read(uploads, asyncio.Event()))
    await asyncio.sleep(0)
    (upload,) = uploads._under_way
    while upload.deadline.due_s < inf:  # it has been late
        await asyncio.sleep(0)
    ending = asyncio.create_task(uploads.admission.stop())
    with pytest.raises(ShuttingDown):
        await reading
    await ending


async def test_a_body_that_waits_is_under_way() -> None:
    uploads, arrives = make_uploads(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        await arrives.wait()
        return {"type": "http.request", "body": b"late", "more_body": False}

    with Upload(uploads, "a") as upload:
        reading = asyncio.create_task(upload.read(receive, b"", 1000))
        await asyncio.sleep(0)
        assert uploads.under_way == 1
        arrives.set()
        assert await reading == b"late"
        assert uploads.bytes == 4
        cancelled = asyncio.create_task(upload.read(asyncio.Event().wait, b"", 1000))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    assert (uploads.under_way, uploads.bytes) == (0, 0)


@pytest.mark.parametrize("declared", [b"1001", b"0" * 5000 + b"1001", b"9" * 5000])
async def test_a_body_that_is_declared_too_long_is_not_read(declared: bytes) -> None:
    async def receive() -> dict[str, Any]:
        pytest.fail("a part of the body was read")

    with pytest.raises(TooLarge, match="longer than 1000 bytes"):
        await Upload(make_uploads(), "a").read(receive, declared, 1000)


async def test_a_length_may_have_any_number_of_zeros() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"1234"}

    assert await Upload(make_uploads(), "a").read(receive, b"0" * 5000 + b"4", 1000) == b"1234"
