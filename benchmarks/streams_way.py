"""Carries the chunks of ``hetsyn bench`` over a few connections of ``/streams``."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import NamedTuple

import numpy as np
from aiohttp import ClientError, ClientWebSocketResponse, WSMsgType

from hetsyn_client.bodies import encoding_of
from hetsyn_client.columns import (
    APPLIED,
    CHUNK,
    END,
    OPENED,
    RESULTS,
    pack_chunks,
    pack_sessions,
    unpack_opened,
    unpack_results,
)
from hetsyn_client.events import HEADER
from hetsyn_client.loadtest.load import Load, Served
from hetsyn_client.loadtest.senders import LOST, TIMEOUT_S, Answer
from hetsyn_client.network.access import Access
from hetsyn_client.network.async_transport import AsyncTransport
from hetsyn_client.protocol.steps import Broken, Request, retry_after_s, target

GATHER_S = 0.01  # in which chunks for one frame are gathered
HUBS = 2  # connections


class StreamsWay:
    """Carries chunks to a server, over its interface for many sessions."""

    def __init__(self, access: Access, served: Served, load: Load) -> None:
        self._transport = AsyncTransport(access, TIMEOUT_S)
        self._served = served
        self._load = load
        self._hubs: list[Hub] = []

    def sender(self, stream: int) -> Hub:
        if stream < HUBS:
            self._hubs.append(Hub(self._transport, self._served, self._load))
        return self._hubs[stream % HUBS]

    async def drop(self, session: str) -> Answer:
        response = await self._transport.exchange(Request("DELETE", f"/sessions/{session}"))
        return Answer(response.status, retry_after_s(response.headers))

    async def close(self) -> None:
        for hub in self._hubs:
            await hub.close()
        await self._transport.close()


class Row(NamedTuple):
    """A chunk of a frame of ``/streams``."""

    session: str
    handle: int
    seq: int
    chunk: bytes
    is_last: bool
    answer: asyncio.Future[Answer]


class Hub:
    """Sends the sessions of many streams over a connection of ``/streams``.

    Chunks that fall due within ``GATHER_S`` go in one frame, and those that fall due while one is not answered, in the
    next. A chunk's latency counts from when it was due, so it contains this.
    """

    def __init__(self, transport: AsyncTransport, served: Served, load: Load) -> None:
        encoding = encoding_of(load.content_type)
        self._transport = transport
        self._target = target("/streams", {"model": served.name, **encoding})
        self._item_bytes = {"events": 0, "pcm_s16le": 2}.get(encoding["encoding"], 4 * served.row_values)
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._handles: dict[str, int] = {}  # by session
        self._numbers = count(1)
        self._opening: list[tuple[int, str]] = []
        self._pending: list[Row] = []
        self._is_due = asyncio.Event()

    async def begin(self, session: str) -> Answer:
        async with self._lock:
            if self._task is None or self._task.done():
                socket = await self._transport.open_socket(self._target)
                await socket.receive()  # Begin
                self._handles.clear()
                self._task = asyncio.create_task(self._carry(socket))
        self._handles[session] = next(self._numbers)
        self._opening.append((self._handles[session], session))
        self._is_due.set()
        return Answer(APPLIED)

    async def send(self, session: str, seq: int, chunk: bytes, *, is_last: bool) -> Answer:
        if session not in self._handles:
            await self.begin(session)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending.append(Row(session, self._handles[session], seq, chunk, is_last, answer))
        self._is_due.set()
        return await answer

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _carry(self, socket: ClientWebSocketResponse) -> None:
        """Send what is due, frame after frame, until the connection breaks."""
        rows: list[Row] = []
        try:
            while True:
                await self._is_due.wait()
                await asyncio.sleep(GATHER_S)
                self._is_due.clear()
                opening, self._opening = self._opening, []
                rows, self._pending = self._pending, []
                refusals: dict[int, Answer] = {}
                if opening:
                    handles, sessions = zip(*opening, strict=True)
                    await socket.send_bytes(pack_sessions(handles, sessions))
                    opened = unpack_opened(await self._frame(socket, OPENED))
                    for index in np.flatnonzero(opened.status != APPLIED).tolist():
                        more = opened.more.get(index, {})
                        refusals[handles[index]] = Answer(int(opened.status[index]), more.get("retry_after_s"))
                if rows:
                    await socket.send_bytes(self._chunks(rows))
                    found = unpack_results(await self._frame(socket, RESULTS))
                    for index, row in enumerate(rows):
                        more = found.more.get(index, {})
                        self._settle(row, Answer(int(found.status[index]), more.get("retry_after_s")), refusals)
                for handle in refusals:  # the next chunk opens the session again
                    self._handles = {session: known for session, known in self._handles.items() if known != handle}
        except (Broken, ClientError, OSError):
            pass
        finally:
            self._handles.clear()
            for row in rows + self._pending:
                if not row.answer.done():
                    row.answer.set_exception(LOST)
            self._pending.clear()
            await socket.close()

    def _settle(self, row: Row, answer: Answer, refusals: dict[int, Answer]) -> None:
        answer = refusals.get(row.handle, answer)
        if row.is_last and answer.status == APPLIED:
            self._handles.pop(row.session, None)
        if not row.answer.done():  # it may have timed out
            row.answer.set_result(answer)

    async def _frame(self, socket: ClientWebSocketResponse, name: bytes) -> bytes:
        """Read up to a frame of a name."""
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data.startswith(name):
                return bytes(message.data)
        raise LOST

    def _chunks(self, rows: list[Row]) -> bytes:
        """Write a frame of chunks."""
        steps = [0] * len(rows)
        if self._item_bytes:
            items, parts = [len(row.chunk) // self._item_bytes for row in rows], [row.chunk for row in rows]
        else:  # all times, then all units
            heads = [HEADER.unpack_from(row.chunk) for row in rows]
            steps, items = [head[1] for head in heads], [head[2] for head in heads]
            middles = [HEADER.size + 2 * events for events in items]
            parts = [row.chunk[HEADER.size : middle] for row, middle in zip(rows, middles, strict=True)]
            parts += [row.chunk[middle:] for row, middle in zip(rows, middles, strict=True)]
        actions = [END if row.is_last else CHUNK for row in rows]
        handles, numbers = [row.handle for row in rows], [row.seq for row in rows]
        return pack_chunks(handles, numbers, items, b"".join(parts), steps, actions)
