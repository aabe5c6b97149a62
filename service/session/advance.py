"""Applies one chunk to one session: takes a session, returns the session after the chunk and the reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from operator import attrgetter, methodcaller
from typing import Any, NamedTuple, cast

from pydantic_core import from_json, to_json

from hetsyn_client.results import Reply, Spikes, classified
from service.admission.budget import Permit
from service.clock import Clock
from service.contract.decision import label_of
from service.contract.numbers import json_numbers
from service.engine.endpointing_choice import with_endpointing, with_manual_ends
from service.engine.engine import Engine
from service.engine.raster import spikes_of
from service.engine.work import Outcome, Result, Work, initial_stream
from service.errors import HetsynError
from service.keys.ids import client_id
from service.models.catalog import ModelCatalog
from service.models.model import Model
from service.observe.counters import Counters
from service.observe.watch import Ran
from service.session.protocol import Answered, Known, Lifetimes, Progress, Reload, Replay, all_applied, decide, status
from service.session.session import Kept, PlainReply, Session, finalized
from service.session.snapshot import Snapshot
from service.wire.schema import InferRequest, Parameters

_new = tuple.__new__  # makes a value twice as fast as its class

RunChunk = Callable[[Model, Work, str, float], Awaitable[Outcome]]
"""``Batcher.run``."""


class PlannedChunk(NamedTuple):
    """A chunk to apply, with the session before it."""

    session: Session
    seq: int
    request: InferRequest
    work: Work


class Advanced(NamedTuple):
    """A computed chunk, with the session after it. ``spikes`` are not stored; None if nobody asks."""

    session: Session
    spikes: Spikes | None
    ran: Ran


class Finalized(NamedTuple):
    """A session after the end of its utterance.

    Attributes:
        session: None if nothing came since the last utterance, so that nothing changes.
        reply: the reply to its last chunk, with this end.
    """

    session: Session | None
    reply: Reply


class Advance:
    """Begins sessions and applies chunks to them. Used from one event loop."""

    def __init__(self, engine: Engine, run: RunChunk, catalog: ModelCatalog, counters: Counters) -> None:
        self._engine = engine
        self._run = run
        self._catalog = catalog
        self._counters = counters

    def begin(self, envelope: Parameters, now_s: float) -> Session:
        """Make a session before its first chunk. Raises NotFound if there is no such model or version."""
        model = self._catalog.get(envelope.model, envelope.version)
        return Session(model, Known(Progress(), now_s, now_s), initial_stream(model))

    def decide(
        self,
        session_id: str,
        snapshot: Snapshot,
        request: InferRequest,
        now_s: float,
        lifetimes: Lifetimes,
        *,
        authoritative: bool,
    ) -> PlannedChunk | Replay[Kept] | Reload:
        """Decide what to do with a chunk.

        Args:
            authoritative: the snapshot is the store's own. On any other the result is Reload in place of an error.

        Raises:
            HetsynError: the chunk is not applied.
        """
        try:
            envelope, session, known = request.envelope, snapshot.session, snapshot.known
            if envelope.begin and envelope.seq is None:  # whatever was there, a damaged record too
                begun = self.begin(envelope, now_s)
                return self.plan(begun, 0, request.of(begun.model.manifest))
            if snapshot.damage is not None:
                raise snapshot.damage
            whole = request  # with what it leaves to the session's model
            if session is not None and envelope.names_a_model and status(known, now_s, lifetimes) != "none":
                session.check_model(envelope)
                whole = request.of(session.model.manifest)
            seq = 0 if envelope.seq is None and envelope.session is None else envelope.seq
            decision = decide(session_id, known, seq, whole.digest, now_s, lifetimes, authoritative=authoritative)
            if isinstance(decision, Replay | Reload):
                return decision
            if session is None or decision.seq == 0:
                session = self.begin(envelope, now_s)
                whole = request.of(session.model.manifest)
            return self.plan(session, decision.seq, whole)
        except HetsynError:
            if authoritative:
                raise
            return Reload()

    def plan(self, session: Session, seq: int, request: InferRequest) -> PlannedChunk:
        """Check that a session takes a chunk.

        Raises:
            SessionEnded: the session takes no more chunks.
            InputError, UnsupportedInput: as ``Engine.check`` and ``with_endpointing``.
        """
        stream, envelope, chunk = session.open_stream, request.envelope, request.chunk
        if envelope.endpointing is not None:
            stream = with_endpointing(session.model, stream, chunk, envelope.endpointing)
        self._engine.check(session.model, stream, chunk, spikes=envelope.spikes)
        return PlannedChunk(session, seq, request, Work(stream, chunk, envelope.end, spikes=envelope.spikes))

    def plan_all(self, sessions: Sequence[Session], requests: Sequence[InferRequest]) -> list[PlannedChunk] | None:
        """Plan the next chunks of some sessions together: ten times as fast as one by one. Errors as ``plan``.

        Returns:
            None if a request does more than go on: ``plan`` decides on each then.
        """
        envelopes, chunks, *_, completed = zip(*requests, strict=True)
        _, models, versions, seqs, begins, ends, endpointing, spikes, _ = zip(*envelopes, strict=True)
        streams, of_sessions = list(map(_stream_of, sessions)), list(map(_model_of, sessions))
        if None in streams or True in begins or True in spikes:
            return None
        if not endpointing.count(None) == completed.count(None) == len(requests):
            return None
        named = {*zip(zip(models, versions, strict=True), map(_group_of, of_sessions), strict=True)}
        if any(name not in (group, (None, None)) for name, group in named):
            return None
        if not self._engine.takes(of_sessions, streams, chunks):
            for model, stream, chunk in zip(of_sessions, streams, chunks, strict=True):
                self._engine.check(model, stream, chunk)
        works = map(_work, zip(streams, chunks, ends, repeat(False), spikes, strict=False))
        return list(map(_planned, zip(sessions, seqs, requests, works, strict=True)))

    async def apply(self, session_id: str, chunk: PlannedChunk, permit: Permit, clock: Clock) -> Advanced:
        """Compute a chunk, and wait for it. ``clock`` gives the time of use. Errors as ``Batcher.run``."""
        outcome = await self._run(chunk.session.model, chunk.work, permit.client, permit.due_s)
        (session,) = self.applied([session_id], [chunk], [outcome], clock())
        return Advanced(session, self.spikes(chunk, outcome), outcome.ran)

    def applied(
        self, session_ids: Sequence[str], chunks: Sequence[PlannedChunk], outcomes: Sequence[Outcome], now_s: float
    ) -> list[Session]:
        """Make the sessions after a chunk each, with the replies, together: five times as fast as one by one."""
        sessions, seqs, requests, _ = zip(*chunks, strict=True)
        envelopes, _, digests, *_ = zip(*requests, strict=True)
        streams, results, _ = zip(*outcomes, strict=True)
        ends, labels = list(map(_end_of, envelopes)), list(map(_label_of, results))
        replies: Iterable[Kept]
        if None in labels or True in ends:
            steps = list(map(_steps, sessions, results))
            replies = map(_kept, session_ids, chunks, steps, results)
            streams = tuple([None if end else stream for end, stream in zip(ends, streams, strict=True)])
        else:
            steps = list(map(_steps_of, results))
            probabilities = map(_bytes_of, map(_probabilities_of, results))
            replies = map(_plain_reply, zip(steps, labels, probabilities, strict=False))
        known = list(map(_known_of, sessions))
        answered = list(map(_answered, zip(seqs, digests, replies, strict=False)))
        progress = all_applied(list(map(_progress_of, known)), answered, steps, ends)
        used = map(_known, zip(progress, map(_created_of, known), repeat(now_s), strict=False))
        return list(map(_session, zip(map(_model_of, sessions), used, streams, strict=False)))

    def spikes(self, chunk: PlannedChunk, outcome: Outcome) -> Spikes | None:
        """Return the spikes of a computed chunk; None if nobody asks."""
        raster = outcome.result.raster
        if raster is None:
            return None
        session, _, request, _ = chunk
        total = session.known.progress.total_steps
        return spikes_of(session.model, request.chunk, raster, total, total + _steps(session, outcome.result))

    async def finalize(self, session_id: str, session: Session, permit: Permit, clock: Clock) -> Finalized:
        """End the utterance of a session with at least one applied chunk.

        Raises:
            SessionEnded: the session takes no more chunks.
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
        reply = finalized(from_json(session.last_reply(client_id(session_id))), result.utterance, result.heard)
        after = outcome.stream.utterances
        assert after is not None
        if after.number == stream.utterances.number:  # nothing came since the last one
            return Finalized(None, reply)
        progress = progress._replace(last=last._replace(reply=to_json(reply)))
        known = Known(progress, session.known.created_s, clock())
        return Finalized(Session(session.model, known, outcome.stream), reply)

    def count(self, before: Sequence[Session], after: Sequence[Session]) -> None:
        """Count chunks that were applied and committed."""
        counters = self._counters
        counters.chunks_applied += len(after)
        counters.steps_applied += sum(map(_total_of, after)) - sum(map(_total_of, before))
        counters.sessions_opened += list(map(_last_of, before)).count(None)
        counters.sessions_ended += list(map(_stream_of, after)).count(None)


