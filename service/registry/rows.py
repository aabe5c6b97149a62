"""The quick way for plain chunks of many sessions: decided, computed and kept in one go.

A chunk is plain if it is the next one of an open session in this process that no request uses and that is one
utterance, does not end it, and has been checked. All else goes the usual way (``registry.registry``): a first chunk, a
retry, a gap, an end, a session in a store, a chunk that takes long. While a batch runs on the event loop, nothing else
does, so no lock is needed; for a batch on a thread, the sessions are locked. The rules are those of
``session.protocol``; ``tests/unit/service/registry/test_rows.py`` compares both ways.
"""

from __future__ import annotations

import types
from collections.abc import Generator, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from service.batching.rows import RowBatches
from service.contract.decision import labels_of
from service.contract.graph_io import Float32Array
from service.engine.rows import RowsAfter
from service.engine.stream import InputKind, StreamState
from service.engine.work import kind_of
from service.errors import Overloaded
from service.models.model import Model
from service.observe.counters import Counters
from service.observe.watch import Watch
from service.registry.local import LocalSessions
from service.registry.table import SessionEntry
from service.session.protocol import Answered, Known, Progress, status
from service.session.session import FULL_COUNT, Session
from service.session.unwritten import UnwrittenReply
from service.wire.chunk import AudioChunk, Chunk, ValuesChunk
from service.wire.columns import DecodedFrame, EventFrame
from service.wire.schema import Envelope


@types.coroutine
def next_round() -> Generator[None, None, None]:
    """Let the other tasks have their turn of the event loop; ``asyncio.sleep(0)`` takes twice as long.

    So all chunks that came together are decoded, then all are decided on, and after their batch all are committed, then
    all are sent. Each part of the code does its work for all of them while the processor has it in its cache. Without
    it, a chunk takes 9% more CPU time under load (``python -m benchmarks compare``).
    """
    yield


class Rows(NamedTuple):
    """Chunks of sessions, at most one of each.

    Attributes:
        sessions: ids of the sessions.
        seq: number of each chunk.
        numbers: of the rows in their frame, ascending.
        frame: that has the chunks; these are valid.
    """

    sessions: list[str]
    seq: list[int]
    numbers: list[int]
    frame: DecodedFrame


class AppliedRows(NamedTuple):
    """Rows that were applied, and are kept.

    Attributes:
        numbers: of the rows in their frame.
        total_steps: network steps of each session.
        steps: of each chunk.
        labels: of the model.
        label: int64 [rows], from ``decision.labels_of``.
        probabilities: float32 [rows, outputs].
    """

    numbers: list[int]
    total_steps: list[int]
    steps: list[int]
    labels: Sequence[str]
    label: NDArray[np.int64]
    probabilities: Float32Array


