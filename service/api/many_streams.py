"""The sessions of ``WS /streams``: opens them for connections, and hands their chunks to the ingress."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np

from hetsyn_client.columns import (
    APPLIED,
    BEGUN,
    DELETE,
    END,
    ENDED,
    LEAVE,
    NEW,
    Chunks,
    Opened,
    Sessions,
    pack_opened,
)
from service.admission.budget import Ledger
from service.admission.turns import on_thread
from service.api.frame_results import FrameResults
from service.api.stream_rows import StreamRows
from service.api.streams import Streams
from service.errors import HetsynError, InputError, NotFound, SessionEnded, SessionTaken
from service.ingress import Arrived, Encoded, Source
from service.live.many import Offer
from service.live.many_query import ManyQuery
from service.live.query import StreamQuery
from service.observe.watch import Watch
from service.problem import Problem
from service.registry.rows import Rows, next_round
from service.settings import Limits
from service.wire.chunk import digest
from service.wire.columns import DecodedFrame
from service.wire.encodings import SoundLimit
from service.wire.schema import SESSION_ID, InferRequest

IDS_A_SESSION = 4  # handles of a server for each session that it may have open: with a store, others are there too
OPENED_AT_A_TIME = 64
DECODE_IN_LOOP_BYTES = 1024 * 1024  # a frame is decoded by array operations: this takes a millisecond

REQUEST = "WS /streams"

T = TypeVar("T")
_is_id = re.compile(SESSION_ID.removesuffix("$")).fullmatch  # $ would let a line end pass


class Connection(Protocol):
    """Whose sessions these are."""

    def drain(self) -> None:
        """Finish what has come, and end the connection."""

    async def drained(self) -> None:
        """Wait until that is done."""


class HeldSession:
    """A session that a connection streams, under a handle of its own.

    Args:
        session_id: of the session.
        connection: that streams it.

    Attributes:
        id: of the session.
        is_taken: another connection streams it now.
    """

    __slots__ = ("_connection", "id", "is_taken")

    def __init__(self, session_id: str, connection: Connection) -> None:
        self.id = session_id
        self.is_taken = False
        self._connection = connection

    def taken(self) -> None:
        self.is_taken = True

    def drain(self) -> None:
        self._connection.drain()

    async def drained(self) -> None:
        await self._connection.drained()


class ManyStreams:
    """What the connections of a server share. Used from one event loop.

    Args:
        streams: open sessions and apply chunks.
        limits: of sessions.

    Attributes:
        streams: see above.
        rows: of the connections of ``/stream``.
        handles: of all connections, by client.
        max_handles: of one client.
    """

    def __init__(self, streams: Streams, limits: Limits) -> None:
        self.streams = streams
        self.rows = StreamRows(streams.ingress, streams.counters.timings)
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
        many: of all connections.
        connection: whose sessions they are.
        query: of the client.
        client: at the other end (``budget.client_of``).
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
        # a model that is reloaded meanwhile shall not change what the client is told
        self._query = query.named(manifest.name, manifest.version)
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
        """Stream nothing more."""
        self._is_released = True
        for held in self._held.values():
            self._streams.leave(held.id, held)
        self._many.handles.give(self._client, len(self._held))
        self._held = {}

    async def open(self, sessions: Sessions) -> bytes:
        """Open sessions, and return the frame that says so."""
        opened = await _gathered(
            (
                self._open(handle, name, sessions.resume)
                for handle, name in zip(sessions.handles, sessions.ids, strict=True)
            ),
            OPENED_AT_A_TIME,
        )
        rows = [(0, 0, row.status, NEW) if isinstance(row, Problem) else row for row in opened]
        table = np.array(rows, np.uint64).reshape(len(rows), 4).T
        more = {index: row.row() for index, row in enumerate(opened) if isinstance(row, Problem)}
        handles = np.array(sessions.handles, np.uint32)
        return pack_opened(Opened(table[0], table[1], handles, table[2], table[3], more))

    async def apply(self, chunks: Chunks) -> tuple[bytes, int]:
        """Apply chunks, each to its session.

        Returns:
            The frame of the results, and the number of those that were applied.
        """
        came_s = time.perf_counter()
        if len(chunks.content) <= DECODE_IN_LOOP_BYTES:
            decoded = self._decoder.decode(chunks)
        else:
            decoded = await on_thread(self._decoder.decode, chunks)
        results = FrameResults(chunks, self._outputs, self._labels)
        handles, seq = chunks.handle.tolist(), chunks.seq.tolist()
        try:
            if self._ingress.max_rows:
                await self._apply_rows(handles, seq, decoded, results, came_s)
        except HetsynError as error:  # of chunks that have no place; what leaves and ends sessions needs no such place
            for row in results.missing():
                if decoded.is_valid[row]:
                    results.set(row, self._ingress.refused(error, REQUEST))
        if missing := results.missing():
            actions = chunks.action.tolist()
            await self._apply_each([(row, handles[row], seq[row], actions[row]) for row in missing], decoded, results)
        return results.packed(), results.applied

    async def _apply_rows(
        self, handles: Sequence[int], seq: Sequence[int], decoded: DecodedFrame, results: FrameResults, came_s: float
    ) -> None:
        most = self._ingress.max_rows
        valid = [number for number, is_valid in enumerate(decoded.is_valid) if is_valid]
        for begin in range(0, len(valid), most):
            if begin:
                await next_round()  # others have their turn between two batches
            part = valid[begin : begin + most]
            rows = partial(self._held_rows, part, handles, seq, decoded)
            watch = Watch(came_s)
            applied = await self._ingress.apply_rows(self._source, self._query.envelope, rows, watch)
            if applied is not None:
                results.set_rows(applied)
                self._streams.counters.timings.applied("streams", self.offer.model, watch, len(applied.numbers))

    def _held_rows(
        self, numbers: Sequence[int], handles: Sequence[int], seq: Sequence[int], decoded: DecodedFrame
    ) -> Rows:
        """Those rows of a frame whose sessions are streamed here now."""
        rows = Rows([], [], [], decoded)
        for number in numbers:
            held = self._held.get(handles[number])
            if held is not None and not held.is_taken:
                rows.sessions.append(held.id)
                rows.seq.append(seq[number])
                rows.numbers.append(number)
        return rows

    async def _open(self, handle: int, name: str, resume: bool) -> tuple[int, int, int, int] | Problem:
        """Open a session.

        Returns:
            The number of its next chunk, its steps, the status and the session's state; or why it was refused.
        """
        if self._is_released:  # a task may begin, or go on, before its cancellation reaches it
            raise asyncio.CancelledError
        try:
            if handle in self._held:
                raise InputError(f"handle {handle} has a session: leave it first, or choose another handle")
            if not _is_id(name):
                raise InputError(f"{name!r} is no id: send 1 to 128 letters, digits and . _ ~ : -")
            self._many.handles.take(self._client)
            query = self._query.of_session(name, resume)
            held = self._held[handle] = HeldSession(query.session, self._connection)
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
            opening = await self._streams.open(query, held, self._client)
        except SessionEnded:
            described = await self._streams.describe(held.id, self._client)
            return described["expected_seq"], described["total_steps"], APPLIED, ENDED
        return opening.next_seq, opening.total_steps, APPLIED, BEGUN if opening.resumed else NEW

    async def _apply_each(
        self, rows: Sequence[tuple[int, int, int, int]], decoded: DecodedFrame, results: FrameResults
    ) -> None:
        """Do what each row asks for.

        Args:
            rows: their numbers in the frame, handles, numbers of chunks, and actions.
            decoded: the frame.
            results: of the frame.
        """
        chunks: list[Arrived] = []
        applied: list[tuple[int, int, int]] = []
        deleted: list[tuple[int, str]] = []
        for row, handle, seq, action in rows:
            try:
                held = self._held_now(handle, action)
                if held is None:
                    results.set(row, None)
                elif action == DELETE:
                    deleted.append((row, held.id))
                else:
                    chunks.append((self._source, Encoded(0, partial(self._request, held, seq, action, decoded, row))))
                    applied.append((row, handle, action))
            except Exception as error:
                results.set(row, self._ingress.refused(error, REQUEST))
        for (row, handle, action), outcome in zip(applied, await self._ingress.apply(chunks), strict=True):
            if isinstance(outcome, Problem):
                results.set(row, outcome)
                continue
            if action == END:
                self._forget(handle)
            results.set(row, outcome.reply)
        refusals = await _gathered((self._delete(session_id) for _, session_id in deleted), max(1, len(deleted)))
        for (row, _), refused in zip(deleted, refusals, strict=True):
            results.set(row, refused)

    async def _delete(self, session_id: str) -> Problem | None:
        try:
            await self._streams.delete(session_id, self._client)
        except Exception as error:
            return self._ingress.refused(error, REQUEST)
        return None

    def _held_now(self, handle: int, action: int) -> HeldSession | None:
        """The session of a row; None if the row leaves it.

        Raises:
            NotFound, SessionTaken: there is none.
        """
        held = self._held.get(handle)
        if held is None:
            raise NotFound(f"handle {handle} has no session on this connection: open one first")
        if action == LEAVE:
            self._forget(handle)
            return None
        if held.is_taken:
            self._forget(handle)
            raise SessionTaken("another connection streams this session now: send on there, or open it again")
        return held

    def _request(
        self, held: HeldSession, seq: int, action: int, decoded: DecodedFrame, row: int, _: SoundLimit
    ) -> InferRequest:
        chunk = decoded.chunk(row)
        if isinstance(chunk, InputError):
            raise chunk
        end = action == END
        envelope = self._query.envelope.model_copy(update={"session": held.id, "seq": seq, "end": end})
        return InferRequest(envelope, chunk, digest(chunk, end))

    def _forget(self, handle: int) -> None:
        held = self._held.pop(handle, None)
        if held is not None:
            self._streams.leave(held.id, held)
            self._many.handles.give(self._client)


async def _gathered(works: Iterator[Coroutine[Any, Any, T]], at_a_time: int) -> list[T]:
    """The results of works; if the caller is cancelled, all that are under way are cancelled, and are awaited."""
    results: list[T] = []
    while some := list(islice(works, at_a_time)):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in some]
        results += [task.result() for task in tasks]
    return results
