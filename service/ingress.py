"""The one way in: every interface hands over the chunks that have arrived, and makes bytes of their outcomes.

Here is all that they have in common: a permit, decoding, the owner, the session, and what becomes of an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from math import inf
from typing import NamedTuple

from service.admission.permits import Admission, Permit
from service.admission.presence import Presence
from service.admission.turns import Turns, on_thread
from service.admission.uploads import FREE_BYTES, ClientDisconnect, Upload, Uploads
from service.batching.batcher import Batcher
from service.carried.sessions import CarriedSessions
from service.errors import HetsynError
from service.keys.caller import ANYBODY, Caller
from service.observe.counters import Counters
from service.observe.timings import Transport
from service.observe.watch import Watch
from service.problem import Problem
from service.registry.registry import SessionRegistry
from service.registry.rows import AppliedRows, Rows, RowSessions
from service.settings import Limits
from service.wire.answer import Answer
from service.wire.chunk import Chunk, chunk_bytes
from service.wire.encodings import SoundLimit, TakesLong
from service.wire.schema import Envelope, InferRequest

LARGE_DECODES = 2  # inputs beyond ``FREE_BYTES`` that are decoded at the same time, on threads
ROW_BATCHES = 2  # that are under way: while one is on a thread, the next is prepared
MOST_GROWTH = 4  # bytes in memory for a byte of input, which need no room of their own: that of mu-law and of events
SMALL_BYTES = FREE_BYTES // 16  # which take no more than ``FREE_BYTES`` in memory, whatever they are
IN_LOOP = SoundLimit(may_take_long=False)
WAITING: tuple[Transport, ...] = ("stream", "streams")  # a chunk of a stream waits for a permit

Outcome = Answer | Problem
Decode = Callable[[SoundLimit], InferRequest]


class Source(NamedTuple):
    """Where a chunk comes from.

    Attributes:
        request: as which the log names it.
        transport: by which it came.
        client: whose share of the limits it takes.
        caller: who owns the session. A stream's query names the owner already.
        presence: of the client; None where its connection cancels the work.
        decoding: a lock under which its chunks are decoded, so that a small one does not overtake a large one.
    """

    request: str
    transport: Transport
    client: str
    caller: Caller = ANYBODY
    presence: Presence | None = None
    decoding: AbstractAsyncContextManager[object] | None = None


class Encoded:
    """The bytes of a chunk.

    Args:
        size: bytes.
        decode: makes the request of them; on a thread if they are many, or if it raises ``TakesLong``.
        upload: counts what they take in memory; None where they are small, or count elsewhere.

    Attributes:
        size: see above.
        decode: see above; deleted when it is done, so that the bytes take no memory while the chunk waits for its turn.
        upload: see above.
        came_s: when they were complete, in seconds of ``time.perf_counter``.
    """

    __slots__ = ("came_s", "decode", "size", "upload")

    def __init__(self, size: int, decode: Decode, upload: Upload | None = None) -> None:
        self.size = size
        self.upload = upload
        self.came_s = time.perf_counter()
        self.decode = decode


Arrived = tuple[Source, Encoded]


class Ingress:
    """See above. Used from one event loop.

    Args:
        registry: applies the chunks of sessions that the server stores.
        carried: applies the chunks of sessions that the client carries.
        batcher: says when a batch of rows may run.
        rows: apply such a batch; None where sessions are in a store.
        admission: permits for requests in flight.
        uploads: bytes of requests.
        counters: count what is refused.
        limits: of chunks.
        longest_step_s: length of a step of the model with the longest steps.

    Attributes:
        registry: see above.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        carried: CarriedSessions,
        batcher: Batcher,
        rows: RowSessions | None,
        admission: Admission,
        uploads: Uploads,
        counters: Counters,
        limits: Limits,
        longest_step_s: Callable[[], float],
    ) -> None:
        self.registry = registry
        self._carried = carried
        self._batcher = batcher
        self._rows = rows
        self._admission = admission
        self._uploads = uploads
        self._counters = counters
        self._queue_timeout_s = limits.queue_timeout_s
        self._max_chunk_steps = limits.max_chunk_steps
        self._longest_step_s = longest_step_s
        self._large_decodes = Turns(LARGE_DECODES)
        self._row_turns = Turns(ROW_BATCHES)
        # A stream whose chunk finds no permit waits. So chunks take as many permits as one client may have.
        self._stream_turns = Turns(max(1, int(limits.max_waiting * limits.client_share)))

    def arriving(self, client: str) -> Upload:
        """The body of a request: a context that counts its bytes until its answer."""
        return Upload(self._uploads, client)

    async def apply(self, chunks: Sequence[Arrived]) -> list[Outcome]:
        """Apply chunks, each to its session. Those of one session are applied in this order.

        Returns:
            The answer to each, or why it was refused.

        Raises:
            ClientDisconnect: the client of the only chunk has gone. Nothing was applied.
        """
        if len(chunks) == 1:
            return [await self._outcome(*chunks[0])]
        async with asyncio.TaskGroup() as group:  # cancelled, it cancels them and awaits them
            tasks = [group.create_task(self._outcome(*chunk)) for chunk in chunks]
        return [task.result() for task in tasks]

    @property
    def max_rows(self) -> int:
        """Most rows of a call of ``apply_rows``; 0 where it applies none."""
        return 0 if self._rows is None or not self._batcher.runs_rows else self._rows.max_batch

    async def apply_rows(
        self, source: Source, envelope: Envelope, rows: Callable[[], Rows], watch: Watch
    ) -> AppliedRows | None:
        """As ``RowSessions.apply``, when it is the client's turn. Rows and the chunks of requests take turns, too.

        Args:
            source: of all rows.
            envelope: as there.
            rows: called then, because a session may have been taken meanwhile.
            watch: of their time.

        Raises:
            Overloaded, ShuttingDown: as ``permit``.
        """
        assert self._rows is not None
        async with self.permit(source.client, source.transport, self._row_turns) as permit:
            await self._batcher.turn(permit.due_s)
            chosen = rows()
            return await self._rows.apply(envelope, chosen, watch) if chosen.numbers else None

    @asynccontextmanager
    async def permit(
        self, client: str, transport: Transport = "stream", turns: Turns | None = None
    ) -> AsyncIterator[Permit]:
        """A permit for work of a stream, which waits for it; a context.

        Args:
            client: whose work it is.
            transport: by which it came.
            turns: at which clients take turns; by default those of all streams.

        Raises:
            Overloaded, ShuttingDown: as ``Admission.permit``; or the turn did not come in time.
        """
        due_s = time.monotonic() + self._queue_timeout_s
        async with (turns or self._stream_turns).turn(client, due_s):
            with self._admission.permit(client, transport) as permit:
                permit.due_s = min(permit.due_s, due_s)  # the wait for the turn counts
                yield permit

    @contextmanager
    def visit(self, client: str, presence: Presence) -> Iterator[Permit]:
        """A permit for a request that is no chunk; a context in which the client is there.

        Raises:
            Overloaded, ShuttingDown: as ``Admission.permit``.
            ClientDisconnect: the client has gone.
        """
        with self._admission.permit(client) as permit, presence:
            yield permit

    def check(self, client: str) -> None:
        """As ``Admission.check``."""
        self._admission.check(client)

    def refused(self, error: Exception, request: str) -> Problem:
        """Count and report an error of a chunk or of any other request.

        Args:
            error: one that no code foresaw is a defect.
            request: as which the log names it.
        """
        if isinstance(error, HetsynError):
            self._counters.refused(error)
        return Problem.of(error, request)

    async def _outcome(self, source: Source, encoded: Encoded) -> Outcome:
        try:
            if source.transport in WAITING:
                due_s = time.monotonic() + self._queue_timeout_s
                async with self._stream_turns.turn(source.client, due_s):
                    return await self._applied(source, encoded, due_s)
            return await self._applied(source, encoded)
        except ClientDisconnect:
            raise
        except Exception as error:
            return self.refused(error, source.request)

    async def _applied(self, source: Source, encoded: Encoded, due_s: float = inf) -> Answer:
        with self._admission.permit(source.client, source.transport) as permit:
            permit.came_s, permit.due_s = encoded.came_s, min(permit.due_s, due_s)
            if source.decoding is None:
                request = await self._decoded(source, encoded, permit)
            else:
                async with source.decoding:
                    request = await self._decoded(source, encoded, permit)
            del encoded.decode
            if request.timeout_s is not None:
                permit.due_s = min(permit.due_s, time.monotonic() + request.timeout_s)
            if source.caller.key:
                request = request._replace(owner=source.caller.key)
            sessions = self._carried if request.carry else self.registry
            if source.presence is None:
                return await sessions.infer(request, permit)
            with source.presence:
                return await sessions.infer(request, permit)

    async def _decoded(self, source: Source, encoded: Encoded, permit: Permit) -> InferRequest:
        if encoded.size <= FREE_BYTES:
            try:
                request = encoded.decode(IN_LOOP)
                return request if encoded.size <= SMALL_BYTES else self._counted(encoded, request)
            except TakesLong:
                pass
        async with self._large_decodes.turn(source.client, permit.due_s):
            if source.presence is not None:
                source.presence.check()
            limit = SoundLimit(self._max_chunk_steps * self._longest_step_s())
            return self._counted(encoded, await on_thread(encoded.decode, limit))

    def _counted(self, encoded: Encoded, request: InferRequest) -> InferRequest:
        """Count the memory of what was decoded.

        Raises:
            Overloaded: there is no room for it.
        """
        if encoded.upload is not None and (more := grown_bytes(request.chunk, encoded.size)):
            encoded.upload.take(more)
        return request


def grown_bytes(chunk: Chunk | None, encoded_bytes: int) -> int:
    """Bytes of an input beyond those that came; 0 where it is small, or has not grown more than most does."""
    if chunk is None or (count := chunk_bytes(chunk)) <= max(FREE_BYTES, MOST_GROWTH * encoded_bytes):
        return 0
    return count - encoded_bytes
