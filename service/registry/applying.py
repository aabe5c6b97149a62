"""One chunk on its way: it waits for its session's turn, is decided on, computed, committed and answered.

Nothing here waits in a task of its own, so that a chunk of a session in memory takes none: what the chunk waits for
calls it back. Only the store is awaited in a task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextvars import copy_context
from functools import partial
from itertools import groupby
from math import inf
from typing import Protocol

from service.admission.permits import Permit, waited_too_long
from service.admission.uploads import shutting_down
from service.batching.batcher import Batcher
from service.batching.estimates import Item
from service.engine.work import Outcome
from service.errors import RETRY_S, HetsynError, StoreUnavailable, forget_frames
from service.keys.ids import inner_id, new_id
from service.models.model import Model
from service.observe.context import SESSION
from service.observe.counters import Counters
from service.observe.drops import Drop
from service.observe.timings import Transport
from service.observe.watch import Watch
from service.registry.commits import MAX_ATTEMPTS, contended
from service.registry.entry import SessionEntry
from service.registry.table import SessionTable
from service.registry.together import Answered, NotApplied
from service.session.advance import Advance, Advanced, PlannedChunk
from service.session.protocol import Reload, Replay, decide, is_next, status
from service.session.session import Kept
from service.session.snapshot import ABSENT, Snapshot
from service.wire.answer import Answer, more_of
from service.wire.schema import InferRequest

log = logging.getLogger("hetsyn.sessions")


class Parts(Protocol):
    """What the chunks of a server share.

    Attributes:
        sessions: the table, in this process or with a store behind it.
        advance: applies chunks.
        batcher: computes them.
        counters: count chunks and sessions.
    """

    sessions: SessionTable
    advance: Advance
    batcher: Batcher
    counters: Counters


class Applying:
    """A chunk of a session that the server stores.

    Args:
        parts: that all chunks share.
        request: with the chunk.
        permit: of the request.
        answered: called once, unless the chunk is dropped: with its answer, or with why the session is unchanged.
        has_span: it gets a span of its own, where there are any.

    Attributes:
        permit: see above.
        session: id of the session.
        is_over: it was answered or dropped.
    """

    is_over = False
    _attempt = _failures = 0
    _entry: SessionEntry  # since it began
    _snapshot = ABSENT
    _plan: PlannedChunk  # since it was decided on
    _item: Item | None = None
    _late: asyncio.TimerHandle | None = None
    _loading: asyncio.Task[None] | None = None
    _is_committing = _is_gone = False

    def __init__(
        self, parts: Parts, request: InferRequest, permit: Permit, answered: Answered, *, has_span: bool = True
    ) -> None:
        self._parts = parts
        self._request = request
        self.permit = permit
        self._answered = answered
        self._watch = Watch(permit.came_s)
        self._may_begin = request.envelope.may_begin
        self._context = copy_context() if has_span and parts.counters.timings.tracer is not None else None
        named = request.envelope.session
        if named is None or request.owner:
            named = request.session or inner_id(request.owner, new_id())
        self.session = named
        if self._context is not None:
            self._context.run(SESSION.set, named)

    def begin(self) -> None:
        """Begin it, after the chunks of its session that began before."""
        sessions, envelope = self._parts.sessions, self._request.envelope
        try:
            if self._may_begin:
                entry = sessions.enter(self.session, self.permit.client, is_one_shot=envelope.end)
            else:
                entry = sessions.find(self.session)
        except Exception as error:
            self.is_over = True
            self._tell(error)
            return
        self._entry = entry
        if not entry.is_taken:
            entry.is_taken = True
            self._first(entry)
            return
        entry.take(self._go)
        self._failures = entry.store_failures
        if (due_s := self.permit.due_s) < inf:
            self._late = asyncio.get_running_loop().call_later(max(0.0, due_s - time.monotonic()), self._is_late)

    def drop(self) -> bool:
        """Drop the chunk, whose caller has gone; False where its commit is under way, which is finished."""
        if self.is_over:
            return True
        self._answered = _nobody
        if self._is_committing:
            self._is_gone = True
            return False
        self.is_over = True
        entry = self._entry
        if self._loading is not None:  # a task that is cancelled before it begins leaves nothing itself
            self._loading.add_done_callback(lambda _: self._leave(entry))
            self._loading.cancel()
        elif self._item is not None:
            self._parts.batcher.drop(self._item)
            self._item = None
            self._leave(entry)
        elif entry.forget(self._go):
            self._stop_timer()
            self._parts.sessions.leave(entry)
        return True  # else its turn comes at once, and passes

    def on_answer(self, answered: Answered) -> None:
        """Call another than before."""
        self._answered = answered

    def _go(self) -> None:
        """The chunk's turn has come."""
        entry = self._entry
        self._stop_timer()
        if self.is_over:
            self._leave(entry)
        elif entry.store_failures != self._failures:
            # otherwise the requests of a session would wait for a store that hangs one after the other
            self._finish(
                StoreUnavailable(
                    "the session store failed on a request before this one: nothing was changed, "
                    f"send the chunk again in {RETRY_S:g} s"
                ),
                is_own=False,
            )
        else:
            self._first(entry)

    def _is_late(self) -> None:
        entry = self._entry
        if entry.forget(self._go):
            self.is_over = True
            self._parts.sessions.leave(entry)
            self._tell(waited_too_long())

    def _stop_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _first(self, entry: SessionEntry) -> None:
        """Decide on what this process knows of the session."""
        sessions, (envelope, *_) = self._parts.sessions, self._request
        known = sessions.cached(entry, may_be_first=self._may_begin)
        if known is None:
            self._load()
            return
        snapshot, authoritative = known
        session = snapshot[1]
        if (
            session is not None
            and envelope.seq is not None
            and not envelope.begin
            and envelope.model in (None, session.model.name)
            and envelope.version in (None, session.model.version)
            and self._request.completed is None
            and is_next(session.known, envelope.seq, sessions.clock(), sessions.lifetimes)
        ):
            try:
                self._compute(snapshot, self._parts.advance.plan(session, envelope.seq, self._request))
            except Exception as error:
                self._finish(error) if authoritative else self._load()
        else:
            self._decide(entry, snapshot, authoritative)

    def _load(self) -> None:
        """Decide on the store's record."""
        self._loading = asyncio.get_running_loop().create_task(self._loaded())

    async def _loaded(self) -> None:
        entry, sessions = self._entry, self._parts.sessions
        try:
            snapshot = await sessions.latest(entry)
        except Exception as error:
            self._finish(error)
            return
        finally:
            self._loading = None
        if self._attempt and self._snapshot.session is not None and snapshot.is_empty:
            self._parts.counters.dropped(Drop(entry.id, "missing"))
        self._decide(entry, snapshot, authoritative=True)

    def _decide(self, entry: SessionEntry, snapshot: Snapshot, authoritative: bool) -> None:
        self._snapshot = snapshot
        try:
            decision = self._decision(entry, snapshot, authoritative)
            if isinstance(decision, PlannedChunk):
                self._compute(snapshot, decision)
                return
        except Exception as error:
            self._finish(error)
            return
        if isinstance(decision, Replay):
            self._parts.counters.chunks_replayed += 1
            session = snapshot.session
            assert session is not None
            self._finish(Answer(session.last_reply(entry.id), self._watch, more_of(self._request.envelope)))
        else:
            self._again(entry)

    def _compute(self, snapshot: Snapshot, plan: PlannedChunk) -> None:
        self._snapshot, self._plan = snapshot, plan
        permit = self.permit
        self._item = self._parts.batcher.submit(
            plan[0][0], plan.work(self._watch), permit.client, permit.due_s, self, computed
        )

    def _again(self, entry: SessionEntry) -> None:
        """Decide again: on the store's record, which another process may have changed."""
        self._attempt += 1
        if self._attempt < MAX_ATTEMPTS:
            self._load()
        else:
            self._finish(contended(entry.id))

    def _decision(
        self, entry: SessionEntry, snapshot: Snapshot, authoritative: bool
    ) -> PlannedChunk | Replay[Kept] | Reload:
        """Decide what to do with the chunk.

        Args:
            entry: of the session.
            snapshot: the session to decide on.
            authoritative: the snapshot is the store's own. On any other the result is Reload in place of an error.

        Raises:
            HetsynError: the chunk is not applied.
        """
        sessions, advance, request = self._parts.sessions, self._parts.advance, self._request
        try:
            envelope, session, known = request.envelope, snapshot.session, snapshot.known
            now_s, lifetimes = sessions.clock(), sessions.lifetimes
            if envelope.begin and envelope.seq is None:  # whatever was there, a damaged record too
                begun = advance.begin(envelope, now_s)
                return advance.plan(begun, 0, request.of(begun.model.manifest))
            if snapshot.damage is not None:
                raise snapshot.damage
            whole = request  # with what it leaves to the session's model
            if session is not None and envelope.names_a_model and status(known, now_s, lifetimes) != "none":
                session.check_model(envelope)
                whole = request.of(session.model.manifest)
            seq = 0 if envelope.seq is None and envelope.session is None else envelope.seq
            decision = decide(entry.id, known, seq, whole.digest, now_s, lifetimes, authoritative=authoritative)
            if isinstance(decision, Replay | Reload):
                return decision
            if session is None or decision.seq == 0:
                session = advance.begin(envelope, now_s)
                whole = request.of(session.model.manifest)
            return advance.plan(session, decision.seq, whole)
        except HetsynError:
            if authoritative:
                raise
            return Reload()

    def _commit(self, entry: SessionEntry, after: Advanced) -> None:
        """Commit the session to the store.

        Raises:
            KeyLimitReached: its key has as many sessions as it may.
        """
        commit = self._parts.sessions.begin_commit(entry, self._snapshot, after.session)
        self._is_committing = True
        commit.add_done_callback(partial(self._committed, after, time.perf_counter()))

    def _committed(self, after: Advanced, begun_s: float, commit: asyncio.Future[Snapshot | None]) -> None:
        entry = self._entry
        self._is_committing = False
        self._watch.store_s += time.perf_counter() - begun_s
        if commit.cancelled():  # the event loop ends
            self._finish(shutting_down())
        elif isinstance(error := commit.exception(), Exception):
            self._finish(error)
        elif (snapshot := commit.result()) is not None:
            self._parts.sessions.committed(entry, snapshot)
            _answer(self._parts, [(self, after)])
        elif self._is_gone:
            self._finish(NotApplied())
        else:
            self._again(entry)

    def _finish(self, result: Answer | Exception, *, is_own: bool = True) -> None:
        """Leave the session, and answer.

        Args:
            result: the answer, or why there is none.
            is_own: a failure of the store was met by this chunk.
        """
        entry = self._entry
        if is_own and isinstance(result, StoreUnavailable):
            entry.store_failures += 1
        self.is_over = True
        self._leave(entry)
        self._tell(result)

    def _tell(self, result: Answer | Exception) -> None:
        """Answer. Whatever goes wrong with it, the chunks that were computed together hear of theirs."""
        answered, self._answered = self._answered, _nobody  # who is told may hold the chunk: its memory is free at once
        forget_frames(result)
        try:
            answered(result)
        except Exception as error:
            log.error("a chunk could not be answered", exc_info=error)

    def _leave(self, entry: SessionEntry) -> None:
        entry.give()
        self._parts.sessions.leave(entry)


