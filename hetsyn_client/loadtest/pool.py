"""A bounded number of connections that any number of streams share."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from hetsyn_client.errors import ServiceUnreachable
from hetsyn_client.loadtest.carrier import (
    CONNECT_TIMEOUT_S,
    OPENED_TOGETHER,
    RECONNECT_PAUSE_S,
    SWEEP_S,
    CarrierOwner,
    Job,
)
from hetsyn_client.loadtest.connection import Connection
from hetsyn_client.loadtest.streams import LoadStream
from hetsyn_client.loadtest.target import Address, Response


class Pool:
    """Connections, opened as jobs need them, up to a limit. Jobs without a free connection wait in order.

    A server may close an idle connection just as a request goes out on it. A request that was lost so, before any byte
    of its response, is sent once more on another connection (RFC 9112, section 9.3.1).

    Args:
        address: of the server.
        limit: the most connections.
        timeout_s: time limit of one request.
        owner: receives the outcomes.

    Attributes:
        waits: number of jobs that found no free connection.
    """

    def __init__(self, address: Address, limit: int, timeout_s: float, owner: CarrierOwner) -> None:
        self.waits = 0
        self._address = address
        self._limit = limit
        self._timeout_s = timeout_s
        self._owner = owner
        self._tls = address.tls
        self._free: list[Connection] = []
        self._busy: dict[Connection, Job] = {}
        self._connections: set[Connection] = set()
        self._waiting: deque[Job] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._paused_until_s = 0.0
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def size(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def open(self, streams: Sequence[LoadStream]) -> None:
        """As ``connect``, one connection a stream."""
        await self.connect(len(streams))

    async def connect(self, count: int) -> None:
        """Open connections before a run starts, within the limit.

        Raises:
            ServiceUnreachable: the first connection fails.
        """
        try:
            await self._connect()
        except OSError as error:
            raise ServiceUnreachable(f"{self._address.url}: {error}: is the server running there?") from error
        remaining = min(count, self._limit) - 1
        while remaining > 0:
            together = min(remaining, OPENED_TOGETHER)
            made = await asyncio.gather(*(self._connect() for _ in range(together)), return_exceptions=True)
            if any(isinstance(result, BaseException) for result in made):
                return  # a limit of the system: go on with fewer
            remaining -= together

    def send(self, job: Job) -> None:
        self._idle.clear()
        job.queued_s = time.perf_counter()
        if self._free:
            self._start(self._free.pop(), job)
        else:
            self.waits += 1
            self._waiting.append(job)
            self._grow()

    def sweep(self, now_s: float) -> None:
        """Fail the jobs that have taken longer than the timeout. Call it a few times a second."""
        overdue_s = now_s - self._timeout_s
        for connection, job in [item for item in self._busy.items() if item[1].sent_s < overdue_s]:
            del self._busy[connection]
            connection.abort()
            self._settle_failed(job, "timeout")
        while self._waiting and self._waiting[0].queued_s < overdue_s:
            self._settle_failed(self._waiting.popleft(), "timeout")
        self._grow()

    async def idle(self, timeout_s: float) -> bool:
        """Wait until every job has an outcome. False if the time ran out first."""
        deadline_s = time.perf_counter() + timeout_s
        while not self._idle.is_set() and (left_s := deadline_s - time.perf_counter()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(SWEEP_S, left_s)):
                    await self._idle.wait()
            self.sweep(time.perf_counter())
        return self._idle.is_set()

    def abandon(self) -> list[Job]:
        """Forget the jobs that have no outcome yet, and close their connections. Those jobs."""
        jobs = [*self._busy.values(), *self._waiting]
        abandoned = list(self._busy)
        self._busy.clear()
        self._waiting.clear()
        for connection in abandoned:
            connection.abort()
        self._idle.set()
        return jobs

    async def close(self) -> None:
        self._is_closed = True
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()
        # the transports close in the loop's next turns
        while self._connections:
            await asyncio.sleep(0)

    # connections call these

    def responded(self, connection: Connection, response: Response) -> None:
        now_s = time.perf_counter()
        job = self._busy.pop(connection, None)
        if job is None:
            return  # it has timed out
        if connection.is_reusable:
            if self._waiting:
                self._start(connection, self._waiting.popleft())
            else:
                self._free.append(connection)
        self._owner.answered(job, response, now_s)
        self._note_idle()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        job = self._busy.pop(connection, None)
        if job is None or self._is_closed:
            return
        if connection.answers and not connection.has_begun and not job.is_repeated:
            job.is_repeated = True
            self._waiting.appendleft(job)
            self._grow()
        else:
            self._settle_failed(job, "connection lost")

    def _start(self, connection: Connection, job: Job) -> None:
        self._busy[connection] = job
        job.sent_s = time.perf_counter()
        connection.send(job.request)

    def _grow(self) -> None:
        """Open a connection for each waiting job, within the limit."""
        if self._is_closed or time.perf_counter() < self._paused_until_s:
            return
        wanted = min(len(self._waiting), self._limit - self.size) - len(self._opening)
        for _ in range(wanted):
            task = asyncio.ensure_future(self._connect_for_waiting())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect_for_waiting(self) -> None:
        try:
            await self._connect()
        except OSError:
            self._paused_until_s = time.perf_counter() + RECONNECT_PAUSE_S
            if self._waiting:
                self._settle_failed(self._waiting.popleft(), "cannot connect")

    async def _connect(self) -> None:
        """Open a connection and start a waiting job on it.

        Raises:
            OSError: refused, not resolved, or too slow.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(
                lambda: Connection(self), self._address.host, self._address.port, ssl=self._tls
            )
        if not connection.is_reusable:
            return  # it was closed at once
        self._connections.add(connection)
        if self._waiting:
            self._start(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def _settle_failed(self, job: Job, error: str) -> None:
        self._owner.failed(job, error, time.perf_counter())
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._busy and not self._waiting:
            self._idle.set()
