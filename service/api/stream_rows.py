"""The chunks of all ``/stream`` connections that came together, applied together where they are plain.

Without this, each chunk would have a task, a permit, a lock, a future and a reply of its own
(docs/explanation/performance.md has what that costs).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from typing import NamedTuple, Protocol, cast

from hetsyn_client.results import Outcome, classified
from service.admission.uploads import FREE_BYTES
from service.errors import HetsynError, InputError
from service.ingress import Ingress, Source
from service.live.actions import Work
from service.live.query import StreamQuery
from service.observe.timings import Timings
from service.observe.watch import Watch
from service.registry.rows import Rows, next_round
from service.wire.chunk import AudioChunk, SpikeChunk
from service.wire.columns import ChunkFrame, Decoded, DecodedFrame, joined_events

log = logging.getLogger("hetsyn.api")

MOST_ROUNDS = 16  # of the event loop, in which further chunks may come
# From so many chunks a second on, a batch waits until it has some: each batch costs as much as a few chunks
BUSY_RATE, WANTED_ROWS, LONGEST_WAIT_S = 2_000.0, 16, 0.004
SOURCE = Source("WS /stream", "stream", "")  # of the chunks of all clients
RATE_S = 0.1  # the rate is that of at least so long


class RowStream(Protocol):
    """A connection that waits for its chunk to be applied.

    Attributes:
        context: of its works.
    """

    context: Context

    def answered(self, outcome: Outcome) -> None:
        """The chunk was applied, and is kept."""

    def not_plain(self, work: Work) -> None:
        """The chunk has to be applied the usual way."""


class _Waiting(NamedTuple):
    stream: RowStream
    query: StreamQuery
    work: Work
    client: str
    came_s: float


class StreamRows:
    """Collects chunks. Used from one event loop.

    Args:
        ingress: applies them.
        timings: count them.
    """

    def __init__(self, ingress: Ingress, timings: Timings) -> None:
        self._ingress = ingress
        self._timings = timings
        self._waiting: OrderedDict[RowStream, _Waiting] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._count = 0  # chunks since ``_since_s``
        self._since_s = 0.0
        self._rate = 0.0

    def takes(self, query: StreamQuery, work: Work) -> bool:
        """Whether ``add`` takes a work: a chunk of a stream without utterances that asks for no more than the
        classification."""
        return (
            work.kind == "chunk"
            and work.endpointing is None
            and query.envelope.endpointing in (None, "off")
            and not query.envelope.asks_more
            and bool(self._ingress.max_rows)
            and len(work.content) <= FREE_BYTES
        )

    def add(self, stream: RowStream, query: StreamQuery, work: Work, client: str) -> None:
        """Apply the chunk of a stream, together with those of others.

        Args:
            stream: that is told of the outcome. It has one chunk here at a time.
            query: of the stream.
            work: with the chunk.
            client: at the other end (``budget.client_of``).
        """
        self._waiting[stream] = _Waiting(stream, query, work, client, time.perf_counter())
        self._count += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())  # nobody's own

    def discard(self, stream: RowStream) -> bool:
        """Forget the chunk of a stream; whether there was one."""
        return self._waiting.pop(stream, None) is not None

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                if batch := self._batch():
                    await self._apply(batch)
        finally:
            self._task = None

    async def _gather(self) -> None:
        """Wait for the chunks that come together with those that are here, and at a high rate for some more."""
        now_s = time.monotonic()
        if (past_s := now_s - self._since_s) >= RATE_S:
            self._rate, self._count, self._since_s = self._count / past_s, 0, now_s
        if self._rate >= BUSY_RATE and len(self._waiting) < WANTED_ROWS:
            await asyncio.sleep(min(LONGEST_WAIT_S, (WANTED_ROWS - len(self._waiting)) / self._rate))
        for _ in range(MOST_ROUNDS):
            count = len(self._waiting)
            await next_round()
            if len(self._waiting) == count:
                break

    def _batch(self) -> list[_Waiting]:
        """Chunks of one model and kind, in order of arrival; of each client no more than its share, if others wait."""
        group: object = None
        chosen: list[_Waiting] = []
        clients = len({waiting.client for waiting in self._waiting.values()})
        share, of_client = -(-self._ingress.max_rows // max(1, clients)), dict[str, int]()
        for waiting in self._waiting.values():
            group = group or _group(waiting)
            count = of_client.get(waiting.client, 0)
            if count < share and _group(waiting) == group:
                of_client[waiting.client] = count + 1
                chosen.append(waiting)
                if len(chosen) == self._ingress.max_rows:
                    break
        return chosen

    async def _apply(self, batch: Sequence[_Waiting]) -> None:
        frame = _decoded(batch)
        outcomes: dict[int, Outcome] = {}
        watch = Watch()
        try:
            rows = partial(self._rows, batch, frame)
            applied = await self._ingress.apply_rows(SOURCE, batch[0].query.envelope, rows, watch)
        except HetsynError:
            applied = None  # the usual way says why
        except Exception as error:
            log.error("chunks of streams are applied one by one", exc_info=error)
            applied = None
        if applied is not None:
            labels = [None if index < 0 else applied.labels[index] for index in applied.label.tolist()]
            columns = zip(
                applied.numbers, applied.steps, applied.total_steps, labels, applied.probabilities.tolist(), strict=True
            )
            outcomes = {
                number: cast(Outcome, {**classified(label, probabilities), "steps": steps, "total_steps": total})
                for number, steps, total, label, probabilities in columns
            }
            self._observe(batch, applied.numbers, watch)
        for number, waiting in enumerate(batch):
            if self._waiting.get(waiting.stream) is not waiting:
                continue  # the stream has ended
            del self._waiting[waiting.stream]
            try:
                if (outcome := outcomes.get(number)) is not None:
                    waiting.stream.answered(outcome)
                else:
                    waiting.stream.not_plain(waiting.work)
            except Exception as error:  # the others shall hear of theirs
                log.error("a stream could not be answered", exc_info=error)

    def _observe(self, batch: Sequence[_Waiting], numbers: Sequence[int], watch: Watch) -> None:
        """Count the chunks of a batch that were applied, each from when it came."""
        model, ended_s = batch[0].query.envelope.model or "", time.perf_counter()
        began_s = [batch[number].came_s for number in numbers]
        self._timings.of("stream", model).observe_each(began_s, watch.engine_s, ended_s)
        if (tracer := self._timings.tracer) is not None:
            for number in numbers:
                one = Watch(batch[number].came_s)
                one.computed(watch.engine_begun_s, watch.engine_s)
                batch[number].stream.context.run(tracer.applied, "stream", model, one, ended_s)

    def _rows(self, batch: Sequence[_Waiting], frame: DecodedFrame) -> Rows:
        """Those chunks whose streams are still there."""
        rows = Rows([], [], [], frame)
        for number, waiting in enumerate(batch):
            if frame.is_valid[number] and self._waiting.get(waiting.stream) is waiting:
                rows.sessions.append(waiting.query.session)
                rows.seq.append(waiting.work.seq)
                rows.numbers.append(number)
        return rows


def _group(waiting: _Waiting) -> object:
    envelope = waiting.query.envelope
    return envelope.model, envelope.version, type(waiting.query.smallest)


def _decoded(batch: Sequence[_Waiting]) -> DecodedFrame:
    if isinstance(batch[0].query.smallest, SpikeChunk):
        return joined_events([waiting.work.content for waiting in batch])
    return ChunkFrame([_chunk(waiting) for waiting in batch], [False] * len(batch))


def _chunk(waiting: _Waiting) -> Decoded:
    try:
        chunk = waiting.query.decode(waiting.work.content)
    except InputError as error:
        return error
    return chunk if (len(chunk.samples) if isinstance(chunk, AudioChunk) else chunk.steps) else None
