"""The one way in: interfaces pass on the chunks that have arrived, and encode the outcomes.

This module does all that interfaces share: permits, decoding, owners, sessions, and the reporting of errors.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple, cast

from service.admission.budget import Admission, Permit
from service.admission.turns import Turns, on_thread
from service.admission.uploads import FREE_BYTES, Upload, Uploads
from service.carried.sessions import CarriedSessions
from service.errors import HetsynError, ShuttingDown
from service.keys.caller import ANYBODY, Caller
from service.observe.context import SESSION, HasContext, Made
from service.observe.counters import Counters
from service.observe.timings import Transport
from service.problem import Problem
from service.registry.applying import Applying, NotApplied, Told, begin
from service.registry.registry import SessionRegistry
from service.session.session import Answer
from service.settings import Limits
from service.wire.chunk import Chunk, chunk_bytes
from service.wire.columns import decoded_together
from service.wire.schema import InferRequest
from service.wire.sound import SoundLimit, TakesLong

log = logging.getLogger("hetsyn.sessions")

LARGE_DECODES = 2  # inputs beyond ``FREE_BYTES`` that are decoded at the same time, on threads
MOST_GROWTH = 4  # bytes in memory for a byte of input that do not count extra: the growth of mu-law and of events
SMALL_BYTES = FREE_BYTES // 16  # any input of this size takes at most ``FREE_BYTES`` in memory
AT_A_TIME = 128  # limit of a frame's running chunks: while one batch runs, the next one waits
IN_LOOP = SoundLimit(may_take_long=False)
WAITING: tuple[Transport, ...] = ("stream", "streams")  # transports on which a chunk waits for a permit

Outcome = Answer | Problem
Decode = Callable[[SoundLimit], InferRequest]


class Source(NamedTuple):
    """The source of a chunk.

    Attributes:
        request: its name in the log.
        client: its limits count.
        caller: owns the session. A stream's query already names the owner.
        decoding: tasks that decode large chunks of its stream, and those of the chunks behind them, so that a small one
            does not overtake a large one.
    """

    request: str
    transport: Transport
    client: str
    caller: Caller = ANYBODY
    decoding: set[asyncio.Task[None]] | None = None


class PackedEvents(NamedTuple):
    """Packed events, which are decoded together with those of other chunks.

    Attributes:
        request: makes the request of the chunk and its digest; the chunk does not end its session.
    """

    content: bytes
    request: Callable[[Chunk, bytes], InferRequest]


@dataclass(slots=True, eq=False)
class Encoded:
    """The bytes of a chunk.

    Attributes:
        decode: makes the request of them; on a thread if they are many, or if it raises ``TakesLong``. Deleted when it
            is done, so that the bytes take no memory while the chunk waits for its turn.
        upload: counts their memory; None if they are few, or count elsewhere.
        decoded: the chunk and its digest, where it was decoded together with others.
    """

    size: int
    decode: Decode
    upload: Upload | None = None
    events: PackedEvents | None = None
    decoded: tuple[Chunk, bytes] | None = None


Arrived = tuple[Source, Encoded]


class Arrival(Applying):
    """A chunk from its arrival to its answer. It has a permit, and on a stream a place, until then.

    Args:
        told: called once with its answer, or with the reason why it was not applied; not if it is dropped before.
        came_s: when it was complete, in seconds of ``time.perf_counter``.
    """

    has_own_permit = True
    _task: asyncio.Task[None] | None = None

    def __init__(
        self, ingress: Ingress, source: Source, encoded: Encoded, told: Told, context: HasContext, came_s: float
    ) -> None:
        permit = Permit(ingress.admission, source.client, source.transport, came_s)
        Applying.__init__(self, ingress.registry, permit, told)  # faster than ``super()``
        self.source = source
        self.encoded = encoded
        self.request_context: HasContext = context
        self._ingress = ingress

    def come(self) -> bool:
        """Take place and permit, and decode it. Returns whether to begin it now; else it begins later, or is over."""
        source, permit, encoded, ingress = self.source, self.permit, self.encoded, self._ingress
        if self.is_over:
            return False
        if source.transport in WAITING and permit.place is None:
            if not ingress.stream_turns.take():
                permit.due_s = time.monotonic() + ingress.queue_timeout_s  # the wait counts against it
                self._spawn(self._wait())
                return False
            permit.place = ingress.stream_turns.give_back
        try:
            permit.take()
            if encoded.size > FREE_BYTES or source.decoding:
                self._decode_later()
                return False
            if encoded.decoded is not None and encoded.events is not None:
                request = encoded.events.request(*encoded.decoded)
            else:
                request = encoded.decode(IN_LOOP)
            return self._is_ready(request if encoded.size <= SMALL_BYTES else ingress.counted(encoded, request))
        except TakesLong:
            self._decode_later()
        except Exception as error:
            self._refuse(error)
        return False

    def drop(self) -> bool:
        if self.is_over:
            return True
        if self._task is not None:
            self._task.cancel()
        if not super().drop():
            return False
        self.permit.give_back()
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(work, context=self.request_context.context)
        return self._task

    async def _wait(self) -> None:
        """Wait for a place among the chunks of streams, and come again with it."""
        try:
            await self._ingress.stream_turns.wait(self.source.client, self.permit.due_s)
        except Exception as error:
            self._refuse(error)
            return
        self.permit.place, self._task = self._ingress.stream_turns.give_back, None
        if self.come():
            begin([self])

    def _decode_later(self) -> None:
        """Decode it in a task, after the earlier chunks of its stream."""
        decoding = self.source.decoding
        task = self._spawn(self._decode(list(decoding or ())))
        if decoding is not None:
            decoding.add(task)
            task.add_done_callback(decoding.discard)

    async def _decode(self, earlier: Sequence[asyncio.Task[None]]) -> None:
        try:
            if earlier:
                await asyncio.wait(earlier)
            request = await self._ingress.decode_slowly(self)
            self._task = None
            is_ready = self._is_ready(request)
        except Exception as error:
            self._refuse(error)
            return
        if is_ready:
            begin([self])

    def _is_ready(self, request: InferRequest) -> bool:
        """Take the decoded request. Returns whether the server stores its session."""
        permit, encoded = self.permit, self.encoded
        del encoded.decode
        encoded.events = encoded.decoded = None
        if request.timeout_s is not None:
            permit.due_s = min(permit.due_s, time.monotonic() + request.timeout_s)
        if self.source.caller.key:
            request = request._replace(owner=self.source.caller.key)
        if request.carry:
            self._spawn(self._carry(request))
            return False
        self.request = request
        return True

    async def _carry(self, request: InferRequest) -> None:
        try:
            answer = await self._ingress.carried.infer(request, self.permit)
        except Exception as error:
            self._refuse(error)
        else:
            self.is_over = True
            self._tell(answer)


class Together:
    """Collects the results of chunks that came together."""

    def __init__(self, count: int) -> None:
        self._results: list[Answer | Exception | None] = [None] * count
        self._left = count
        self._done = asyncio.get_running_loop().create_future()

    async def results(self, chunks: Sequence[Applying], *, all_or_none: bool = True) -> list[Answer | Exception]:
        """Wait for all. If the caller is cancelled, chunks are dropped whose commits have not begun.

        Args:
            all_or_none: if all are stored nevertheless, return their answers in place of the cancellation.
        """
        try:
            await self._done
        except asyncio.CancelledError:
            for index, chunk in enumerate(chunks):
                if self._results[index] is not None:
                    continue
                if chunk.drop():
                    self._left -= 1
                else:
                    chunk.told = partial(self.answered, index)
            if self._left:  # their commits have begun
                self._done = asyncio.get_running_loop().create_future()
                await self._done
            if not all_or_none or any(result is None or isinstance(result, NotApplied) for result in self._results):
                raise
        return [result for result in self._results if result is not None]

    def answered(self, index: int, result: Answer | Exception) -> None:
        self._results[index] = result
        self._left -= 1
        if not self._left and not self._done.done():
            self._done.set_result(None)


class Ingress:
    """Takes chunks from all interfaces. Used from one event loop.

    Args:
        registry: applies the chunks of sessions that the server stores.
        carried: applies the chunks of sessions that the client carries.
        longest_step_s: longest step of all models.
    """

    def __init__(
        self,
        registry: SessionRegistry,
        carried: CarriedSessions,
        admission: Admission,
        uploads: Uploads,
        counters: Counters,
        limits: Limits,
        longest_step_s: Callable[[], float],
    ) -> None:
        self.registry = registry
        self.carried = carried
        self.admission = admission
        self._uploads = uploads
        self._counters = counters
        self.queue_timeout_s = limits.queue_timeout_s
        self._max_chunk_steps = limits.max_chunk_steps
        self._longest_step_s = longest_step_s
        self._large_decodes = Turns(LARGE_DECODES)
        self._arrived: list[Arrival] = []
        self._came_s = 0.0  # arrival of the first of them
        # A stream without a permit for its chunk waits, so chunks of streams may take all permits of a client.
        self.stream_turns = Turns(max(1, int(limits.max_waiting * limits.client_share)))
        self._round_turns = Turns(AT_A_TIME)

    def arriving(self, client: str) -> Upload:
        """Make the body of a request, a context manager that counts its bytes until the answer."""
        return Upload(self._uploads, client)

    async def apply(self, chunks: Sequence[Arrived]) -> list[Outcome]:
        """Apply chunks. Returns the answer to each, or its refusal. Those of one session are applied in this order."""
        together = Together(len(chunks))
        arrivals = [
            self.begin(source, encoded, partial(together.answered, index))
            for index, (source, encoded) in enumerate(chunks)
        ]
        try:
            results = await together.results(arrivals)
        except asyncio.CancelledError:
            self._counters.chunks_abandoned += len(chunks)
            raise
        return [
            self.refused(result, arrival.source.request, arrival.session) if isinstance(result, Exception) else result
            for arrival, result in zip(arrivals, results, strict=True)
        ]

    async def apply_frame(self, source: Source, requests: Sequence[InferRequest], came_s: float) -> list[Outcome]:
        """Apply decoded chunks of one client with one permit. At most ``AT_A_TIME`` run at a time.

        Args:
            requests: those of one session are applied in this order.
            came_s: when they were complete, in seconds of ``time.perf_counter``.

        Raises:
            Overloaded, ShuttingDown: there is no turn or no permit for the frame.
        """
        with await self.permit(source.client, source.transport, came_s) as permit:
            results = await self._of_slice(requests[:AT_A_TIME], permit)
            for first in range(AT_A_TIME, len(requests), AT_A_TIME):
                await self.round_turn(source.client, AT_A_TIME)
                results += await self._of_slice(requests[first : first + AT_A_TIME], permit)
            if (tracer := self._counters.timings.tracer) is not None:
                answers = [result for result in results if isinstance(result, Answer)]
                model = requests[0].envelope.model or ""
                if answers:
                    tracer.applied(source.transport, model, answers[-1].watch, time.perf_counter(), len(answers))
        if set(map(type, results)) == {Answer}:  # the usual case
            return cast("list[Outcome]", results)
        outcomes: list[Outcome] = []
        for number, (request, result) in enumerate(zip(requests, results, strict=True), 1):
            if isinstance(result, Exception):
                outcomes.append(self.refused(result, source.request, request.session or ""))
                if not number % AT_A_TIME:
                    await self.round_turn(source.client, AT_A_TIME)
            else:
                outcomes.append(result)
        return outcomes

    async def _of_slice(self, requests: Sequence[InferRequest], permit: Permit) -> list[Answer | Exception]:
        """Apply chunks of a frame, with its permit."""
        permit.due_s = time.monotonic() + self.queue_timeout_s  # for the beginning of each
        together, chunks = Together(len(requests)), list[Applying]()
        for index, request in enumerate(requests):
            chunk = Applying(self.registry, permit, partial(together.answered, index))
            chunk.request = request
            chunks.append(chunk)
        begin(chunks)
        return await together.results(chunks, all_or_none=False)

    def begin(self, source: Source, encoded: Encoded, told: Told, context: HasContext | None = None) -> Arrival:
        """Apply a chunk in the next round but one of the event loop, together with those that have come until then."""
        if not self._arrived:
            self._came_s = time.perf_counter()
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._begin)  # the first round notices callers that have gone
        arrival = Arrival(self, source, encoded, told, context or Made(copy_context()), self._came_s)
        self._arrived.append(arrival)
        return arrival

    def _begin(self) -> None:
        arrived, self._arrived = self._arrived, []
        if len(arrived) > 1:
            packed = [one for one in arrived if one.encoded.events is not None]
            found = decoded_together(list(map(_events_of, packed))) if len(packed) > 1 else []
            for arrival, decoded in zip(packed, found, strict=False):
                arrival.encoded.decoded = decoded
        if ready := [arrival for arrival in arrived if arrival.come()]:  # ``come`` answers its own errors
            begin(ready)

    async def permit(self, client: str, transport: Transport = "stream", came_s: float | None = None) -> Permit:
        """Wait for a turn, and make the permit for work of a stream, which gives back the turn, too.

        Enter it at once: it holds the turn already.

        Raises:
            Overloaded: the turn did not come in time. Entering it raises as ``Permit.take``.
        """
        due_s = time.monotonic() + self.queue_timeout_s
        if not self.stream_turns.take():
            await self.stream_turns.wait(client, due_s)
        permit = self.admission.permit(client, transport, came_s)
        permit.due_s = due_s  # the wait for the turn counts against the limit
        permit.place = self.stream_turns.give_back
        return permit

    async def round_turn(self, client: str, rows: int, *, is_begun: bool = True) -> None:
        """Wait for a round of the event loop in which a client's frame may do its work on this number of rows.

        A round works on frames until they have ``AT_A_TIME`` rows. Clients take turns: else all frames of a client with
        many connections would come before another client's chunk, in each of the rounds that the chunk takes.

        Args:
            is_begun: the frame had a turn before. It goes before the client's other frames, because the memory of its
                rows is many times that of its bytes: few frames are at work at a time.
        """
        if not self._round_turns.take(rows):
            await self._round_turns.wait(client, inf, rows, is_begun=is_begun)
        asyncio.get_running_loop().call_soon(self._round_turns.give_back, rows)

    def check(self, client: str) -> None:
        """Check that a request may come, as ``Admission.check``."""
        self.admission.check(client)

    @property
    def unready(self) -> HetsynError | None:
        """Say why balancers should send requests to other servers; None if they should send them here.

        A store that is down or slow does not make a replica unready, except before it was reached once. All replicas
        share the store, so no other replica would do better, and each recovers sooner than a balancer would take it
        back. A store that would lose sessions, or can change none, needs somebody who sees it.
        """
        if not self.admission.is_ready:
            return ShuttingDown("the server is shutting down: send requests to another")
        return self.registry.sessions.trouble

    def refused(self, error: Exception, request: str, session: str = "") -> Problem:
        """Count and report an error of a chunk or of any other request.

        Args:
            request: its name in the log.
            session: its id in the log; empty for none.
        """
        if session:
            SESSION.set(session)
        self._counters.refused(error)
        return Problem.of(error, request)

    async def decode_slowly(self, arrival: Arrival) -> InferRequest:
        """Decode the bytes of a chunk; on a thread if they are many, or take long.

        Raises:
            HetsynError: they are wrong, their turn did not come in time, or there is no room for the result.
        """
        encoded = arrival.encoded
        if encoded.size <= FREE_BYTES:
            try:
                request = encoded.decode(IN_LOOP)
                return request if encoded.size <= SMALL_BYTES else self.counted(encoded, request)
            except TakesLong:
                pass
        async with self._large_decodes.turn(arrival.source.client, arrival.permit.due_s):
            limit = SoundLimit(self._max_chunk_steps * self._longest_step_s())
            return self.counted(encoded, await on_thread(encoded.decode, limit))

    def counted(self, encoded: Encoded, request: InferRequest) -> InferRequest:
        """Count the memory of a decoded request.

        Raises:
            Overloaded: there is no room for it.
        """
        if encoded.upload is not None and (more := grown_bytes(request.chunk, encoded.size)):
            encoded.upload.take(more)
        return request


_events_of = attrgetter("encoded.events.content")


def grown_bytes(chunk: Chunk | None, encoded_bytes: int) -> int:
    """Compute the bytes of a decoded input beyond the received ones; 0 if it is small, or has not grown much."""
    if chunk is None or (count := chunk_bytes(chunk)) <= max(FREE_BYTES, MOST_GROWTH * encoded_bytes):
        return 0
    return count - encoded_bytes
