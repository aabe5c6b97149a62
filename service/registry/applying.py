"""The way of a chunk: it waits for its session's turn, and is decided on, computed, committed and answered.

A chunk of a session in memory needs no task: all that it waits for calls it back. Only the store is awaited in a task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby, repeat
from math import inf
from operator import attrgetter, itemgetter
from typing import Any, Protocol, cast

from hetsyn_client.results import More, Spikes
from service.admission.budget import Permit, shutting_down, waited_too_long
from service.batching.batcher import Batcher
from service.batching.estimates import Item
from service.engine.work import Outcome
from service.errors import KeyLimitReached, StoreUnavailable, forget_frames
from service.keys.ids import inner_id, new_id
from service.observe.context import SESSION, HasContext
from service.observe.counters import Counters
from service.observe.drops import Drop
from service.observe.watch import Watch
from service.registry.commits import MAX_ATTEMPTS, contended
from service.registry.entries import SessionEntry, store_failed
from service.registry.table import SessionTable
from service.session.advance import Advance, PlannedChunk
from service.session.protocol import Replay, are_next
from service.session.session import Answer, Session, more_of
from service.session.snapshot import ABSENT, Snapshot
from service.wire.schema import InferRequest

log = logging.getLogger("hetsyn.sessions")


Told = Callable[[Answer | Exception], None]
"""Is called with the result of a chunk."""


class NotApplied(Exception):
    """The caller left during the commit of its chunk, and another process was faster."""


class Parts(Protocol):
    """The parts of a server that its chunks share."""

    sessions: SessionTable
    advance: Advance
    batcher: Batcher
    counters: Counters


class Applying(Item):
    """A chunk of a session that the server stores.

    Args:
        parts: shared by all chunks.
        told: called once, unless the chunk is dropped: with the answer, or with the error that left the session
            unchanged. It may be replaced.

    Attributes:
        request: set before ``begin``.
        session: id of the session; empty before ``begin``.
        is_over: it was answered or dropped.
        snapshot, planned: the snapshot that it was decided on, and the decision.
        store_s: seconds of its commits.
        request_context: has its request's context, for its span; None if a frame has one for all.
        has_own_permit: it gives back its permit with its answer; a frame's chunks share one.
    """

    is_over = False
    session = ""
    snapshot = ABSENT
    store_s = 0.0
    has_own_permit = False
    request_context: HasContext | None = None
    request: InferRequest
    planned: PlannedChunk
    _may_begin: bool
    _entry: SessionEntry | None = None  # after ``enter``
    _attempt = _failures = 0
    _late: asyncio.TimerHandle | None = None
    _loading: asyncio.Task[None] | None = None
    _commit_of: tuple[Session, float] | None = None  # the session of a commit that has begun, and when
    _is_gone = _is_over_limit = False
    _spikes: Spikes | None = None

    def __init__(self, parts: Parts, permit: Permit, told: Told) -> None:
        self.permit = permit
        self.told = told
        self._parts = parts

    def enter(self) -> bool:
        """Enter its session, after earlier chunks. Returns whether it holds the session now."""
        request, permit, sessions = self.request, self.permit, self._parts.sessions
        envelope = request.envelope
        self.client, self.due_s = permit.client, permit.due_s
        named = envelope.session
        self._may_begin = may_begin = named is None or envelope.seq == 0 or envelope.begin
        if named is None or request.owner:
            named = request.session or inner_id(request.owner, new_id())
        self.session = named
        try:
            if may_begin:
                entry = sessions.enter(named, permit.client, is_one_shot=envelope.end)
            else:
                entry = sessions.find(named, permit.client)
        except Exception as error:
            self._refuse(error)
            return False
        self._entry = entry
        if not entry.is_taken:
            entry.is_taken = True
            return True
        entry.take(self._go)
        self._failures = entry.store_failures
        if (due_s := self.due_s) < inf:
            self._late = asyncio.get_running_loop().call_later(max(0.0, due_s - time.monotonic()), self._is_late)
        return False

    def drop(self) -> bool:
        """Drop the chunk, because its caller has gone. Returns False if its commit has begun, which is finished."""
        if self.is_over:
            return True
        self.told = _nobody
        if self._commit_of is not None:
            self._is_gone = True
            return False
        self.is_over = True
        entry = self._entry
        if entry is None:
            return True
        if self._loading is not None:  # a task that is cancelled before it begins does not clean up
            self._loading.add_done_callback(lambda _: self._leave(entry))
            self._loading.cancel()
        elif self.is_computed:
            self._parts.batcher.drop(self)
            self._leave(entry)
        elif entry.forget(self._go):
            self._stop_timer()
            self._parts.sessions.leave(entry)
        return True  # else its turn comes at once, and is passed on

    def _go(self) -> None:
        """Go on: the chunk's turn has come."""
        entry = self._entered
        self._stop_timer()
        if self.is_over:
            self._leave(entry)
        elif entry.store_failures != self._failures:
            self._finish(store_failed(), is_own=False)
        elif self._first():
            _compute([self])

    @property
    def _entered(self) -> SessionEntry:
        assert self._entry is not None
        return self._entry

    def _is_late(self) -> None:
        entry = self._entered
        if entry.forget(self._go):
            self._parts.sessions.leave(entry)
            self._refuse(waited_too_long())

    def _stop_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _first(self) -> bool:
        """Decide on this process's knowledge of the session. Returns whether to compute the chunk."""
        entry = self._entered
        known = self._parts.sessions.cached(entry, may_be_first=self._may_begin)
        if known is None:
            self._load()
            return False
        snapshot, authoritative = known
        return self._decide(entry, snapshot, self._parts.sessions.clock(), authoritative)

    def _load(self) -> None:
        """Decide on the store's record."""
        context = None if self.request_context is None else self.request_context.context
        self._loading = asyncio.get_running_loop().create_task(self._loaded(), context=context)

    async def _loaded(self) -> None:
        entry, sessions = self._entered, self._parts.sessions
        SESSION.set(self.session)
        try:
            if self._is_over_limit:
                await sessions.recount(entry)
            asked_s = sessions.clock()  # what expires meanwhile may have gone on elsewhere
            snapshot = await sessions.latest(entry)
        except Exception as error:
            self._finish(error)
            return
        finally:
            self._loading = None
        if self._attempt and self.snapshot.session is not None and snapshot.is_empty:
            self._parts.counters.dropped(Drop(entry.id, "missing"))
        if self._decide(entry, snapshot, asked_s, authoritative=True):
            _compute([self])

    def _decide(self, entry: SessionEntry, snapshot: Snapshot, now_s: float, authoritative: bool) -> bool:
        """Decide by the protocol, as of a time. Returns whether to compute the chunk."""
        self.snapshot, parts, sessions = snapshot, self._parts, self._parts.sessions
        try:
            decision = parts.advance.decide(
                entry.id, snapshot, self.request, now_s, sessions.lifetimes, authoritative=authoritative
            )
            if isinstance(decision, PlannedChunk):
                self.planned = decision
                return True
        except Exception as error:
            self._finish(error)
            return False
        if isinstance(decision, Replay):
            parts.counters.chunks_replayed += 1
            session = snapshot.session
            assert session is not None
            watch = Watch(self.permit.came_s, self.ran, self.store_s)
            self._finish(Answer(entry.client_id, session, watch, more_of(self.request.envelope)))
        else:
            self._again(entry)
        return False

    def _again(self, entry: SessionEntry) -> None:
        """Decide again on the store's record, which another process may have changed."""
        self._attempt += 1
        if self._attempt < MAX_ATTEMPTS:
            self._load()
        else:
            self._finish(contended(entry.id))

    def _commit(self, session: Session, begun_s: float) -> None:
        """Commit the session to the store.

        Raises:
            KeyLimitReached: its key has reached its limit of sessions, also by the store's records.
        """
        try:
            self._parts.sessions.begin_commit(self._entered, self.snapshot, session, self, _go_on)
        except KeyLimitReached:
            if self._is_over_limit:
                raise
            self._is_over_limit = True
            self._again(self._entered)
            return
        self._commit_of = session, begun_s

    def _finish(self, result: Answer | Exception, *, is_own: bool = True) -> None:
        """Leave the session, and answer. ``is_own``: this chunk itself met the store's failure."""
        entry = self._entered
        if is_own and isinstance(result, StoreUnavailable):
            entry.store_failures += 1
        self.is_over = True
        self._leave(entry)
        self._tell(result)

    def _refuse(self, error: Exception) -> None:
        """Answer with an error, without the session."""
        self.is_over = True
        self._tell(error)

    def _tell(self, result: Answer | Exception) -> None:
        """Answer. An error in it does not keep others, computed together, from their answers."""
        if self.has_own_permit:
            self.permit.give_back()
        if isinstance(result, Exception):
            forget_frames(result)
        told, self.told = self.told, _nobody  # the function may hold the chunk: free its memory now
        try:
            told(result)
        except Exception as error:
            log.error("a chunk could not be answered", exc_info=error)

    def _leave(self, entry: SessionEntry) -> None:
        self._parts.sessions.release([entry])

    @staticmethod
    def done(items: Sequence[Applying], outcomes: Sequence[Outcome | Exception]) -> None:
        """Keep all that were computed, then answer all. A chunk that fails gets its own error."""
        if set(map(type, outcomes)) != {Outcome}:
            for chunk, outcome in zip(items, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    chunk._finish(outcome)
            both = [pair for pair in zip(items, outcomes, strict=True) if isinstance(pair[1], Outcome)]
            if not both:
                return
            items, outcomes = zip(*both, strict=True)
        _keep(items, cast("Sequence[Outcome]", outcomes))


def begin(chunks: Sequence[Applying]) -> None:
    """Begin chunks that came together, each after the chunks of its session that began before."""
    ready = [chunk for chunk in chunks if chunk.enter()]
    if ready and not _are_next(ready):
        ready = [chunk for chunk in ready if chunk._first()]
    if any(map(_is_over, ready)):  # a caller that got one result has dropped another chunk
        for chunk in ready:
            if chunk.is_over:
                chunk._leave(chunk._entered)
        ready = [chunk for chunk in ready if not chunk.is_over]
    if ready:
        _compute(ready)


def _are_next(chunks: Sequence[Applying]) -> bool:
    """Decide on all chunks at once, if each is the next one of a session that is in memory: the usual case."""
    snapshots = list(map(_snapshot_of, chunks))
    if None in snapshots:
        return False
    sessions = list(map(_session_in, snapshots))
    if None in sessions:
        return False
    parts, requests = chunks[0]._parts, list(map(_request_of, chunks))
    table, seqs = parts.sessions, list(map(_seq_of, requests))
    if not are_next(list(map(_known_of, sessions)), seqs, table.clock(), table.lifetimes):
        return False
    try:
        planned = parts.advance.plan_all(sessions, requests)
    except Exception:  # ``_first`` finds the chunk that causes it
        return False
    if planned is None:
        return False
    for chunk, snapshot, plan in zip(chunks, snapshots, planned, strict=True):
        chunk.snapshot, chunk.planned = snapshot, plan
    return True


def _compute(chunks: Sequence[Applying]) -> None:
    """Compute chunks that were decided on. A chunk that cannot be computed gets its own error."""
    planned = list(map(_planned_of, chunks))
    try:
        chunks[0]._parts.batcher.submit(chunks, list(map(_model_of, planned)), list(map(_work_of, planned)))
    except Exception as error:
        if len(chunks) == 1:
            chunks[0]._finish(error)
            return
        for chunk in chunks:
            _compute([chunk])


def _keep(chunks: Sequence[Applying], outcomes: Sequence[Outcome]) -> None:
    """Store the sessions of chunks that were computed together. A chunk that fails gets its own error."""
    parts = chunks[0]._parts
    sessions = parts.sessions
    planned = list(map(_planned_of, chunks))
    try:
        after = parts.advance.applied(list(map(_session_of, chunks)), planned, outcomes, sessions.clock())
        if list(map(_raster_of, outcomes)).count(None) < len(outcomes):  # the spikes of silence are an empty tuple
            for chunk, outcome in zip(chunks, outcomes, strict=True):
                chunk._spikes = parts.advance.spikes(chunk.planned, outcome)
    except Exception as error:
        if len(chunks) == 1:
            chunks[0]._finish(error)
            return
        for chunk, outcome in zip(chunks, outcomes, strict=True):
            _keep([chunk], [outcome])
        return
    stores, begun_s = sessions.store is not None, time.perf_counter()
    stored: list[tuple[Applying, Session]] = []
    for chunk, entry, session in zip(chunks, map(_entry_of, chunks), after, strict=True):
        try:
            if stores:
                chunk._commit(session, begun_s)
            else:
                sessions.put(entry, session)
                stored.append((chunk, session))
        except Exception as error:
            chunk._finish(error)
    if stored:
        _answer(parts, *zip(*stored, strict=True))


def _go_on(chunks: Sequence[Applying], results: Sequence[Snapshot | BaseException | None]) -> None:
    """Answer the chunks whose commits have ended, those of a model together. A chunk that fails gets its own error."""
    parts, ended_s = chunks[0]._parts, time.perf_counter()
    stored: list[tuple[Applying, Session]] = []
    for chunk, result in zip(chunks, results, strict=True):
        assert chunk._commit_of is not None
        session, begun_s = chunk._commit_of
        chunk._commit_of = None
        chunk.store_s += ended_s - begun_s
        try:
            if isinstance(result, Snapshot):
                parts.sessions.committed(chunk._entered, result)
                stored.append((chunk, session))
            elif result is not None:
                chunk._finish(result if isinstance(result, Exception) else shutting_down())  # else the event loop ends
            elif chunk._is_gone:
                chunk._finish(NotApplied())
            else:
                chunk._again(chunk._entered)
        except Exception as error:
            chunk._finish(error)
    for _, together in groupby(stored, lambda one: one[1].model):
        _answer(parts, *zip(*together, strict=True))


def _answer(parts: Parts, chunks: Sequence[Applying], after: Sequence[Session]) -> None:
    """Count stored chunks, and answer them. Each gets an answer, whatever goes wrong."""
    try:
        parts.advance.count(list(map(_before_of, chunks)), after)
        timings = parts.counters.timings
        model = after[0].model  # all have the same
        watches = list(
            map(_watch, zip(map(_came_of, chunks), map(_ran_of, chunks), map(_store_of, chunks), strict=True))
        )
        ended_s = 0.0
        for transport, together in groupby(zip(map(_transport_of, chunks), watches, strict=True), itemgetter(0)):
            ended_s = timings.applied(transport, model.name, [watch for _, watch in together])
        envelopes = list(map(_envelope_of, chunks))
        mores: Iterable[More | None] = repeat(None)
        if True in map(_asks_spikes, envelopes) or True in map(_asks_timing, envelopes):
            mores = map(more_of, envelopes, map(_spikes_of, chunks), watches)
        rest = repeat(False), repeat(None)
        answers = list(map(_made, zip(map(_client_id_of, chunks), after, watches, mores, *rest, strict=False)))
        if timings.tracer is not None:
            for chunk, watch in zip(chunks, watches, strict=True):
                if chunk.request_context is not None:
                    context = chunk.request_context.context
                    context.run(SESSION.set, chunk.session)
                    context.run(timings.tracer.applied, chunk.permit.transport, model.name, watch, ended_s)
        parts.sessions.release(list(map(_entry_of, chunks)))  # nothing fails from here on
        for chunk, answer in zip(chunks, answers, strict=True):
            chunk.is_over = True
            chunk._tell(answer)
    except Exception as error:
        for chunk in chunks:
            if not chunk.is_over:
                chunk._finish(error)  # when it is sent again, it gets its reply


_is_over, _planned_of, _session_of = attrgetter("is_over"), attrgetter("planned"), attrgetter("session")
_snapshot_of, _entry_of, _request_of = attrgetter("_entry.snapshot"), attrgetter("_entry"), attrgetter("request")
_session_in, _known_of, _seq_of = attrgetter("session"), attrgetter("known"), attrgetter("envelope.seq")
_model_of, _work_of, _before_of = attrgetter("session.model"), attrgetter("work"), attrgetter("planned.session")
_raster_of = attrgetter("result.raster")
_client_id_of = attrgetter("_entry.client_id")
_came_of, _transport_of = attrgetter("permit.came_s"), attrgetter("permit.transport")
_ran_of, _store_of, _spikes_of = attrgetter("ran"), attrgetter("store_s"), attrgetter("_spikes")
_envelope_of = attrgetter("request.envelope")
_asks_spikes, _asks_timing = attrgetter("spikes"), attrgetter("timing")
_watch: Callable[[Iterable[Any]], Watch] = partial(tuple.__new__, Watch)
_made: Callable[[Iterable[Any]], Answer] = partial(tuple.__new__, Answer)


def _nobody(_: Answer | Exception) -> None:
    """Ignore an answer: the caller has gone."""
