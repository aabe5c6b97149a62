"""The sessions of a server: the asyncio shell around the session protocol, the engine and the session table.

A chunk is applied as a whole or not at all. If its caller disconnects, it is dropped, unless its commit is under way:
then it is applied. A retry under its number is computed, or gets the stored reply. Only ``SessionTable.commit`` changes
a session, after the engine has computed the chunk.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Generator
from contextlib import suppress
from math import inf
from typing import Any

from service.admission.permits import Permit
from service.errors import HetsynError, NotFound
from service.keys.ids import inner_id, new_id
from service.observe.counters import Counters
from service.observe.drops import Drop
from service.observe.watch import Watch
from service.registry.commits import MAX_ATTEMPTS, contended, finished
from service.registry.table import SessionEntry, SessionTable
from service.session.advance import Advance, PlannedChunk
from service.session.protocol import Reload, Replay, check_delete, decide, status
from service.session.session import Session
from service.session.snapshot import ABSENT, Snapshot
from service.wire.answer import Answer, more_of
from service.wire.schema import InferRequest, Reply

log = logging.getLogger("hetsyn.sessions")


@types.coroutine
def next_round() -> Generator[None, None, None]:
    """Let the other tasks have their turn of the event loop; ``asyncio.sleep(0)`` takes twice as long.

    So all chunks that came together are decoded, then all are decided on, and after their batch all are committed, then
    all are sent. Each part of the code does its work for all of them while the processor has it in its cache. Without
    it, a chunk takes 9% more CPU time under load (``python -m benchmarks compare``).
    """
    yield


class SessionRegistry:
    """Applies chunks to sessions, and describes and deletes sessions. Used from one event loop.

    Args:
        sessions: the table, in this process or with a store behind it.
        advance: computes a chunk.
        counters: count chunks and sessions.

    Attributes:
        sessions: see above.
    """

    def __init__(self, sessions: SessionTable, advance: Advance, counters: Counters) -> None:
        self.sessions = sessions
        self._advance = advance
        self._counters = counters

    async def infer(self, request: InferRequest, permit: Permit) -> Answer:
        """Apply a chunk to its session, after the chunks that arrived before it.

        If the caller is cancelled, the chunk is not applied. If its commit to a store is under way then, the commit is
        finished, and its outcome counts.

        Args:
            request: with the chunk.
            permit: that the caller holds.

        Raises:
            HetsynError: the session is unchanged. The message says what the client can do, unless it is an
                ArtifactError.
        """
        await next_round()
        envelope = request.envelope
        session_id = request.session or inner_id(request.owner, new_id())
        if envelope.may_begin:
            entry = self.sessions.enter(session_id, permit.client, is_one_shot=envelope.end)
        else:
            entry = self.sessions.find(session_id)
        try:
            async with entry.turn(permit.due_s):
                answer = await self._answer(entry, request, permit)
        finally:
            self.sessions.leave(entry)
        with suppress(asyncio.CancelledError):  # too late: the chunk is applied
            await next_round()
        return answer

    async def delete(self, session_id: str, due_s: float = inf) -> None:
        """Delete a session, after the chunks that arrived before. A session with a damaged record is deleted too.

        Args:
            session_id: of the session.
            due_s: when its turn has to come at the latest (``SessionEntry.turn``).

        Raises:
            NotFound: there is no such session.
            StoreUnavailable: it may have been deleted or not.
            Overloaded: other processes keep changing the session, or the turn did not come in time.
        """
        sessions = self.sessions
        with sessions.visit(session_id) as entry:
            async with entry.turn(due_s):
                for _ in range(MAX_ATTEMPTS):
                    snapshot = await sessions.latest(entry)
                    if snapshot.damage is None:
                        check_delete(session_id, snapshot.known, sessions.clock(), sessions.decision_lifetimes)
                    if await finished(sessions.remove(entry, snapshot)):
                        self._counters.sessions_deleted += 1
                        return
                raise contended(session_id)

    async def describe(self, session_id: str, due_s: float = inf) -> dict[str, Any]:
        """Describe a session as JSON values, after the chunks that arrived before.

        Args:
            session_id: of the session.
            due_s: as of ``delete``.

        Raises:
            NotFound: there is no such session.
            StoreUnavailable: the store does not answer.
            StateError: the stored record cannot be used.
            Overloaded: the turn did not come in time.
        """
        with self.sessions.visit(session_id) as entry:
            async with entry.turn(due_s):
                return self.sessions.description(entry.id, await self.sessions.existing(entry))

    async def delete_if_any(self, session_id: str, due_s: float = inf) -> None:
        """``delete``, where there may be no such session any more."""
        with suppress(NotFound):
            await self.delete(session_id, due_s)

    async def probe(self, request: InferRequest, due_s: float = inf) -> tuple[Session, bool]:
        """The session that a chunk would go on with, after the chunks that arrived before. Nothing is applied.

        Args:
            request: such a chunk, of a session with an id; its number does not matter.
            due_s: as of ``delete``.

        Returns:
            The session, and whether it has begun; otherwise the one that the chunk would begin.

        Raises:
            HetsynError: the chunk would be refused, for another reason than its number.
        """
        sessions, envelope = self.sessions, request.envelope
        session: Session | None = None
        with suppress(NotFound), sessions.visit(request.session or "") as entry:
            async with entry.turn(due_s):
                session = await sessions.existing(entry)
                session.check_model(envelope)
        has_begun = session is not None
        session = session or self._advance.begin(envelope, sessions.clock())
        self._advance.plan(session, session.known.progress.expected_seq, request)
        return session, has_begun

    def offer(self, request: InferRequest) -> Session:
        """The session that a chunk of a new id would begin. Nothing is begun.

        Raises:
            HetsynError: the chunk would be refused, whatever its id.
        """
        session = self._advance.begin(request.envelope, self.sessions.clock())
        self._advance.plan(session, 0, request)
        return session

    async def finalize(self, session_id: str, permit: Permit) -> Reply | None:
        """End the utterance of a session now, after the chunks that arrived before. It changes the last chunk's reply,
        and takes no number. Repeated, it says again that nothing was heard since.

        Args:
            session_id: of the session.
            permit: that the caller holds.

        Returns:
            The last reply, at the end of whose events is the end of the utterance; None if no chunk was applied yet.

        Raises:
            HetsynError: the session is unchanged.
        """
        sessions = self.sessions
        try:
            entry = sessions.find(session_id)
        except NotFound:
            return None
        try:
            async with entry.turn(permit.due_s):
                for _ in range(MAX_ATTEMPTS):
                    snapshot = await sessions.latest(entry)
                    if snapshot.damage is not None:
                        raise snapshot.damage
                    if snapshot.session is None:
                        return None
                    check_delete(session_id, snapshot.known, sessions.clock(), sessions.decision_lifetimes)
                    finalized = await self._advance.finalize(snapshot.session, permit, sessions.clock)
                    if finalized.session is None or await self._commit(entry, snapshot, finalized.session):
                        return finalized.reply
                raise contended(session_id)
        finally:
            sessions.leave(entry)

    async def sweep_forever(self, interval_s: float) -> None:
        """Sweep the table at an interval, until cancelled."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.sessions.sweep_slowly(interval_s)
            except Exception as error:
                log.error("a sweep failed", exc_info=error)

    async def _answer(self, entry: SessionEntry, request: InferRequest, permit: Permit) -> Answer:
        sessions, envelope = self.sessions, request.envelope
        watch = Watch(permit.came_s)
        is_timed = envelope.timing or sessions.stores_state
        snapshot = ABSENT
        for attempt in range(MAX_ATTEMPTS):
            if attempt:  # another process has changed the session: decide again on its latest snapshot
                was_there = snapshot.session is not None
                snapshot, authoritative = await sessions.latest(entry), True
                if was_there and snapshot.is_empty:
                    self._counters.dropped(Drop(entry.id, "missing"))
            else:
                snapshot, authoritative = await sessions.current(entry, may_be_first=envelope.may_begin)
            decision = self._decide(entry, snapshot, request, authoritative)
            if isinstance(decision, Replay):
                self._counters.chunks_replayed += 1
                return Answer(decision.reply, watch, more=more_of(envelope))
            if isinstance(decision, PlannedChunk):
                after = await self._advance.apply(entry.id, decision, permit, sessions.clock, watch=watch)
                committing = self._commit(entry, snapshot, after.session)
                if await (watch.stored(committing) if is_timed else committing):
                    self._advance.count(after)
                    self._counters.timings.applied(permit.transport, after.session.model.name, watch)
                    return Answer(after.kept, watch, after.reply, more_of(envelope, after.spikes, watch))
        raise contended(entry.id)

    async def _commit(self, entry: SessionEntry, snapshot: Snapshot, session: Session) -> bool:
        commit = self.sessions.commit(entry, snapshot, session)
        return await (finished(commit) if self.sessions.stores_state else commit)  # else it waits for nothing

    def _decide(
        self, entry: SessionEntry, snapshot: Snapshot, request: InferRequest, authoritative: bool
    ) -> PlannedChunk | Replay[bytes] | Reload:
        """Decide what to do with a chunk.

        Args:
            entry: of the session.
            snapshot: the session to decide on.
            request: with the chunk.
            authoritative: the snapshot is the store's own. On any other the result is Reload in place of an error.

        Raises:
            HetsynError: the chunk is not applied.
        """
        try:
            envelope, session, known = request.envelope, snapshot.session, snapshot.known
            now_s, lifetimes = self.sessions.clock(), self.sessions.decision_lifetimes
            if envelope.begin and envelope.seq is None:  # whatever was there, a damaged record too
                begun = self._advance.begin(envelope, now_s)
                return self._advance.plan(begun, 0, request.of(begun.model.manifest))
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
                session = self._advance.begin(envelope, now_s)
                whole = request.of(session.model.manifest)
            return self._advance.plan(session, decision.seq, whole)
        except HetsynError:
            if authoritative:
                raise
            return Reload()
