"""One chunk on its way: it waits for its session's turn, is decided on, computed, committed and answered.

Nothing here waits in a task of its own, so that a chunk of a session in memory takes none: what the chunk waits for
calls it back. Only the store is awaited in a task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Protocol

from service.admission.permits import Permit, waited_too_long
from service.admission.uploads import shutting_down
from service.batching.batcher import Batcher
from service.batching.estimates import Item
from service.engine.work import Outcome
from service.errors import RETRY_S, HetsynError, StoreUnavailable
from service.keys.ids import inner_id, new_id
from service.observe.counters import Counters
from service.observe.drops import Drop
from service.observe.watch import Watch
from service.registry.commits import MAX_ATTEMPTS, contended
from service.registry.table import SessionEntry, SessionTable
from service.session.advance import Advance, Advanced, PlannedChunk
from service.session.protocol import Reload, Replay, decide, status
from service.session.snapshot import ABSENT, Snapshot
from service.wire.answer import Answer, more_of
from service.wire.schema import InferRequest

Answered = Callable[[Answer | Exception], None]


class NotApplied(Exception):
    """The caller went while the chunk was committed, and another process was faster."""


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

    Attributes:
        session: id of the session.
        is_over: it was answered or dropped.
    """

    __slots__ = (
        "_answered", "_attempt", "_entry", "_failures", "_is_committing", "_is_gone", "_item", "_late", "_loading",
        "_parts", "_permit", "_plan", "_request", "_snapshot", "_watch", "is_over", "session",
    )  # fmt: skip

    def __init__(self, parts: Parts, request: InferRequest, permit: Permit, answered: Answered) -> None:
        self._parts = parts
        self._request = request
        self._permit = permit
        self._answered = answered
        self._attempt = 0
        self._failures = 0
        self._entry: SessionEntry | None = None
        self._snapshot = ABSENT
        self._plan: PlannedChunk | None = None
        self._item: Item | None = None
        self._late: asyncio.TimerHandle | None = None
        self._loading: asyncio.Task[None] | None = None
        self._watch = Watch(permit.came_s)
        self._is_committing = self._is_gone = False
        self.is_over = False
        self.session = request.session or inner_id(request.owner, new_id())

    def begin(self) -> None:
        """Begin it, after the chunks of its session that began before."""
        sessions, envelope = self._parts.sessions, self._request.envelope
        try:
            if envelope.may_begin:
                entry = sessions.enter(self.session, self._permit.client, is_one_shot=envelope.end)
            else:
                entry = sessions.find(self.session)
        except HetsynError as error:
            self.is_over = True
            self._answered(error)
            return
        self._entry = entry
        if entry.take(self._go):
            self._first(entry)
            return
        self._failures = entry.store_failures
        if (due_s := self._permit.due_s) < inf:
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
        assert entry is not None
        if self._loading is not None:
            self._loading.cancel()  # it leaves the session
        elif self._item is not None:
            self._parts.batcher.drop(self._item)
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
        assert entry is not None
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
        assert entry is not None
        if entry.forget(self._go):
            self.is_over = True
            self._parts.sessions.leave(entry)
            self._answered(waited_too_long())

    def _stop_timer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _first(self, entry: SessionEntry) -> None:
        """Decide on what this process knows of the session."""
        known = self._parts.sessions.cached(entry, may_be_first=self._request.envelope.may_begin)
        if known is None:
            self._load()
        else:
            self._decide(entry, *known)

    def _load(self) -> None:
        """Decide on the store's record."""
        self._loading = asyncio.get_running_loop().create_task(self._loaded())

    async def _loaded(self) -> None:
        entry, sessions = self._entry, self._parts.sessions
        assert entry is not None
        try:
            snapshot = await sessions.latest(entry)
        except asyncio.CancelledError:
            self._leave(entry)
            raise
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
                self._plan = decision
                model, permit = decision.session.model, self._permit
                work = decision.work(self._watch)
                self._item = self._parts.batcher.submit(model, work, permit.client, permit.due_s, self._computed)
                return
        except Exception as error:
            self._finish(error)
            return
        if isinstance(decision, Replay):
            self._parts.counters.chunks_replayed += 1
            self._finish(Answer(decision.reply, self._watch, more=more_of(self._request.envelope)))
        else:
            self._again(entry)

    def _again(self, entry: SessionEntry) -> None:
        """Decide again: on the store's record, which another process may have changed."""
        self._attempt += 1
        if self._attempt < MAX_ATTEMPTS:
            self._load()
        else:
            self._finish(contended(entry.id))

    def _decision(
        self, entry: SessionEntry, snapshot: Snapshot, authoritative: bool
    ) -> PlannedChunk | Replay[bytes] | Reload:
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
            now_s, lifetimes = sessions.clock(), sessions.decision_lifetimes
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

    def _computed(self, outcome: Outcome | Exception) -> None:
        entry, plan, sessions = self._entry, self._plan, self._parts.sessions
        assert entry is not None
        assert plan is not None
        self._item = None
        if isinstance(outcome, Exception):
            self._finish(outcome)
            return
        try:
            after = self._parts.advance.applied(entry.id, plan, outcome, sessions.clock)
            if not sessions.stores_state:
                sessions.put(entry, after.session)
        except Exception as error:
            self._finish(error)
            return
        if not sessions.stores_state:
            self._applied(after)
            return
        self._is_committing = True
        commit = asyncio.get_running_loop().create_task(sessions.commit(entry, self._snapshot, after.session))
        commit.add_done_callback(partial(self._committed, after, time.perf_counter()))

    def _committed(self, after: Advanced, begun_s: float, commit: asyncio.Task[bool]) -> None:
        entry = self._entry
        assert entry is not None
        self._is_committing = False
        self._watch.store_s += time.perf_counter() - begun_s
        if commit.cancelled():  # the event loop ends
            self._finish(shutting_down())
        elif (error := commit.exception()) is not None:
            self._finish(error)
        elif commit.result():
            self._applied(after)
        elif self._is_gone:
            self._finish(NotApplied())
        else:
            self._again(entry)

    def _applied(self, after: Advanced) -> None:
        parts, watch = self._parts, self._watch
        parts.advance.count(after)
        parts.counters.timings.applied(self._permit.transport, after.session.model.name, watch)
        self._finish(Answer(after.kept, watch, after.reply, more_of(self._request.envelope, after.spikes, watch)))

    def _finish(self, result: Answer | Exception, *, is_own: bool = True) -> None:
        """Leave the session, and answer.

        Args:
            result: the answer, or why there is none.
            is_own: a failure of the store was met by this chunk.
        """
        entry = self._entry
        assert entry is not None
        if is_own and isinstance(result, StoreUnavailable):
            entry.store_failures += 1
        self.is_over = True
        self._leave(entry)
        self._answered(result)

    def _leave(self, entry: SessionEntry) -> None:
        entry.give()
        self._parts.sessions.leave(entry)


def _nobody(_: Answer | Exception) -> None:
    """The caller has gone."""
