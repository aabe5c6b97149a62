"""The quick way for plain chunks of many sessions: decided, computed and kept in one go, without waiting in between.

A chunk is plain if it is the next one of an open session in this process that no request uses, does not end it, and has
been checked. All else goes the usual way (``registry.registry``): a first chunk, a retry, a gap, an end, a session in a
store, a chunk that takes long. Nothing else runs on the event loop meanwhile, so no lock is needed. The rules are those
of ``session.protocol``; ``tests/unit/service/registry/test_rows.py`` compares both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.batching.rows import RowBatches
from service.contract.graph_io import Float32Array
from service.engine.rows import RowsAfter
from service.engine.stream import StreamState
from service.engine.work import kind_of
from service.errors import Overloaded
from service.models.model import Model
from service.observe.counters import Counters
from service.registry.local import LocalSessions
from service.registry.table import SessionEntry
from service.session.protocol import Answered, Known, Progress, status
from service.session.session import FULL_COUNT, Session
from service.session.unwritten import UnwrittenReply
from service.wire.chunk import AudioChunk, Chunk, digest
from service.wire.schema import Envelope


class Row(NamedTuple):
    """A chunk of a session.

    Attributes:
        session: id of the session.
        seq: number of the chunk.
        chunk: of the same kind in all rows.
    """

    session: str
    seq: int
    chunk: Chunk


class AppliedRows(NamedTuple):
    """Rows that were applied, and are kept.

    Attributes:
        indices: among the rows.
        total_steps: network steps of each session.
        steps: of each chunk.
        label: int64 [rows], index of the likeliest; -1 before the first step that counts.
        probabilities: float32 [rows, outputs].
    """

    indices: list[int]
    total_steps: list[int]
    steps: list[int]
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

    def apply(self, envelope: Envelope, rows: Sequence[Row]) -> AppliedRows | None:
        """Apply the plain chunks among some. The others are to be applied the usual way; no session occurs twice.

        Args:
            envelope: names model, version and form of all sessions.
            rows: at most ``max_batch``.

        Returns:
            Those that were applied; None for none.
        """
        sessions = self._sessions
        now_s = sessions.clock()
        model: Model | None = None
        kind, form = None, envelope.form or "exact"
        indices: list[int] = []
        entries: list[SessionEntry] = []
        before: list[Session] = []
        streams: list[StreamState] = []
        for index, (session_id, seq, chunk) in enumerate(rows):
            entry = sessions.unused(session_id)
            session = None if entry is None else entry.session
            if entry is None or session is None:
                continue
            if model is None and self._fits(session, envelope):
                model, kind = session.model, kind_of(session.model, chunk)
            known, stream = session.known, session.stream
            progress = known.progress
            if (
                session.model is model
                and session.form == form
                and progress.expected_seq == seq
                and stream is not None
                and stream.kind == kind
                and seq < FULL_COUNT
                and progress.total_steps < FULL_COUNT
                and status(known, now_s, sessions.lifetimes) == "open"
                and self._takes(session.model, stream, chunk)
            ):
                indices.append(index)
                entries.append(entry)
                before.append(session)
                streams.append(stream)
        if model is None or not indices:
            return None
        after = self._batches.run(model, form, streams, [rows[index].chunk for index in indices])
        if after is None:
            return None
        for entry in entries:
            entry.users += 1  # so that none makes room for another
        try:
            return self._keep(rows, indices, entries, before, after, now_s)
        finally:
            for entry in entries:
                entry.users -= 1

    def _keep(
        self,
        rows: Sequence[Row],
        indices: list[int],
        entries: Sequence[SessionEntry],
        before: Sequence[Session],
        after: RowsAfter,
        now_s: float,
    ) -> AppliedRows:
        """Keep the sessions after their chunks."""
        put, model, form = self._sessions.put_row, before[0].model, before[0].form
        kept: list[int] = []
        totals: list[int] = []
        taken, shares = after.steps, after.probabilities
        for position, (index, entry, session, stream) in enumerate(
            zip(indices, entries, before, after.streams, strict=True)
        ):
            _, seq, chunk = rows[index]
            steps, known = taken[position], session.known
            total = known.progress.total_steps + steps
            last = Answered(seq, digest(chunk, False), b"")
            known = Known(Progress(seq + 1, total, False, last), known.created_s, now_s)
            try:
                put(entry, Session(model, form, known, stream), UnwrittenReply(steps, shares[position].tobytes()))
            except Overloaded:
                continue  # no room: the usual way says when there is
            kept.append(position)
            totals.append(total)
        streams = after.streams
        if len(kept) < len(indices):
            indices, shares = [indices[position] for position in kept], shares[kept]
            taken, streams = [taken[position] for position in kept], [streams[position] for position in kept]
        self._counters.chunks_applied += len(kept)
        self._counters.steps_applied += sum(taken)
        label = shares.argmax(axis=1)
        skip_steps = model.manifest.decision.skip_steps
        label[np.array([stream.step for stream in streams], np.int64) <= skip_steps] = -1  # ``decision.is_decided``
        return AppliedRows(indices, totals, taken, label, shares)

    def _fits(self, session: Session, envelope: Envelope) -> bool:
        """Whether chunks of a session's model can be plain."""
        model, form = session.model, session.form
        return (
            model.name == envelope.model
            and model.version == envelope.version
            and form == envelope.form
            and model.manifest.decision.rule != "trace"
            and model.states(form).is_host
        )

    def _takes(self, model: Model, stream: StreamState, chunk: Chunk) -> bool:
        """Whether a stream of the chunk's kind takes it, but for the channels of spikes (``Engine.check``)."""
        if isinstance(chunk, AudioChunk):
            resampler = stream.resampler
            if resampler is None or resampler.rate_hz != chunk.rate_hz or resampler.is_slow:
                return False
            encoder = model.encoder
            steps = len(chunk.samples) * encoder.sample_rate_hz // (chunk.rate_hz * encoder.samples_per_step)
            return resampler.received < FULL_COUNT and steps < self._max_chunk_steps
        return chunk.steps <= self._max_chunk_steps
