"""``WS /streams`` under load: sessions spread over a few connections, and a frame for all of them that are due.

A gateway gathers what is due within ``GATHER_S``, and while two of its frames are not answered: then frames grow with
the load. A chunk's latency counts from when it was due, so it contains this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np

from hetsyn_client.columns import (
    APPLIED,
    CHUNK,
    END,
    LEAVE,
    MOST_ROWS,
    OPENED,
    RESULTS,
    pack_chunks,
    pack_sessions,
    unpack_opened,
    unpack_results,
)
from hetsyn_client.errors import ServiceUnreachable
from hetsyn_client.events import HEADER
from hetsyn_client.loadtest.carrier import CONNECT_TIMEOUT_S, Carrier, CarrierOwner, Job
from hetsyn_client.loadtest.columns_hub import Hub
from hetsyn_client.loadtest.socket_pool import SocketPool
from hetsyn_client.loadtest.stream_pool import BEGIN, UNREACHABLE, encoding_of
from hetsyn_client.loadtest.streams import LoadStream
from hetsyn_client.loadtest.target import Address, HetsynTarget, Response
from hetsyn_client.loadtest.websocket import BINARY, WebSocket, handshake, masked

GATHER_S = 0.01
MOST_FRAMES = 2  # of a connection that are not answered
MOST_CONNECTIONS = 2  # unless fewer are wanted
DONE = Response(APPLIED, b"", None)


class Row(NamedTuple):
    """A chunk as a row of columns.

    Attributes:
        steps: network steps of events.
        items: events, samples or rows of values.
        parts: its content in each column of it: times and units of events.
    """

    steps: int
    items: int
    parts: tuple[bytes, ...]


class ColumnsTarget(HetsynTarget):
    """``WS /streams`` of ``hetsyn serve``. Arguments as ``HetsynTarget``."""

    def __init__(self, address: Address, content_type: str, model: str, version: str, form: str) -> None:
        super().__init__(address, content_type, model, version, form)
        query = encoding_of(content_type)
        self._item_bytes = {"events": 0, "pcm_s16le": 2}.get(query["encoding"]) or 4 * int(query.get("channels", 0))
        self._path = f"/streams?{urlencode({'model': model, 'version': version, 'form': form, **query})}"
        self._rows: dict[bytes, Row] = {}

    def handshake(self) -> bytes:
        return handshake(self.address, self._path)

    def request(self, session: str, seq: int, chunk: bytes, *, is_last: bool, is_numbered: bool = True) -> bytes:  # noqa: ARG002
        """The chunk: its frame is made when it is known what else is due."""
        return chunk

    def row(self, chunk: bytes) -> Row:
        found = self._rows.get(chunk)
        if found is None:
            found = self._rows[chunk] = self._made(chunk)
        return found

    def carrier(self, limit: int, timeout_s: float, owner: CarrierOwner) -> Carrier:
        return ColumnsPool(self, min(limit, MOST_CONNECTIONS), timeout_s, owner)

    def _made(self, chunk: bytes) -> Row:
        if self._item_bytes:
            return Row(0, len(chunk) // self._item_bytes, (chunk,))
        _, steps, count = HEADER.unpack_from(chunk)
        middle = HEADER.size + 2 * count
        return Row(steps, count, (chunk[HEADER.size : middle], chunk[middle:]))


class ColumnsPool(SocketPool):
    """The connections of all streams.

    Args:
        target: the server.
        limit: the most connections.
        timeout_s: time limit of one chunk.
        owner: receives the outcomes.
    """

    def __init__(self, target: ColumnsTarget, limit: int, timeout_s: float, owner: CarrierOwner) -> None:
        super().__init__(target.address, timeout_s, owner)
        self._target = target
        self._hubs: list[Hub | None] = [None] * limit
        self._changed = asyncio.Event()  # a hub is ready, or has opened its sessions

    @property
    def size(self) -> int:
        """Open connections."""
        return sum(hub is not None and hub.is_open for hub in self._hubs)

    async def open(self, streams: Sequence[LoadStream]) -> None:
        """Open the connections, and the sessions of all streams.

        Raises:
            ServiceUnreachable: a connection fails.
        """
        try:
            for index in range(min(len(self._hubs), len(streams))):
                await self._create(self._made(index))
        except OSError as error:
            raise ServiceUnreachable(UNREACHABLE.format(self._target.address.url, error)) from error
        await self._until(lambda: all(hub is None or hub.is_ready for hub in self._hubs))
        for stream in streams:
            if (hub := self._hub(stream)) is not None:
                hub.handle(stream)
        for hub in self._hubs:
            if hub is not None and hub.is_ready:
                self._flush(hub)
        await self._until(lambda: all(hub is None or not hub.unopened for hub in self._hubs))

    def send(self, job: Job) -> None:
        if job.stream is None:
            self._deletions.send(job)
            return
        self._under_way += 1
        job.queued_s = time.perf_counter()
        index = job.stream.index % len(self._hubs)
        hub = self._hubs[index]
        if hub is None:
            hub = self._made(index)
            self._open_later(self._connect_later(hub))
        hub.pending.append(job)
        if not hub.is_ready:
            self.waits += 1
        elif hub.timer is None and len(hub.frames) < MOST_FRAMES:
            hub.timer = asyncio.get_running_loop().call_later(GATHER_S, self._flush, hub)

    def sweep(self, now_s: float) -> None:
        """Fail the chunks that have taken longer than the timeout. Call it a few times a second."""
        overdue_s = now_s - self._timeout_s
        for hub in self._hubs:
            oldest = None if hub is None else next((job for job in self._jobs(hub) if job is not None), None)
            if hub is not None and oldest is not None and oldest.queued_s < overdue_s:
                self._fail(hub, "timeout")
                hub.abort()
        self._deletions.sweep(now_s)

    def abandon(self) -> list[Job]:
        """Close all connections. The jobs that have no outcome yet."""
        jobs = self._deletions.abandon()
        for hub in self._hubs:
            if hub is not None:
                jobs += [job for job in self._jobs(hub) if job is not None]
                self._drop(hub)
                hub.abort()
        self._under_way = 0
        return jobs

    async def close(self) -> None:
        await self._stop_opening()
        for hub in self._hubs:
            if hub is not None:
                self._drop(hub)
                hub.abort()
        await self._deletions.close()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    # hubs call these

    def received(self, socket: WebSocket, opcode: int, content: bytes) -> None:  # noqa: ARG002
        assert isinstance(socket, Hub)
        if content.startswith(RESULTS):
            self._results(socket, content)
        elif content.startswith(OPENED):
            answer = unpack_opened(content)
            socket.unopened -= len(answer.handle)
            for row in np.flatnonzero(answer.status != APPLIED).tolist():
                retry_after_s = answer.more.get(row, {}).get("retry_after_s")
                socket.failures[int(answer.handle[row])] = Response(int(answer.status[row]), b"", retry_after_s)
            self._changed.set()
        elif content.startswith(BEGIN):
            socket.is_ready = True
            self._changed.set()
            if socket.pending:
                self._flush(socket)
        # an Error is followed by the end of the connection

    def refused(self, socket: WebSocket, response: Response) -> None:
        assert isinstance(socket, Hub)
        self._fail(socket, f"status {response.status}")

    def closed(self, socket: WebSocket) -> None:
        assert isinstance(socket, Hub)
        self._changed.set()
        if not self._is_closed:
            self._fail(socket, "connection lost")

    def _results(self, hub: Hub, content: bytes) -> None:
        now_s = time.perf_counter()
        jobs, answer = hub.frames.popleft(), unpack_results(content)
        self._under_way -= sum(job is not None for job in jobs)
        answered = self._owner.answered
        handles = hub.handles
        for row, (job, status) in enumerate(zip(jobs, answer.status.tolist(), strict=True)):
            if job is None:
                continue
            stream = job.stream
            assert stream is not None
            if status == APPLIED:
                if stream.is_last_sent:
                    del handles[stream.index]
                    answered(job, DONE, now_s)
                    if not self._is_closed:
                        hub.handle(stream)
                else:
                    answered(job, DONE, now_s)
                continue
            response = hub.failures.pop(int(answer.handle[row]), None)
            if response is not None:
                handles.pop(stream.index, None)
            else:
                response = Response(status, b"", answer.more.get(row, {}).get("retry_after_s"))
            answered(job, response, now_s)
        if hub.timer is None and hub.pending:
            self._flush(hub)

    def _flush(self, hub: Hub) -> None:
        """Send what is due."""
        if hub.timer is not None:
            hub.timer.cancel()
            hub.timer = None
        now_s = time.perf_counter()
        jobs: list[Job | None] = list(hub.pending[:MOST_ROWS])
        del hub.pending[:MOST_ROWS]
        rows, handles, numbers, actions = [], [], [], []
        for job in jobs:
            assert job is not None
            stream = job.stream
            assert stream is not None
            job.sent_s = now_s
            rows.append(self._target.row(job.request))
            handles.append(hub.handle(stream))
            numbers.append(stream.seq)
            actions.append(END if stream.is_last_sent else CHUNK)
        frames = []
        for begin in range(0, len(hub.openings), MOST_ROWS):
            some = hub.openings[begin : begin + MOST_ROWS]
            frames.append(masked(BINARY, pack_sessions([handle for handle, _ in some], [name for _, name in some])))
        hub.unopened += len(hub.openings)
        hub.openings.clear()
        leaving, hub.leavings = hub.leavings, []
        if jobs or leaving:
            count = len(leaving)
            empty = [0] * count
            content = b"".join(b"".join(column) for column in zip(*(row.parts for row in rows), strict=True))
            frame = pack_chunks(
                handles + leaving,
                numbers + empty,
                [row.items for row in rows] + empty,
                content,
                [row.steps for row in rows] + empty,
                actions + [LEAVE] * count,
            )
            frames.append(masked(BINARY, frame))
            hub.frames.append(jobs + [None] * count)
        hub.send(b"".join(frames))

    @staticmethod
    def _jobs(hub: Hub) -> list[Job | None]:
        """All that have no outcome, in order."""
        return [*(job for frame in hub.frames for job in frame), *hub.pending]

    def _fail(self, hub: Hub, error: str) -> None:
        """All chunks of a connection have failed."""
        jobs = self._jobs(hub)
        self._drop(hub)
        now_s = time.perf_counter()
        for job in jobs:
            if job is not None:
                self._under_way -= 1
                self._owner.failed(job, error, now_s)

    def _drop(self, hub: Hub) -> None:
        """Forget a connection."""
        if hub.timer is not None:
            hub.timer.cancel()
            hub.timer = None
        hub.pending.clear()
        hub.frames.clear()
        if hub in self._hubs:
            self._hubs[self._hubs.index(hub)] = None

    def _hub(self, stream: LoadStream) -> Hub | None:
        return self._hubs[stream.index % len(self._hubs)]

    def _made(self, index: int) -> Hub:
        hub = self._hubs[index] = Hub(self, self._target.handshake())
        return hub

    async def _connect_later(self, hub: Hub) -> None:
        try:
            await self._create(hub)
        except OSError:
            self._fail(hub, "cannot connect")

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait for the answers to an opening, no longer than for a connection."""
        deadline_s = time.perf_counter() + CONNECT_TIMEOUT_S
        while not is_so() and (left_s := deadline_s - time.perf_counter()) > 0:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