def computed(chunks: Sequence[Applying], outcomes: Sequence[Outcome | Exception]) -> None:
    """Go on with chunks that were computed together: commit all, then answer all.

    Args:
        chunks: of one server.
        outcomes: of each.
    """
    parts = chunks[0]._parts
    sessions, applied = parts.sessions, parts.advance.applied
    stores, now_s = sessions.store is not None, sessions.clock()
    kept: list[tuple[Applying, Advanced]] = []
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        chunk._item = None
        if isinstance(outcome, Exception):
            chunk._finish(outcome)
            continue
        try:
            after = applied(chunk.session, chunk._plan, outcome, now_s)
            if stores:
                chunk._commit(chunk._entry, after)
            else:
                sessions.put(chunk._entry, after[0])
                kept.append((chunk, after))
        except Exception as error:
            chunk._finish(error)
    if kept:
        _answer(parts, kept)


def _answer(parts: Parts, applied: Sequence[tuple[Applying, Advanced]]) -> None:
    """Count chunks that are kept, and answer them. Whatever goes wrong with it, each gets an answer."""
    try:
        _answers(parts, applied)
    except Exception as error:
        for chunk, _ in applied:
            if not chunk.is_over:
                chunk._finish(error)  # sent again, it gets its reply


def _answers(parts: Parts, applied: Sequence[tuple[Applying, Advanced]]) -> None:
    parts.advance.count([after for _, after in applied])
    timings = parts.counters.timings
    model: Model = applied[0][1].session.model  # of all
    ended_s = 0.0
    for transport, together in groupby(applied, _transport):
        ended_s = timings.applied(transport, model.name, [chunk._watch for chunk, _ in together])
    leave, tracer = parts.sessions.leave, timings.tracer
    for chunk, (session, reply, seq, _, spikes) in applied:
        watch, entry, envelope = chunk._watch, chunk._entry, chunk._request[0]
        if tracer is not None and chunk._context is not None:
            chunk._context.run(tracer.applied, chunk.permit.transport, model.name, watch, ended_s)
        more = more_of(envelope, spikes, watch) if envelope.asks_more else None
        if isinstance(reply, bytes):
            answer = Answer(reply, watch, more)
        else:
            total_steps = session[1][0][1]
            make = partial(reply.reply, chunk.session, model, seq, total_steps)
            answer = Answer(make, watch, more, (total_steps, *reply) if more is None else None)
        entry.give()
        leave(entry)
        chunk.is_over = True
        chunk._tell(answer)


def _transport(applied: tuple[Applying, Advanced]) -> Transport:
    return applied[0].permit.transport


def _nobody(_: Answer | Exception) -> None:
    """The caller has gone."""
