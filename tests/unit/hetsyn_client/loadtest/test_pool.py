from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from hetsyn_client.errors import ServiceUnreachable
from hetsyn_client.loadtest.carrier import Job
from hetsyn_client.loadtest.pool import Pool
from hetsyn_client.loadtest.target import Address, Response
from tests.support.scripted_server import OK, serving

REQUEST = b"POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
DEADLINE_S = 10.0


class PoolEvents:
    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.errors: list[str] = []

    def answered(self, job: Job, response: Response, now_s: float) -> None:
        assert job.intended_s <= job.sent_s <= now_s
        self.statuses.append(response.status)

    def failed(self, job: Job, error: str, now_s: float) -> None:
        assert job.intended_s <= now_s
        self.errors.append(error)


def run(main: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await main

    asyncio.run(bounded())


def jobs(count: int) -> list[Job]:
    return [Job(REQUEST, None, time.perf_counter()) for _ in range(count)]


@asynccontextmanager
async def silent() -> AsyncIterator[tuple[Address, asyncio.Event]]:
    """A server that answers nothing before the end of this context, and an event: it has got a request."""
    arrived, over = asyncio.Event(), asyncio.Event()

    async def answer(_: str) -> bytes:
        arrived.set()
        await over.wait()
        return OK

    async with serving(answer) as address:
        try:
            yield address, arrived
        finally:
            over.set()


def test_many_jobs_share_a_few_connections() -> None:
    async def main() -> None:
        sizes = []

        async def answer(_: str) -> bytes:
            sizes.append(pool.size)
            return OK

        async with serving(answer) as address:
            pool = Pool(address, 3, DEADLINE_S, owner)
            for job in jobs(50):
                pool.send(job)
            assert await pool.idle(DEADLINE_S)
            await pool.close()
        assert max(sizes) == 3
        assert pool.waits == 50
        assert pool.size == 0

    owner = PoolEvents()
    run(main())
    assert owner.statuses == [200] * 50
    assert owner.errors == []


def test_a_request_that_met_a_closing_connection_is_sent_again_once() -> None:
    async def main() -> None:
        answers = iter([OK, None, OK, OK, None, None])

        async def answer(_: str) -> bytes | None:
            return next(answers)

        async with serving(answer) as address:
            pool = Pool(address, 1, DEADLINE_S, owner)
            for job in jobs(4):
                pool.send(job)
                assert await pool.idle(DEADLINE_S)
            await pool.close()

    owner = PoolEvents()
    run(main())
    # ok, (closed) ok again, ok, (closed) closed on a new connection: that is an answer too
    assert owner.statuses == [200, 200, 200]
    assert owner.errors == ["connection lost"]


def test_what_takes_too_long_is_given_up_sent_or_waiting() -> None:
    async def main() -> None:
        async with silent() as (address, arrived):
            pool = Pool(address, 1, 60.0, owner)
            for job in jobs(2):
                pool.send(job)
            await arrived.wait()
            pool.sweep(time.perf_counter() + 59.0)
            assert owner.errors == []
            pool.sweep(time.perf_counter() + 61.0)
            assert owner.errors == ["timeout", "timeout"]
            assert await pool.idle(DEADLINE_S)
            await pool.close()

    owner = PoolEvents()
    run(main())
    assert owner.statuses == []


def test_jobs_without_an_outcome_can_be_abandoned() -> None:
    async def main() -> None:
        async with silent() as (address, arrived):
            pool = Pool(address, 1, 60.0, owner)
            sent = jobs(3)
            for job in sent:
                pool.send(job)
            await arrived.wait()
            assert not await pool.idle(0.01)
            assert pool.abandon() == sent
            assert await pool.idle(DEADLINE_S)
            await pool.close()

    owner = PoolEvents()
    run(main())
    assert (owner.statuses, owner.errors) == ([], [])


def test_a_server_that_is_gone_fails_what_waits_for_it() -> None:
    async def main() -> None:
        async with serving(lambda _: asyncio.sleep(0, OK)) as address:
            pass
        with pytest.raises(ServiceUnreachable, match="is the server running there"):
            await Pool(address, 1, DEADLINE_S, owner).connect(1)
        pool = Pool(address, 2, DEADLINE_S, owner)
        for job in jobs(3):
            pool.send(job)
        assert await pool.idle(DEADLINE_S)
        await pool.close()

    owner = PoolEvents()
    run(main())
    assert owner.errors == ["cannot connect"] * 3


def test_a_host_that_does_not_exist_is_unreachable() -> None:
    pool = Pool(Address("no-such-host.invalid", 80), 1, DEADLINE_S, PoolEvents())
    with pytest.raises(ServiceUnreachable, match=r"no-such-host\.invalid"):
        asyncio.run(pool.connect(1))
