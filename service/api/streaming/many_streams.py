"""The sessions of ``WS /streams``: opens them for connections, and passes their chunks to the ingress."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hetsyn_client.columns import (
    APPLIED,
    BEGUN,
    END,
    ENDED,
    LEAVE,
    NEW,
    Opened,
)
from service.admission.budget import Ledger
from service.admission.turns import on_thread
from service.api.streaming.frame_results import FrameResults
from service.api.streaming.streams import Streams
from service.errors import HetsynError, InputError, ModelMismatch, NotFound, SessionEnded, SessionTaken
from service.ingress import AT_A_TIME, Source
from service.live.actions import Opening
from service.live.many import Offer
from service.live.many_query import ManyQuery
from service.live.query import StreamQuery
from service.problem import Problem
from service.settings import Limits
from service.wire.many_frames import Chunks, Sessions, pack_opened
from service.wire.schema import SESSION_ID, InferRequest, Parameters

IDS_A_SESSION = 4  # handles of a server for each open session that it may have: a store has further ones
OPENED_AT_A_TIME = 64
DECODE_IN_LOOP_BYTES = 1024 * 1024  # array operations decode a frame of this size in a millisecond

REQUEST = "WS /streams"

_new = tuple.__new__  # makes a value twice as fast as its class
_is_id = re.compile(SESSION_ID.removesuffix("$")).fullmatch  # $ would accept a line end


class Connection(Protocol):
    """The WebSocket that owns sessions."""

    def drain(self) -> None:
        """Finish the work that has come, and end the connection."""

    async def drained(self) -> None:
        """Wait until ``drain`` is done."""

    def cut(self) -> None:
        """End the connection, although work is under way."""


class HeldSession:
    """A session that a connection streams, under its own handle.

    Attributes:
        named: model and version that its chunks name.
        is_taken: another connection streams it now.
    """

    __slots__ = ("_connection", "id", "is_taken", "named")

    def __init__(self, session_id: str, named: tuple[str | None, str | None], connection: Connection) -> None:
        self.id = session_id
        self.named = named
        self.is_taken = False
        self._connection = connection

    def taken(self) -> None:
        self.is_taken = True

    def drain(self) -> None:
        self._connection.drain()

    async def drained(self) -> None:
        await self._connection.drained()

    def cut(self) -> None:
        self._connection.cut()


class ManyStreams:
    """The part that all connections of a server share. Used from one event loop.

    Attributes:
        handles: counts the handles of all connections by client.
    """

    def __init__(self, streams: Streams, limits: Limits) -> None:
        self.streams = streams
        most = IDS_A_SESSION * limits.max_sessions
        self.max_handles = max(1, int(most * limits.client_share))
        own = "{} sessions of this client are open on connections"
        advice = "let the connections leave some"
        full, share_full = (
            f"{own}, and the server has no place for more: {advice}",
            f"{own}, as many as may be: {advice}",
        )
        self.handles = Ledger(most, self.max_handles, full, share_full)


class ConnectionSessions:
    """The sessions of one connection.

    Args:
        client: the connection's client (``budget.client_of``).
    """

    def __init__(self, many: ManyStreams, connection: Connection, query: ManyQuery, client: str) -> None:
        self._many = many
        self._streams = many.streams
        self._ingress = many.streams.ingress
        self._source = Source(REQUEST, "streams", client)
        self._connection = connection
        self._client = client
        session = self._streams.offer(query.one.probe())
        manifest = session.model.manifest
        # a reload meanwhile must not change what the client is told
        self._asked = query
        self._query = query.named(manifest.name, manifest.version)
        self._more = self._query.envelope[6:]
        self._decoder = query.decoder
        self._labels = {label: index for index, label in enumerate(manifest.labels)}
        self._outputs = 0 if manifest.decision.rule == "trace" else manifest.outputs
        self._held: dict[int, HeldSession] = {}
        self._is_released = False
        self.offer = Offer(manifest.name, manifest.version, manifest.labels, manifest.input.step_s, many.max_handles)

    @property
    def item_bytes(self) -> int:
        return self._decoder.item_bytes

    def release(self) -> None:
        """Release all sessions: nothing more is streamed."""
        self._is_released = True
        for held in self._held.values():
            self._streams.leave(held.id, held)
        self._many.handles.give(self._client, len(self._held))
        self._held = {}

    async def open(self, sessions: Sessions) -> bytes:
        """Open sessions, and return the frame with the outcomes."""
        opened: list[tuple[int, int, int, int] | Problem] = []
        for first in range(0, len(sessions.handles), OPENED_AT_A_TIME):
            some = slice(first, first + OPENED_AT_A_TIME)
            handles = sessions.handles[some]
            await self._ingress.round_turn(self._client, len(handles), is_begun=first > 0)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._open(handle, name, sessions.resume))
                    for handle, name in zip(handles, sessions.ids[some], strict=True)
                ]
            opened += [task.result() for task in tasks]
        rows = [(0, 0, row.status, NEW) if isinstance(row, Problem) else row for row in opened]
        table = np.array(rows, np.uint64).reshape(len(rows), 4).T
        more = {index: row.row() for index, row in enumerate(opened) if isinstance(row, Problem)}
        return pack_opened(Opened(table[0], table[1], np.array(sessions.handles, np.uint32), table[2], table[3], more))

    async def apply(self, chunks: Chunks) -> tuple[bytes, int]:
        """Apply chunks, each to its session. Returns the frame of the results, and the number of applied chunks."""
        came_s = time.perf_counter()
        await self._ingress.round_turn(self._client, len(chunks.seq), is_begun=False)
        if len(chunks.content) <= DECODE_IN_LOOP_BYTES:
            decoded = self._decoder.decode(chunks)
        else:
            decoded = await on_thread(self._decoder.decode, chunks)
        results = FrameResults(chunks, self._outputs, self._labels)
        requests: list[InferRequest] = []
        rows: list[int] = []
        others: list[tuple[int, InputError | None]] = []  # rows without a chunk to apply
        handles, actions = chunks.handle.tolist(), chunks.action.tolist()
        columns = map(self._held.get, handles), chunks.seq.tolist(), actions
        more = self._more
        for row, held, seq, action, chunk, of_content in zip(range(len(actions)), *columns, *decoded, strict=True):
            if held is not None and action <= END and not (held.is_taken or isinstance(chunk, InputError)):
                envelope = _new(Parameters, (held.id, *held.named, seq, False, action == END, *more))
                requests.append(_new(InferRequest, (envelope, chunk, of_content, False, None, "", None, None)))
                rows.append(row)
            else:
                others.append((row, chunk if isinstance(chunk, InputError) else None))
        del decoded
        if requests:
            await self._apply(rows, requests, results, came_s)
        for number, (row, error) in enumerate(others, 1):  # last, so that a frame that waits holds no refusals
            try:
                self._of_no_chunk(handles[row], actions[row], error)
                results.set(row, None)
            except Exception as refused:
                results.set(row, self._ingress.refused(refused, REQUEST))
                if not number % AT_A_TIME:
                    await self._ingress.round_turn(self._client, AT_A_TIME)
        if END in actions:
            for row, (handle, action) in enumerate(zip(handles, actions, strict=True)):
                if action == END and results.is_applied(row):
                    self._forget(handle)
        return results.packed(), results.applied

    async def _apply(
        self, rows: Sequence[int], requests: Sequence[InferRequest], results: FrameResults, came_s: float
    ) -> None:
        """Apply the chunks of these rows of a frame that was complete at ``came_s``."""
        try:
            outcomes = await self._ingress.apply_frame(self._source, requests, came_s)
        except HetsynError as error:  # there is no room for the frame
            for number, row in enumerate(rows, 1):
                results.set(row, self._ingress.refused(error, REQUEST))
                if not number % AT_A_TIME:
                    await self._ingress.round_turn(self._client, AT_A_TIME)
            return
        results.set_all(rows, outcomes)

    async def _open(self, handle: int, name: str, resume: bool) -> tuple[int, int, int, int] | Problem:
        """Open a session. Returns the number of its next chunk, its steps, the status and its state; or the refusal."""
        if self._is_released:  # a task may begin or go on before its cancellation reaches it
            raise asyncio.CancelledError
        try:
            if handle in self._held:
                raise InputError(f"handle {handle} has a session: leave it first, or choose another handle")
            if not _is_id(name):
                raise InputError(f"{name!r} is no id: send 1 to 128 letters, digits and . _ ~ : -")
            self._many.handles.take(self._client)
            query = self._query.of_session(name, resume)
            held = self._held[handle] = HeldSession(query.session, query.envelope[1:3], self._connection)
            try:
                return await self._opened(query, held)
            except BaseException:
                self._forget(handle)
                raise
            finally:
                if self._is_released:
                    self._streams.leave(held.id, held)
        except Exception as error:
            return self._ingress.refused(error, REQUEST)

    async def _opened(self, query: StreamQuery, held: HeldSession) -> tuple[int, int, int, int]:
        try:
            opening = await self._opened_as_named(query, held)
        except SessionEnded:
            described = await self._streams.describe(held.id, self._client)
            return described["expected_seq"], described["total_steps"], APPLIED, ENDED
        return opening.next_seq, opening.total_steps, APPLIED, BEGUN if opening.resumed else NEW

    async def _opened_as_named(self, query: StreamQuery, held: HeldSession) -> Opening:
        try:
            return await self._streams.open(query, held, self._client)
        except ModelMismatch:
            named = self._asked.envelope[1:3]
            if named == held.named:
                raise
            # it began before a reload, and the client chose no version: it stays on its own, if that says the same
            held.named = named
            query = query._replace(envelope=query.envelope._replace(model=named[0], version=named[1]))
            opening = await self._streams.open(query, held, self._client)
            if tuple(opening.labels) != tuple(self._labels):
                raise
            return opening

    def _of_no_chunk(self, handle: int, action: int, error: InputError | None) -> None:
        """Leave the session of a row, or raise the reason why the row has no chunk to apply.

        Args:
            error: of the row's content.
        """
        held = self._held.get(handle)
        if held is None:
            raise NotFound(f"handle {handle} has no session on this connection: open one first")
        if action == LEAVE:
            self._forget(handle)
            return
        if held.is_taken:
            self._forget(handle)
            raise SessionTaken("another connection streams this session now: send on there, or open it again")
        if error is not None:
            raise error

    def _forget(self, handle: int) -> None:
        held = self._held.pop(handle, None)
        if held is not None:
            self._streams.leave(held.id, held)
            self._many.handles.give(self._client)
