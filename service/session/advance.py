"""Applies one chunk to one session: takes a session, returns the session after the chunk and the reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, cast

from pydantic_core import from_json, to_json

from hetsyn_client.results import Reply, Spikes, classified
from service.admission.permits import Permit
from service.contract.decision import label_of
from service.engine.endpointing_choice import with_endpointing, with_manual_ends
from service.engine.engine import Engine
from service.engine.raster import spikes_of
from service.engine.stream import StreamState, initial_stream
from service.engine.work import Outcome, Result, Work
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.observe.clock import Clock
from service.observe.counters import Counters
from service.observe.watch import Watch
from service.session.plain_reply import PlainReply, members
from service.session.protocol import Known, Progress, applied
from service.session.session import Kept, Session
from service.wire.answer import finalized
from service.wire.schema import InferRequest, Parameters

_new = tuple.__new__  # makes a value in half the time of its class

RunChunk = Callable[[Model, Work, str, float], Awaitable[Outcome]]
"""``Batcher.run``."""


class PlannedChunk(NamedTuple):
    """A chunk that is to be applied.

    Attributes:
        session: before the chunk.
        stream: of the session.
        seq: number of the chunk.
        request: with the chunk.
    """

    session: Session
    stream: StreamState
    seq: int
    request: InferRequest

    def work(self, watch: Watch | None) -> Work:
        """What is to be computed.

        Args:
            watch: of the chunk's time; None where nobody asks.
        """
        _, stream, _, (envelope, chunk, *_) = self
        return _new(Work, (stream, chunk, envelope.end, False, envelope.spikes, watch))


class Advanced(NamedTuple):
    """A chunk that was computed.

    Attributes:
        session: after the chunk.
        reply: to the chunk, as the session keeps it.
        seq: number of the chunk.
        steps: network steps of the chunk.
        spikes: of the chunk; None where nobody asks. They are not kept.
    """

    session: Session
    reply: Kept
    seq: int
    steps: int
    spikes: Spikes | None


class Finalized(NamedTuple):
    """A session whose utterance was ended.

    Attributes:
        session: afterwards; None if nothing came since the last utterance, so that there is nothing to change.
        reply: to its last chunk, which says so.
    """

    session: Session | None
    reply: Reply


class Advance:
    """Begins sessions and applies chunks to them. Used from one event loop.

    Args:
        engine: checks chunks.
        run: computes a chunk.
        catalog: of the models.
        counters: count chunks and sessions.
    """

    def __init__(self, engine: Engine, run: RunChunk, catalog: ModelCatalog, counters: Counters) -> None:
        self._engine = engine
        self._run = run
        self._catalog = catalog
        self._counters = counters

    def begin(self, envelope: Parameters, now_s: float) -> Session:
        """Begin a session.

        Args:
            envelope: names model and version.
            now_s: when it begins.

        Returns:
            The session before its first chunk.

        Raises:
            NotFound: there is no such model or version.
        """
        model = self._catalog.get(envelope.model, envelope.version)
        return Session(model, Known(Progress(), now_s, now_s), initial_stream(model))

    def plan(self, session: Session, seq: int, request: InferRequest) -> PlannedChunk:
        """Check that a session takes a chunk.

        Args:
            session: before the chunk.
            seq: number of the chunk, as the protocol has decided.
            request: with the chunk.

        Raises:
            SessionEnded: the session takes no chunk any more.
            InputError, UnsupportedInput: as ``Engine.check`` and ``with_endpointing``.
        """
        stream = session.stream or session.open_stream
        if request.envelope.endpointing is not None:
            stream = with_endpointing(session.model, stream, request.chunk, request.envelope.endpointing)
        self._engine.check(session.model, stream, request.chunk, spikes=request.envelope.spikes)
        return _new(PlannedChunk, (session, stream, seq, request))

    async def apply(
        self, session_id: str, chunk: PlannedChunk, permit: Permit, clock: Clock, *, watch: Watch | None = None
    ) -> Advanced:
        """Compute a chunk, and wait for it.

        Args:
            session_id: of the session.
            chunk: from ``plan``.
            permit: of the request.
            clock: gives the time of use.
            watch: of the chunk's time; None where nobody asks.

        Raises:
            HetsynError: as ``Batcher.run``.
        """
        outcome = await self._run(chunk.session.model, chunk.work(watch), permit.client, permit.due_s)
        return self.applied(session_id, chunk, outcome, clock())

    def applied(self, session_id: str, chunk: PlannedChunk, outcome: Outcome, now_s: float) -> Advanced:
        """The session after a chunk, and the reply.

        Args:
            session_id: of the session.
            chunk: that was computed.
            outcome: of it.
            now_s: time of use, by the clock of sessions.
        """
        session, _, seq, request = chunk
        stream, result = outcome
        end = request.envelope.end
        reply: Kept
        if result.label is not None and not end:
            steps = result.steps
            reply = _new(PlainReply, (steps, result.label, result.probabilities.tobytes()))
        else:
            steps = _steps(session, result)
            reply = to_json(reply_of(session_id, session, seq, end, steps, result))
        before = session.known
        progress = applied(before.progress, seq=seq, digest=request.digest, steps=steps, end=end, reply=reply)
        known = _new(Known, (progress, before.created_s, now_s))
        after = _new(Session, (session.model, known, None if end else stream))
        spikes = None
        if result.raster is not None:
            total = before.progress.total_steps
            spikes = spikes_of(session.model, request.chunk, result.raster, total, total + steps)
        return _new(Advanced, (after, reply, seq, steps, spikes))

    async def finalize(self, session_id: str, session: Session, permit: Permit, clock: Clock) -> Finalized:
        """End the utterance of a session, of which a chunk was applied.

        Args:
            session_id: of the session.
            session: as it is.
            permit: of the request.
            clock: gives the time of use.

        Raises:
            SessionEnded: the session takes no chunk any more.
            UnsupportedInput: the model has no utterances.
            HetsynError: as ``Batcher.run``.
        """
        stream = with_manual_ends(session.model, session.open_stream)
        assert stream.utterances is not None
        progress = session.known.progress
        last = progress.last
        assert last is not None
        work = Work(stream, None, False, finalize=True)
        outcome = await self._run(session.model, work, permit.client, permit.due_s)
        result = outcome.result
        assert result.utterance is not None
        reply = finalized(from_json(session.last_reply(session_id)), result.utterance, result.heard)
        after = outcome.stream.utterances
        assert after is not None
        if after.number == stream.utterances.number:  # nothing came since the last one
            return Finalized(None, reply)
        progress = progress._replace(last=last._replace(reply=to_json(reply)))
        known = Known(progress, session.known.created_s, clock())
        return Finalized(Session(session.model, known, outcome.stream), reply)

    def count(self, chunks: Sequence[Advanced]) -> None:
        """Count chunks that were applied and committed."""
        counters = self._counters
        counters.chunks_applied += len(chunks)
        counters.steps_applied += sum(map(_steps_of, chunks))
        counters.sessions_opened += list(map(_seq_of, chunks)).count(0)
        counters.sessions_ended += sum([chunk[0][2] is None for chunk in chunks])


_seq_of, _steps_of = attrgetter("seq"), attrgetter("steps")


def _steps(session: Session, result: Result) -> int:
    """Network steps of a chunk: in a session with utterances those that its input has."""
    if result.utterance is None:
        return result.steps
    return max(0, result.total_steps - session.known.progress.total_steps)


def reply_of(session_id: str, session: Session, seq: int, end: bool, steps: int, result: Result) -> Reply:
    """Make the reply to a chunk.

    Args:
        session_id: of the session.
        session: before the chunk.
        seq: number of the chunk.
        end: the chunk ends the session.
        steps: network steps of the chunk.
        result: of the chunk.
    """
    manifest = session.model.manifest
    has_probabilities = manifest.decision.rule != "trace" and len(result.probabilities) > 0
    label = label_of(manifest, result.probabilities) if has_probabilities and result.is_decided else None
    total_steps = session.known.progress.total_steps + steps
    said = classified(label, result.probabilities.tolist() if has_probabilities else None)
    reply: dict[str, Any] = {**members(session_id, manifest, seq, steps, total_steps, said, end)}
    if result.utterance is not None:
        reply |= {"utterance": result.utterance, "events": list(result.heard)}
    if result.readout is not None:
        reply["readout"] = result.readout.tolist()
    return cast(Reply, reply)