class RowSessions:
    """Applies plain chunks. Used from one event loop.

    Args:
        sessions: of this process.
        batches: compute the chunks.
        counters: count them.
        max_chunk_steps: of one chunk.
    """

    def __init__(self, sessions: LocalSessions, batches: RowBatches, counters: Counters, max_chunk_steps: int) -> None:
        self._sessions = sessions
        self._batches = batches
        self._counters = counters
        self._max_chunk_steps = max_chunk_steps

    @property
    def max_batch(self) -> int:
        """Most rows of a call."""
        return self._batches.max_batch

    async def apply(self, envelope: Envelope, rows: Rows, watch: Watch | None = None) -> AppliedRows | None:
        """Apply the plain chunks among some. The others are to be applied the usual way. If the caller is cancelled,
        none is applied.

        Args:
            envelope: names model and version of all sessions.
            rows: at most ``max_batch``.
            watch: of the chunks' time.

        Returns:
            Those that were applied; None for none.
        """
        sessions, frame = self._sessions, rows.frame
        now_s, lifetimes = sessions.clock(), sessions.lifetimes
        model: Model | None = None
        kind: InputKind | None = None
        taken: list[_Taken] = []
        for session_id, seq, number in zip(rows.sessions, rows.seq, rows.numbers, strict=True):
            entry = sessions.unused(session_id)
            session = None if entry is None else entry.session
            if entry is None or session is None:
                continue
            if model is None and self._fits(session, envelope):
                model = session.model
                kind = _kind_of(model, frame, number)
            known, stream = session.known, session.stream
            progress = known.progress
            if (
                session.model is model
                and progress.expected_seq == seq
                and stream is not None
                and stream.kind == kind
                and stream.utterances is None
                and seq < FULL_COUNT
                and progress.total_steps < FULL_COUNT
                and status(known, now_s, lifetimes) == "open"
                and self._takes(session.model, stream, frame, number)
            ):
                taken.append((number, entry, session, stream))
        if model is None or not taken:
            return None
        streams = [stream for _, _, _, stream in taken]
        numbers = [number for number, _, _, _ in taken]
        if isinstance(frame, EventFrame) and kind == "spikes":
            batch = self._batches.of_spikes(model, streams, frame.spikes(numbers))
        else:
            chunks = [cast(Chunk, frame.chunk(number)) for number in numbers]
            batch = self._batches.of_chunks(model, streams, chunks)
        if batch is None:
            return None
        for _, entry, _, _ in taken:
            entry.users += 1  # so that none makes room for another
        try:
            # a cell of somebody else may never end, and only the batches of chunks can end it then
            if not (batch.is_long and model.manifest.hidden):
                after = self._batches.run(batch, watch)
                return None if after is None else self._keep(frame, taken, after, now_s)
            for _, entry, _, _ in taken:
                entry.take(_nothing)  # at once: nobody uses the entry
            try:
                after = await self._batches.run_on_thread(batch, watch)
                return None if after is None else self._keep(frame, taken, after, now_s)
            finally:
                for _, entry, _, _ in taken:
                    entry.give()
        finally:
            for _, entry, _, _ in taken:
                entry.users -= 1

    def _keep(self, frame: DecodedFrame, taken: Sequence[_Taken], after: RowsAfter, now_s: float) -> AppliedRows:
        """Keep the sessions after their chunks."""
        new, put = tuple.__new__, self._sessions.put_row  # in half the time of ``Known()``
        _, _, (model, _, _), _ = taken[0]
        shares = after.probabilities
        content, width = shares.tobytes(), shares.itemsize * shares.shape[1]
        applied: list[int] = []
        totals: list[int] = []
        refused: list[int] = []
        for index, ((number, entry, session, _), stream, steps) in enumerate(
            zip(taken, after.streams, after.steps, strict=True)
        ):
            seq, total_steps, _, _ = session.known.progress
            total_steps += steps
            last = new(Answered, (seq, frame.digest(number), b""))
            progress = new(Progress, (seq + 1, total_steps, False, last))
            known = new(Known, (progress, session.known.created_s, now_s))
            reply = new(UnwrittenReply, (steps, content[index * width : index * width + width]))
            try:
                put(entry, new(Session, (model, known, stream)), reply)
            except Overloaded:
                refused.append(index)  # no room: the usual way says when there is
                continue
            applied.append(number)
            totals.append(total_steps)
        streams, steps_of = after.streams, after.steps
        if refused:
            kept = [index for index in range(len(taken)) if index not in refused]
            shares, streams = shares[kept], [streams[index] for index in kept]
            steps_of = [steps_of[index] for index in kept]
        self._counters.chunks_applied += len(applied)
        self._counters.steps_applied += sum(steps_of)
        label = labels_of(model.manifest, shares, np.array([stream.step for stream in streams], np.int64))
        return AppliedRows(applied, totals, steps_of, model.manifest.labels, label, shares)

    def _fits(self, session: Session, envelope: Envelope) -> bool:
        """Whether chunks of a session's model can be plain."""
        model = session.model
        return (
            model.name == envelope.model
            and model.version == envelope.version
            and model.is_on_cpu  # or the event loop would wait for a GPU
            and model.manifest.decision.rule != "trace"
        )

    def _takes(self, model: Model, stream: StreamState, frame: DecodedFrame, number: int) -> bool:
        """Whether a stream of the chunk's kind takes it, but for the channels of spikes (``Engine.check``)."""
        if isinstance(frame, EventFrame):
            return frame.steps[number] <= self._max_chunk_steps
        chunk = frame.chunk(number)
        if not isinstance(chunk, AudioChunk):
            return isinstance(chunk, ValuesChunk) and chunk.steps <= self._max_chunk_steps
        resampler = stream.resampler
        if resampler is None or resampler.rate_hz != chunk.rate_hz or resampler.is_slow:
            return False
        steps = len(chunk.samples) * resampler.target_hz // (chunk.rate_hz * model.encoder.samples_per_step)
        return resampler.received < FULL_COUNT and steps < self._max_chunk_steps


def _kind_of(model: Model, frame: DecodedFrame, number: int) -> InputKind:
    if isinstance(frame, EventFrame):
        return "values" if model.takes_values_only else "spikes"
    return kind_of(model, cast(Chunk, frame.chunk(number)))


_Taken = tuple[int, SessionEntry, Session, StreamState]
"""A row that is plain: its number, its entry, its session, and the session's stream."""


def _nothing() -> None:
    """Never called: nobody else has the entry."""