_end_of, _label_of, _steps_of = attrgetter("end"), attrgetter("label"), attrgetter("steps")
_probabilities_of, _bytes_of = attrgetter("probabilities"), methodcaller("tobytes")
_known_of, _progress_of, _created_of = attrgetter("known"), attrgetter("progress"), attrgetter("created_s")
_model_of, _stream_of = attrgetter("model"), attrgetter("stream")
_total_of, _last_of = attrgetter("known.progress.total_steps"), attrgetter("known.progress.last")

_group_of = attrgetter("group")
_planned: Callable[[Iterable[Any]], PlannedChunk] = partial(_new, PlannedChunk)
_work: Callable[[Iterable[Any]], Work] = partial(_new, Work)
_plain_reply: Callable[[Iterable[Any]], PlainReply] = partial(_new, PlainReply)
_answered: Callable[[Iterable[Any]], Answered[Kept]] = partial(_new, Answered)
_known: Callable[[Iterable[Any]], Known[Kept]] = partial(_new, Known)
_session: Callable[[Iterable[Any]], Session] = partial(_new, Session)


def _kept(session_id: str, chunk: PlannedChunk, steps: int, result: Result) -> Kept:
    """Make the reply to a chunk in the form that its session keeps."""
    session, seq, request, _ = chunk
    end = request.envelope.end
    if result.label is not None and not end:
        return PlainReply(steps, result.label, result.probabilities.tobytes())
    return to_json(reply_of(session_id, session, seq, end, steps, result))


def _steps(session: Session, result: Result) -> int:
    """Count the network steps of a chunk: in a session with utterances, those of its input."""
    if result.utterance is None:
        return result.steps
    return max(0, result.total_steps - session.known.progress.total_steps)


def reply_of(session_id: str, session: Session, seq: int, end: bool, steps: int, result: Result) -> Reply:
    """Make the reply to a chunk. ``session`` is the session before it."""
    manifest = session.model.manifest
    has_probabilities = manifest.decision.rule != "trace" and len(result.probabilities) > 0
    label = label_of(manifest, result.probabilities) if has_probabilities and result.is_decided else None
    total_steps = session.known.progress.total_steps + steps
    said = classified(label, json_numbers(result.probabilities) if has_probabilities else None)
    brought = {"steps": steps, "total_steps": total_steps, **said}
    reply: dict[str, Any] = {**session.reply(client_id(session_id), seq, brought, end=end)}
    if result.utterance is not None:
        reply |= {"utterance": result.utterance, "events": list(result.heard)}
    if result.readout is not None:
        reply["readout"] = list(map(json_numbers, result.readout))
    return cast(Reply, reply)
